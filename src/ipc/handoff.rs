//! The header of a message with connections, in either direction: sequence, and of each connection
//! its listener and what it carries from an earlier worker. Pure.
//!
//! Layout, little-endian: kind (1: to a worker, 2: back to the master), version (1), count u16,
//! four zero bytes, sequence u64; then per descriptor its listener u16, 1 or 0 u16 for whether it
//! carries anything, requests u32 and since u64 in nanoseconds of the monotonic clock (both 0 if
//! not). The descriptors travel beside it (SCM_RIGHTS), in the same order.

use super::WireError;
use crate::io::{Batch, Instant};

const TO_WORKER: u8 = 1;
const BACK: u8 = 2;
const VERSION: u8 = 1;
const HEADER: usize = 16;
const ENTRY: usize = 16;

/// Most connections on their way to one process: two unfinished batches.
pub const CREDITS: u64 = 2 * Batch::FDS_MAX as u64;

/// Whether a message of the channel brings connections; otherwise it is a control message, which
/// begins with `{`.
#[must_use]
pub fn is_handoff(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(&(TO_WORKER | BACK)))
}

/// What a connection that idles brings along from an earlier worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Requests it has had; more than `u32::MAX` travel as that.
    pub requests: u64,
    /// Since when it idles.
    pub since: Instant,
}

/// Which listener a connection arrived on, by index into the pool's addresses, and what it carries.
pub type Entry = (u16, Option<Carried>);

/// One message with connections, at most [`Batch::FDS_MAX`] of them. Without a heap: one is made
/// and read for every batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handoff {
    /// How many connections had gone the same way before this message.
    pub sequence: u64,
    kind: u8,
    count: u16,
    entries: [Entry; Batch::FDS_MAX],
}

impl Handoff {
    /// A message to a worker, without connections yet.
    #[must_use]
    pub const fn new(sequence: u64) -> Self {
        Self { sequence, kind: TO_WORKER, count: 0, entries: [(0, None); Batch::FDS_MAX] }
    }

    /// A message back to the master, without connections yet.
    #[must_use]
    pub const fn back(sequence: u64) -> Self {
        Self { kind: BACK, ..Self::new(sequence) }
    }

    /// Whether it goes back to the master.
    #[must_use]
    pub const fn is_back(&self) -> bool {
        self.kind == BACK
    }

    /// Adds a connection.
    ///
    /// # Panics
    ///
    /// When the message is full ([`Handoff::is_full`]).
    pub fn push(&mut self, listener: u16, carried: Option<Carried>) {
        assert!(!self.is_full(), "a handoff holds at most {} connections", Batch::FDS_MAX);
        self.entries[usize::from(self.count)] = (listener, carried);
        self.count += 1;
    }

    /// Whether it holds as many connections as one message may carry.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.count as usize == Batch::FDS_MAX
    }

    /// Of each connection.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries[..usize::from(self.count)]
    }

    /// Appends the message.
    ///
    /// # Panics
    ///
    /// When it holds no connection: that would be no handoff.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        assert!(self.count > 0, "a handoff without a connection");
        bytes.reserve(HEADER + ENTRY * usize::from(self.count));
        bytes.extend_from_slice(&[self.kind, VERSION]);
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        for (listener, carried) in self.entries() {
            bytes.extend_from_slice(&listener.to_le_bytes());
            bytes.extend_from_slice(&u16::from(carried.is_some()).to_le_bytes());
            let requests = carried.map_or(0, |c| u32::try_from(c.requests).unwrap_or(u32::MAX));
            bytes.extend_from_slice(&requests.to_le_bytes());
            let since = carried.map_or(0, |carried| carried.since.as_nanos());
            bytes.extend_from_slice(&since.to_le_bytes());
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
        if !matches!(kind, TO_WORKER | BACK) {
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
        if rest.len() != ENTRY * count {
            return Err(WireError::Length { got: bytes.len(), want: HEADER + ENTRY * count });
        }
        let sequence = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let mut handoff = Self { kind, ..Self::new(sequence) };
        for entry in rest.chunks_exact(ENTRY) {
            let (listener, carried) = decode_entry(entry)?;
            handoff.push(listener, carried);
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

fn decode_entry(bytes: &[u8]) -> Result<Entry, WireError> {
    let [l0, l1, k0, k1, r0, r1, r2, r3, s0, s1, s2, s3, s4, s5, s6, s7] = *bytes else {
        return Err(WireError::Length { got: bytes.len(), want: ENTRY });
    };
    let listener = u16::from_le_bytes([l0, l1]);
    let requests = u32::from_le_bytes([r0, r1, r2, r3]);
    let since = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    match (u16::from_le_bytes([k0, k1]), requests, since) {
        (0, 0, 0) => Ok((listener, None)),
        (1, requests, since) => {
            let (requests, since) = (requests.into(), Instant::from_nanos(since));
            Ok((listener, Some(Carried { requests, since })))
        }
        _ => Err(WireError::Reserved),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn carried() -> impl Strategy<Value = Option<Carried>> {
        let some = |(requests, since)| Carried {
            requests: u32::into(requests),
            since: Instant::from_nanos(since),
        };
        prop::option::of(any::<(u32, u64)>().prop_map(some))
    }

    fn encoded(handoff: &Handoff) -> Vec<u8> {
        let mut bytes = Vec::new();
        handoff.encode(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(
            sequence: u64,
            is_back: bool,
            entries in prop::collection::vec((any::<u16>(), carried()), 1..=Batch::FDS_MAX),
        ) {
            let mut handoff =
                if is_back { Handoff::back(sequence) } else { Handoff::new(sequence) };
            for &(listener, carried) in &entries {
                handoff.push(listener, carried);
            }
            prop_assert_eq!(handoff.is_full(), entries.len() == Batch::FDS_MAX);
            let bytes = encoded(&handoff);
            prop_assert!(is_handoff(&bytes));
            let back = Handoff::decode(&bytes).unwrap();
            prop_assert_eq!(back, handoff);
            prop_assert_eq!(back.entries(), &entries[..]);
            prop_assert_eq!(back.is_back(), is_back);
            prop_assert!(back.check(entries.len()).is_ok());
            prop_assert!(back.check(entries.len() + 1).is_err());
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
        handoff.push(0, None);
        handoff.push(1, None);
        let mut bytes = encoded(&handoff);
        change(&mut bytes);
        assert_eq!(Handoff::decode(&bytes), Err(want));
    }

    #[test]
    fn refusals() {
        check(|b| b[0] = b'{', WireError::Kind(b'{'));
        check(|b| b[0] = 3, WireError::Kind(3));
        check(|b| b[1] = 2, WireError::Version(2));
        check(|b| b[7] = 1, WireError::Reserved);
        check(|b| b[2] = 0, WireError::Count { said: 0, limit: 32 });
        check(|b| b[2] = 33, WireError::Count { said: 33, limit: 32 });
        check(|b| b[3] = 1, WireError::Count { said: 258, limit: 32 });
        check(|b| b[2] = 3, WireError::Length { got: 48, want: 64 });
        check(|b| b[18] = 2, WireError::Reserved);
        check(|b| b[20] = 1, WireError::Reserved);
        check(|b| b.truncate(15), WireError::Length { got: 15, want: 16 });
        check(Vec::clear, WireError::Length { got: 0, want: 16 });
    }

    #[test]
    fn the_layout_is_fixed() {
        let mut handoff = Handoff::new(0x0102);
        handoff.push(0x0304, None);
        let want = [1, 1, 1, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0];
        let none = [4, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(encoded(&handoff), [want, none].concat());
        let mut handoff = Handoff::back(0);
        handoff.push(1, Some(Carried { requests: u64::MAX, since: Instant::from_nanos(5) }));
        let want = [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let some = [1, 0, 1, 0, 255, 255, 255, 255, 5, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(encoded(&handoff), [want, some].concat());
        assert!(!is_handoff(b"{}"));
        assert!(!is_handoff(b""));
    }
}
