//! Channels between processes, for applications: messages on a Unix socket, and descriptors.
//!
//! [`UnixSocketChannel`] carries [`Message`]s as length-prefixed JSON, the format that
//! duyler/worker-pool uses too. [`FdPasser`] carries open descriptors with metadata. Neither ever
//! blocks unless it is asked to wait, both say when the other end has gone, and both can be watched
//! by any event loop ([`AsFd`](std::os::fd::AsFd)).
//!
//! ```
//! use ringfort::channel::{Message, Received, UnixSocketChannel};
//! use std::time::Duration;
//!
//! let path = std::env::temp_dir().join(format!("ringfort-doc-{}.sock", std::process::id()));
//! let server = UnixSocketChannel::listen(&path)?;
//! let mut client = UnixSocketChannel::connect(&path)?;
//! let mut accepted = server.accept()?.expect("it has connected");
//! client.send(&Message::worker_ready(1, ringfort::channel::timestamp()))?;
//! let received = accepted.receive_within(Duration::from_secs(1))?;
//! assert!(matches!(received, Received::Message(message) if message.slot() == Some(1)));
//! # Ok::<(), ringfort::Error>(())
//! ```

mod passer;
mod socket;

pub use crate::ipc::mail::{MasterMail, WorkerMail};
pub use crate::ipc::message::{Message, MessageType};
pub use crate::ipc::{Map, Value, json};
pub use passer::{FdPasser, Passed};
pub use socket::{ChannelListener, UnixSocketChannel};

/// What a channel has for who asks now.
#[derive(Debug, PartialEq)]
#[must_use]
pub enum Received<T> {
    /// This came.
    Message(T),
    /// Nothing came yet.
    Nothing,
    /// The other end is closed, and all that it had sent was received.
    Closed,
}

impl<T> Received<T> {
    /// What came, if something did.
    #[must_use]
    pub fn message(self) -> Option<T> {
        match self {
            Self::Message(message) => Some(message),
            Self::Nothing | Self::Closed => None,
        }
    }
}

/// Now, in seconds since 1970, as a [`Message`] wants it.
#[must_use]
pub fn timestamp() -> f64 {
    crate::sys::clock::unix_seconds()
}

#[cfg(test)]
mod tests;
