//! When this process may become the next program: after that has been tried, and when the kernel
//! does nothing for us any more. Pure.
//!
//! Trying is a transaction (`transact`: a throw-away child, whose failure changes nothing). Then:
//! settling (what the trial left behind is buried) → quiescing (accept, poll and receive are
//! cancelled, and reaped to their last completions: what the kernel had begun would die with the
//! ring) → the exec. Whatever takes too long, or fails, goes back to serving.

use crate::io::Instant;
use std::time::Duration;

/// What still holds it up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Busy {
    /// Workers that are dead and not buried, or no slot's.
    pub lives: bool,
    /// An accept or a poll is under way on a listener.
    pub listeners: bool,
    /// Something is under way on a channel or a stream of messages.
    pub channels: bool,
    /// Signals are being read.
    pub signals: bool,
    /// Operators are being answered.
    pub visitors: bool,
    /// Connections that were refused have not closed.
    pub refusals: bool,
    /// The master still asks a worker something.
    pub probes: bool,
}

impl Busy {
    /// What it is, in words; empty: nothing.
    fn what(&self) -> String {
        let all = [
            (self.lives, "workers that end"),
            (self.listeners, "listeners"),
            (self.channels, "channels"),
            (self.signals, "signals"),
            (self.visitors, "operators"),
            (self.refusals, "refused connections"),
            (self.probes, "a probe"),
        ];
        let busy: Vec<&str> = all.iter().filter(|(busy, _)| *busy).map(|(_, what)| *what).collect();
        busy.join(", ")
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until something ends.
    Wait,
    /// Ask the kernel for nothing more, and cancel what it does.
    Quiesce,
    /// Become the next program.
    Exec,
    /// Serve on.
    GiveUp(String),
}

/// One handover.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade {
    quiescing: bool,
    deadline: Instant,
    hurry_at: Instant,
}

impl Upgrade {
    /// The next program was tried, and is good.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let deadline = now.after(SETTLE);
        Self { quiescing: false, deadline, hurry_at: deadline }
    }

    /// What to do now.
    pub fn poll(&mut self, busy: &Busy, now: Instant) -> Step {
        let waits = if self.quiescing { *busy != Busy::default() } else { busy.lives };
        if waits {
            if now < self.deadline {
                return Step::Wait;
            }
            return Step::GiveUp(format!("still busy with {}", busy.what()));
        }
        if self.quiescing {
            return Step::Exec;
        }
        self.quiescing = true;
        self.deadline = now.after(QUIESCE);
        self.hurry_at = now.after(HURRY);
        Step::Quiesce
    }

    /// When it is given up.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// From when on nobody lingers any more.
    #[must_use]
    pub const fn hurry_at(&self) -> Instant {
        self.hurry_at
    }
}

/// How long what the trial left behind may take to end.
const SETTLE: Duration = Duration::from_secs(5);
/// How long the kernel may take to end what it does: arrivals wait in its backlog meanwhile.
const QUIESCE: Duration = Duration::from_secs(2);
/// After how much of that nobody lingers any more.
const HURRY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Instant {
        Instant::default().after(Duration::from_millis(millis))
    }

    #[test]
    fn it_settles_then_quiesces_then_execs() {
        let mut upgrade = Upgrade::new(at(0));
        let lives = Busy { lives: true, ..Busy::default() };
        let listeners = Busy { listeners: true, ..Busy::default() };
        assert_eq!(upgrade.poll(&lives, at(10)), Step::Wait);
        assert_eq!(upgrade.poll(&listeners, at(20)), Step::Quiesce, "not cancelled before");
        assert_eq!(upgrade.poll(&listeners, at(30)), Step::Wait);
        assert_eq!(upgrade.poll(&Busy::default(), at(40)), Step::Exec);
    }

    #[test]
    fn what_takes_too_long_is_named() {
        let mut upgrade = Upgrade::new(at(0));
        assert_eq!(upgrade.poll(&Busy::default(), at(0)), Step::Quiesce);
        let busy = Busy { channels: true, refusals: true, ..Busy::default() };
        assert_eq!(upgrade.poll(&busy, at(1999)), Step::Wait);
        assert_eq!(upgrade.hurry_at(), at(500));
        let why = "still busy with channels, refused connections".to_owned();
        assert_eq!(upgrade.poll(&busy, at(2000)), Step::GiveUp(why));
        let lives = Busy { lives: true, ..Busy::default() };
        let mut upgrade = Upgrade::new(at(0));
        let why = "still busy with workers that end".to_owned();
        assert_eq!(upgrade.poll(&lives, at(5000)), Step::GiveUp(why));
    }

    fn busy() -> impl Strategy<Value = Busy> {
        any::<[bool; 7]>().prop_map(
            |[lives, listeners, channels, signals, visitors, refusals, probes]| Busy {
                lives,
                listeners,
                channels,
                signals,
                visitors,
                refusals,
                probes,
            },
        )
    }

    proptest! {
        /// No exec while anything is under way, none without a quiesce before it, and an end within
        /// both deadlines.
        #[test]
        fn it_ends_in_time_and_never_too_early(
            steps in prop::collection::vec((busy(), 0_u64..1000), 1..40),
        ) {
            let (mut upgrade, mut now, mut quiesced) = (Upgrade::new(at(0)), 0, false);
            for (busy, wait) in steps {
                now += wait;
                match upgrade.poll(&busy, at(now)) {
                    Step::Wait => prop_assert!(at(now) < upgrade.deadline()),
                    Step::Quiesce => {
                        prop_assert!(!quiesced && !busy.lives);
                        quiesced = true;
                    }
                    Step::Exec => {
                        prop_assert!(quiesced && busy == Busy::default());
                        return Ok(());
                    }
                    Step::GiveUp(why) => {
                        prop_assert!(why.len() > "still busy with ".len());
                        return Ok(());
                    }
                }
            }
            prop_assert!(now <= 5000 + 2000 + 2 * 1000);
        }
    }
}
