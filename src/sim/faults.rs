//! What the simulated kernel does wrong, and how often: each fault a named ratio. Pure.

use super::prng::{Prng, Ratio};

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $name:ident <= $often:literal;)*) => {
        /// How often each fault strikes. [`FaultPlan::NONE`] is a kernel on a good day, which
        /// still wakes one waiter of a listener, ends rings late and cuts sends that do not fit.
        #[derive(Clone, Debug)]
        pub struct FaultPlan { $($(#[doc = $doc])+ pub $name: Ratio,)* }

        impl FaultPlan {
            /// No fault at all.
            pub const NONE: Self = Self { $($name: Ratio::NEVER,)* };

            /// Each seed draws its own mix: a fault is off in half of the runs, because a fault
            /// that is always on hides what only happens without it (swarm testing).
            #[must_use]
            pub fn swarm(prng: &mut Prng) -> Self {
                Self { $($name: draw(prng, $often),)* }
            }
        }
    };
}

faults! {
    /// A send takes fewer bytes than there is room for.
    send_short <= 300;
    /// A receive brings fewer bytes than there are.
    recv_short <= 500;
    /// A completion comes up to 5 ms late.
    delay <= 300;
    /// A multishot operation ends though nothing is wrong.
    multishot_ends <= 200;
    /// `EMFILE`: accept fails; a message loses descriptors.
    no_fds <= 50;
    /// `ECONNABORTED` from accept.
    aborted <= 50;
    /// A message does not fit in its channel (`EAGAIN`).
    channel_full <= 200;
    /// `ETOOMANYREFS` from passing descriptors.
    in_flight_full <= 50;
    /// A reset destroys what had arrived and was not read.
    reset_eats <= 500;
    /// A worker is killed (a chance at every step of the world).
    worker_killed <= 4;
    /// A worker is stopped for up to six seconds (a chance at every step of the world).
    worker_stopped <= 4;
    /// A worker is told to drain (TERM; a chance at every step of the world).
    worker_drained <= 4;
    /// Fork fails: `EAGAIN` or `ENOMEM`.
    fork_refused <= 300;
    /// A worker takes up to two seconds to boot.
    boot_slow <= 300;
    /// A worker ends with code 3 instead of booting.
    boot_fails <= 200;
}

/// Off, or up to `often` in a thousand.
fn draw(prng: &mut Prng, often: u64) -> Ratio {
    if prng.chance(Ratio::new(1, 2)) {
        return Ratio::NEVER;
    }
    Ratio::new(u32::try_from(prng.range(1, often)).expect("a small number"), 1000)
}
