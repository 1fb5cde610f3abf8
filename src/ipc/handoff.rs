//! The header of a connection message: sequence, and the listener of each descriptor. Pure.
//!
//! Layout, little-endian: kind (1), version (1), count u16, four zero bytes, sequence u64, then one
//! u16 per descriptor. The descriptors travel beside it (SCM_RIGHTS), in the same order.

use super::WireError;
use crate::io::Batch;

const KIND: u8 = 1;
const VERSION: u8 = 1;
const HEADER: usize = 16;

/// Whether a message of the channel hands over connections; otherwise it is a control message,
/// which begins with `{`.
#[must_use]
pub fn is_handoff(bytes: &[u8]) -> bool {
    bytes.first() == Some(&KIND)
}

/// One message with connections, at most [`Batch::FDS_MAX`] of them. Without a heap: the master
/// makes one, and the worker reads one, for every batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handoff {
    /// How many connections had been handed to this worker's life before this message.
    pub sequence: u64,
    count: u16,
    listeners: [u16; Batch::FDS_MAX],
}

impl Handoff {
    /// A message without connections yet.
    #[must_use]
    pub const fn new(sequence: u64) -> Self {
        Self { sequence, count: 0, listeners: [0; Batch::FDS_MAX] }
    }

    /// Adds a connection by the index of the listener it arrived on.
    ///
    /// # Panics
    ///
    /// When the message is full ([`Handoff::is_full`]).
    pub fn push(&mut self, listener: u16) {
        assert!(!self.is_full(), "a handoff holds at most {} connections", Batch::FDS_MAX);
        self.listeners[usize::from(self.count)] = listener;
        self.count += 1;
    }

    /// Whether it holds as many connections as one message may carry.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.count as usize == Batch::FDS_MAX
    }

    /// The listener of each connection, by index into the pool's addresses.
    #[must_use]
    pub fn listeners(&self) -> &[u16] {
        &self.listeners[..usize::from(self.count)]
    }

    /// Appends the message.
    ///
    /// # Panics
    ///
    /// When it holds no connection: that would be no handoff.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        assert!(self.count > 0, "a handoff without a connection");
        bytes.reserve(HEADER + 2 * usize::from(self.count));
        bytes.extend_from_slice(&[KIND, VERSION]);
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        for listener in self.listeners() {
            bytes.extend_from_slice(&listener.to_le_bytes());
        }
    }

    /// Reads a whole message.
    ///
    /// # Errors
    ///
    /// Another kind or version, a count of 0 or above [`Batch::FDS_MAX`], reserved bytes that are
    /// not zero, or fewer or more bytes than the count asks for.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(WireError::Length { got: bytes.len(), want: HEADER });
        };
        let [kind, version, c0, c1, reserved @ .., s0, s1, s2, s3, s4, s5, s6, s7] = *header;
        if kind != KIND {
            return Err(WireError::Kind(kind));
        }
        if version != VERSION {
            return Err(WireError::Version(version));
        }
        if reserved != [0; 4] {
            return Err(WireError::Reserved);
        }
        let count = usize::from(u16::from_le_bytes([c0, c1]));
        if count == 0 || count > Batch::FDS_MAX {
            return Err(WireError::Count { said: count, limit: Batch::FDS_MAX });
        }
        if rest.len() != 2 * count {
            return Err(WireError::Length { got: bytes.len(), want: HEADER + 2 * count });
        }
        let mut handoff = Self::new(u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]));
        for pair in rest.chunks_exact(2) {
            handoff.push(u16::from_le_bytes([pair[0], pair[1]]));
        }
        Ok(handoff)
    }

    /// Compares with the number of descriptors that came along.
    ///
    /// # Errors
    ///
    /// The message speaks of more or fewer.
    pub fn check(&self, fds: usize) -> Result<(), WireError> {
        if usize::from(self.count) == fds {
            return Ok(());
        }
        Err(WireError::Descriptors { said: usize::from(self.count), came: fds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(handoff: &Handoff) -> Vec<u8> {
        let mut bytes = Vec::new();
        handoff.encode(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(
            sequence: u64,
            listeners in prop::collection::vec(any::<u16>(), 1..=Batch::FDS_MAX),
        ) {
            let mut handoff = Handoff::new(sequence);
            for &listener in &listeners {
                handoff.push(listener);
            }
            prop_assert_eq!(handoff.is_full(), listeners.len() == Batch::FDS_MAX);
            let bytes = encoded(&handoff);
            prop_assert!(is_handoff(&bytes));
            let back = Handoff::decode(&bytes).unwrap();
            prop_assert_eq!(back, handoff);
            prop_assert_eq!(back.listeners(), &listeners[..]);
            prop_assert!(back.check(listeners.len()).is_ok());
            prop_assert!(back.check(listeners.len() + 1).is_err());
            // Every shorter or longer message is refused.
            for end in 0..bytes.len() {
                prop_assert!(Handoff::decode(&bytes[..end]).is_err());
            }
            prop_assert!(Handoff::decode(&[&bytes[..], &[0]].concat()).is_err());
        }

        #[test]
        fn any_bytes_are_refused_or_mean_what_they_say(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            if let Ok(handoff) = Handoff::decode(&bytes) {
                prop_assert_eq!(encoded(&handoff), bytes);
            }
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Vec<u8>), want: WireError) {
        let mut handoff = Handoff::new(7);
        handoff.push(0);
        handoff.push(1);
        let mut bytes = encoded(&handoff);
        change(&mut bytes);
        assert_eq!(Handoff::decode(&bytes), Err(want));
    }

    #[test]
    fn refusals() {
        check(|b| b[0] = b'{', WireError::Kind(b'{'));
        check(|b| b[1] = 2, WireError::Version(2));
        check(|b| b[7] = 1, WireError::Reserved);
        check(|b| b[2] = 0, WireError::Count { said: 0, limit: 32 });
        check(|b| b[2] = 33, WireError::Count { said: 33, limit: 32 });
        check(|b| b[3] = 1, WireError::Count { said: 258, limit: 32 });
        check(|b| b[2] = 3, WireError::Length { got: 20, want: 22 });
        check(|b| b.truncate(15), WireError::Length { got: 15, want: 16 });
        check(Vec::clear, WireError::Length { got: 0, want: 16 });
    }

    #[test]
    fn the_layout_is_fixed() {
        let mut handoff = Handoff::new(0x0102);
        handoff.push(0x0304);
        let want = [1, 1, 1, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 4, 3];
        assert_eq!(encoded(&handoff), want);
        assert!(!is_handoff(b"{}"));
        assert!(!is_handoff(b""));
    }
}
