//! What is said of a worker that hangs. Pure.

use crate::io::Errno;
use crate::master::picture::Picture;
use std::fmt;

/// What becomes of a worker that hangs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hang {
    /// Others serve what it has not begun.
    Late {
        /// How many connections on their way to it they get.
        rescued: u64,
    },
    /// It turns again.
    Back,
    /// It goes on hanging: what is known of it. Next it is aborted, then killed.
    Known(Box<Picture>),
    /// It was sent ABRT, for a core dump.
    Aborted {
        /// How many connections it had not begun and others get when it is dead, or why they cannot
        /// be taken from it.
        taken: Result<u64, Errno>,
    },
}

impl Hang {
    /// As part of a sentence.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Late { .. } => "is late",
            Self::Back => "turns again",
            Self::Known(_) => "hangs",
            Self::Aborted { .. } => "aborted",
        }
    }
}

impl fmt::Display for Hang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late { rescued } => write!(f, ": given to others: {rescued}"),
            Self::Known(picture) => write!(f, " {picture}"),
            Self::Aborted { taken: Ok(count) } => write!(f, ": not begun, for others: {count}"),
            Self::Aborted { taken: Err(errno) } => {
                write!(f, ": what it has not begun cannot be taken from it: {errno}")
            }
            Self::Back => Ok(()),
        }
    }
}
