//! Which operations of one connection the kernel still holds. Pure.

use crate::io::Kind;

/// A set of at most one operation a kind. A slot is released only when it is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight(u8);

impl InFlight {
    fn bit(kind: Kind) -> u8 {
        match kind {
            Kind::Recv => 1,
            Kind::Send => 2,
            Kind::Read => 4,
            Kind::Accept
            | Kind::Poll
            | Kind::SendNow
            | Kind::Write
            | Kind::Pass
            | Kind::Receive
            | Kind::Signal
            | Kind::Cancel
            | Kind::Connect
            | Kind::Knock
            | Kind::Ask
            | Kind::Tell => panic!("{kind:?} is not an operation of a connection"),
        }
    }

    /// Whether the kernel holds one of this kind.
    #[must_use]
    pub fn has(self, kind: Kind) -> bool {
        self.0 & Self::bit(kind) != 0
    }

    /// Call right before the submission.
    pub fn start(&mut self, kind: Kind) {
        assert!(!self.has(kind), "{kind:?} submitted twice");
        self.0 |= Self::bit(kind);
    }

    /// Call first thing in the `on_*` of the last completion.
    pub fn finish(&mut self, kind: Kind) {
        assert!(self.has(kind), "{kind:?} completed, but was never submitted");
        self.0 &= !Self::bit(kind);
    }

    /// Whether the kernel holds nothing.
    #[must_use]
    pub fn is_idle(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_do_not_touch_each_other() {
        let mut set = InFlight::default();
        set.start(Kind::Recv);
        set.start(Kind::Send);
        set.finish(Kind::Recv);
        assert!(set.has(Kind::Send) && !set.has(Kind::Recv) && !set.is_idle());
        set.finish(Kind::Send);
        assert!(set.is_idle());
    }

    #[test]
    #[should_panic(expected = "submitted twice")]
    fn two_of_a_kind_are_our_mistake() {
        let mut set = InFlight::default();
        set.start(Kind::Recv);
        set.start(Kind::Recv);
    }
}
