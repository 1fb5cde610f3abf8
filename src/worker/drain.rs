//! Whether the worker serves or drains, until when, and when it may exit. Pure.

use crate::io::Instant;
use std::time::Duration;

/// How a worker without a master finishes: what runs gets this long. Everybody is to be gone within
/// a second of the master's death.
pub const ORPHAN: Duration = Duration::from_millis(750);

/// The life of a worker after READY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drain {
    /// It takes connections and keeps them alive.
    #[default]
    Serving,
    /// It finishes what runs; at the deadline the rest is cut.
    Until(Instant),
    /// The deadline has passed: everything is being closed.
    Cutting,
}

/// What follows from a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing new.
    Nothing,
    /// Begin: take nothing new, tell every connection.
    Begin,
    /// Close all that is left.
    Cut,
}

impl Drain {
    /// The master asks for it, or is gone. A second request can only shorten the time.
    pub fn request(&mut self, now: Instant, time: Duration) -> Step {
        let deadline = now.after(time);
        match self {
            Self::Serving => {
                *self = Self::Until(deadline);
                Step::Begin
            }
            Self::Until(before) => {
                *before = deadline.min(*before);
                Step::Nothing
            }
            Self::Cutting => Step::Nothing,
        }
    }

    /// Time passes.
    pub fn expire(&mut self, now: Instant) -> Step {
        match *self {
            Self::Until(deadline) if deadline <= now => {
                *self = Self::Cutting;
                Step::Cut
            }
            Self::Serving | Self::Until(_) | Self::Cutting => Step::Nothing,
        }
    }

    /// When to call `expire`.
    #[must_use]
    pub fn deadline(self) -> Option<Instant> {
        match self {
            Self::Until(deadline) => Some(deadline),
            Self::Serving | Self::Cutting => None,
        }
    }

    /// Whether new connections and further requests are welcome.
    #[must_use]
    pub fn is_serving(self) -> bool {
        self == Self::Serving
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_request_never_gives_more_time() {
        let at = |secs: u64| Instant::from_nanos(secs * 1_000_000_000);
        let mut drain = Drain::default();
        assert_eq!(drain.request(at(1), Duration::from_secs(30)), Step::Begin);
        assert_eq!(drain.request(at(2), Duration::from_secs(60)), Step::Nothing);
        assert_eq!(drain.deadline(), Some(at(31)));
        assert_eq!(drain.request(at(3), ORPHAN), Step::Nothing);
        assert_eq!(drain.expire(at(3)), Step::Nothing);
        assert_eq!(drain.expire(at(4)), Step::Cut);
        assert_eq!(drain.expire(at(5)), Step::Nothing);
    }
}
