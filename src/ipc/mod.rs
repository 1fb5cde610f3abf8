//! The wire between master and worker: handoff and control messages on a SEQPACKET channel,
//! application messages on a stream, counters on a shared board. Pure.

pub mod board;
pub mod frame;
pub mod handoff;
pub mod mail;
pub mod manifest;
pub mod message;
pub mod metadata;

use crate::error::{Error, ErrorKind};
pub use serde_json::{Map, Value, json};
use std::fmt;

/// Why bytes of a channel are not a message. The channel is not to be trusted after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// A first byte that begins no kind of message.
    Kind(u8),
    /// A version of the layout that this build does not read.
    Version(u8),
    /// Bytes that must be zero are not.
    Reserved,
    /// Shorter or longer than its header says.
    Length {
        /// Bytes there are.
        got: usize,
        /// Bytes there should be.
        want: usize,
    },
    /// A count of connections outside 1 to `limit`.
    Count {
        /// What the message says.
        said: usize,
        /// Most connections in one message.
        limit: usize,
    },
    /// The descriptors that came along are not as many as the message says.
    Descriptors {
        /// What the message says.
        said: usize,
        /// How many came.
        came: usize,
    },
    /// A frame or message of no bytes.
    Empty,
    /// A frame or message above the limit (`message_max`).
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Not JSON; says what and where.
    Json(String),
    /// JSON, but not a message; says what is missing.
    Shape(&'static str),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "no message begins with byte {kind}"),
            Self::Version(version) => write!(f, "unknown version {version} of a handoff"),
            Self::Reserved => f.write_str("reserved bytes are not zero"),
            Self::Length { got, want } => write!(f, "{got} bytes where {want} are needed"),
            Self::Count { said, limit } => write!(f, "{said} connections; 1 to {limit} may be"),
            Self::Descriptors { said, came } => {
                write!(f, "{said} connections announced, {came} descriptors came")
            }
            Self::Empty => f.write_str("a message without a byte"),
            Self::TooLarge { bytes, max } => write!(f, "{bytes} bytes; at most {max} may be"),
            Self::Json(what) => write!(f, "not JSON: {what}"),
            Self::Shape(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for WireError {}

impl From<WireError> for Error {
    fn from(wrong: WireError) -> Self {
        Self::new(ErrorKind::Ipc, wrong.to_string()).because(wrong)
    }
}
