//! What a completion belongs to: kind, slot and generation in one `user_data` word. Pure.

/// Which operation a completion answers. One list for master and worker, so a trace reads alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Multishot accept on a listener with one reader for life.
    Accept = 1,
    /// Multishot poll on a listener that may change its reader.
    Poll,
    /// Multishot receive of a connection.
    Recv,
    /// An answer sent inline by `wait`; completes only when short or failed.
    SendNow,
    /// The asynchronous send of what an inline send left.
    Send,
    /// A message with descriptors leaving on a channel.
    Pass,
    /// A message arriving on a channel.
    Receive,
    /// A read of file bytes.
    Read,
    /// A write to the access log.
    Write,
    /// The read of the signal descriptor.
    Signal,
    /// A cancellation; its own completion carries no news.
    Cancel,
    /// A connect of the load generator.
    Connect,
    /// The poll of a control or health listener.
    Knock,
    /// Multishot receive of a control or health connection.
    Ask,
    /// The answer on such a connection.
    Tell,
}

impl Kind {
    const ALL: [Self; 15] = [
        Self::Accept,
        Self::Poll,
        Self::Recv,
        Self::SendNow,
        Self::Send,
        Self::Pass,
        Self::Receive,
        Self::Read,
        Self::Write,
        Self::Signal,
        Self::Cancel,
        Self::Connect,
        Self::Knock,
        Self::Ask,
        Self::Tell,
    ];
}

const SLOT_BITS: u32 = 24;
const GENERATION_BITS: u32 = 32;
const _: () = assert!(u8::BITS + SLOT_BITS + GENERATION_BITS == u64::BITS);

/// Travels through the kernel as `user_data`: kind 8 bits, slot 24, generation 32.
///
/// The slot is an index that gets reused; the generation says which use of it is meant, so that a
/// late completion of a closed connection never reaches its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token {
    /// Which operation.
    pub kind: Kind,
    /// Which place in the table of connections, workers or listeners. Below [`Token::SLOTS_MAX`].
    pub slot: u32,
    /// Which use of that place.
    pub generation: u32,
}

impl Token {
    /// How many slots a token can tell apart.
    pub const SLOTS_MAX: u32 = 1 << SLOT_BITS;

    /// A token; `slot` must be below [`Token::SLOTS_MAX`].
    #[must_use]
    pub fn new(kind: Kind, slot: u32, generation: u32) -> Self {
        assert!(slot < Self::SLOTS_MAX, "slot {slot} does not fit a token");
        Self { kind, slot, generation }
    }

    /// The same connection, another operation.
    #[must_use]
    pub fn with(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// The word the kernel carries.
    #[must_use]
    pub fn encode(self) -> u64 {
        u64::from(self.kind as u8)
            | u64::from(self.slot) << u8::BITS
            | u64::from(self.generation) << (u8::BITS + SLOT_BITS)
    }

    /// The reverse of [`Token::encode`]; `None` for a word that no token encodes to.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "each field is cut to its width on purpose"
    )]
    pub fn decode(word: u64) -> Option<Self> {
        let kind = *Kind::ALL.get(usize::from(word as u8).checked_sub(1)?)?;
        let slot = (word >> u8::BITS) as u32 & (Self::SLOTS_MAX - 1);
        let generation = (word >> (u8::BITS + SLOT_BITS)) as u32;
        Some(Self { kind, slot, generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_kernel() {
        for kind in Kind::ALL {
            for (slot, generation) in [(0, 0), (1, u32::MAX), (Token::SLOTS_MAX - 1, 7)] {
                let token = Token::new(kind, slot, generation);
                assert_eq!(Token::decode(token.encode()), Some(token));
            }
        }
    }

    #[test]
    fn a_foreign_word_is_no_token() {
        assert_eq!(Token::decode(0), None);
        assert_eq!(Token::decode(u64::MAX), None);
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    fn a_slot_beyond_the_width_is_our_mistake() {
        let _ = Token::new(Kind::Recv, Token::SLOTS_MAX, 0);
    }
}
