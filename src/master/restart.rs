//! When a slot is tried again whose worker has ended, and whether workers end too often. Pure.
//!
//! At once after the first failure, then 50 ms, doubling to 1 s; only a storm older than 30 s backs
//! off further, to 30 s. A storm is over when a worker has had a healthy run. Failed boots and
//! crashes after READY are counted apart: a worker that comes up clears the first, only a healthy
//! run clears the second.

use crate::config::Config;
use crate::io::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// What the configuration says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long a slot stays empty at least (`restart_delay`).
    pub delay: Duration,
    /// Whether a worker that ends by itself is replaced at all (`auto_restart`).
    pub auto: bool,
}

impl Policy {
    /// Of this configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { delay: config.restart_delay(), auto: config.auto_restart() }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self { delay: Duration::ZERO, auto: true }
    }
}

/// Why a slot has no worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The kernel would not fork.
    Refused,
    /// It ended before it was ready.
    Boot,
    /// It ended when it had served for so long.
    Crash(Duration),
}

/// The failures of one slot.
#[derive(Clone, Debug, Default)]
pub struct Restarts {
    /// Forks refused and boots failed since a worker came up last.
    refused: u32,
    boots: u32,
    /// Crashes since the last healthy run.
    crashes: u32,
    /// When the first of them was.
    storm: Option<Instant>,
    /// The last delay, before chance had its part.
    delay: Duration,
    /// Ever.
    boots_ever: u64,
    crashes_ever: u64,
}

impl Restarts {
    /// One more failure; how long the slot stays empty.
    pub fn failed(
        &mut self,
        failure: Failure,
        now: Instant,
        policy: Policy,
        jitter: &mut Jitter,
    ) -> Duration {
        if let Failure::Crash(served) = failure
            && served >= HEALTHY_RUN.max(self.delay * HEALTHY_DELAYS)
        {
            self.reset();
        }
        let before = self.in_a_row();
        let age = now.since(*self.storm.get_or_insert(now));
        self.delay = match (failure, before) {
            // The kernel has said no: asking at once again is no use.
            (Failure::Refused, 0) => FIRST,
            (_, 0) => Duration::ZERO,
            _ if age >= OLD => (self.delay * 2).clamp(MAX, OLD_MAX),
            _ => (FIRST * (1 << (before - 1).min(16))).min(MAX),
        };
        match failure {
            Failure::Refused => self.refused += 1,
            Failure::Boot => {
                self.boots += 1;
                self.boots_ever += 1;
            }
            Failure::Crash(_) => {
                self.crashes += 1;
                self.crashes_ever += 1;
            }
        }
        jitter.half_to_whole(self.delay).max(policy.delay)
    }

    /// A worker came up.
    pub fn ready(&mut self) {
        (self.refused, self.boots) = (0, 0);
        if self.crashes == 0 {
            self.reset();
        }
    }

    /// All is well, or somebody begins anew.
    pub fn reset(&mut self) {
        let (boots_ever, crashes_ever) = (self.boots_ever, self.crashes_ever);
        *self = Self { boots_ever, crashes_ever, ..Self::default() };
    }

    /// Failures without a healthy run between them.
    #[must_use]
    pub const fn in_a_row(&self) -> u32 {
        self.refused.saturating_add(self.boots).saturating_add(self.crashes)
    }

    /// Boots that failed and crashes after READY, ever.
    #[must_use]
    pub const fn ever(&self) -> (u64, u64) {
        (self.boots_ever, self.crashes_ever)
    }
}

/// Whether the workers of a pool end too often: more of them than one a slot, and one, in ten
/// seconds. Each slot is dealt with by itself; this is for who looks at the whole.
#[derive(Debug, Default)]
pub struct Intensity {
    ends: VecDeque<Instant>,
    over: bool,
}

impl Intensity {
    /// A worker ended that nobody had asked to. Answers `true` when that makes it too often.
    pub fn hit(&mut self, workers: usize, now: Instant) -> bool {
        self.ends.push_back(now);
        while self.ends.len() > workers + 2 {
            self.ends.pop_front();
        }
        let before = self.over;
        self.look(workers, now);
        self.over && !before
    }

    /// Whether it is too often now.
    pub fn look(&mut self, workers: usize, now: Instant) -> bool {
        while self.ends.front().is_some_and(|end| now.since(*end) > WINDOW) {
            self.ends.pop_front();
        }
        self.over = self.ends.len() > workers + 1;
        self.over
    }
}

/// Chance, from one seed (splitmix64).
#[derive(Debug)]
pub struct Jitter(pub u64);

impl Jitter {
    /// Between half of it and all of it, so that slots which failed together do not come back
    /// together.
    pub fn half_to_whole(&mut self, whole: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let half = whole / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(mixed % nanos.saturating_add(1))
    }
}

/// A run after READY that ends a storm.
const HEALTHY_RUN: Duration = Duration::from_secs(1);
/// The same, in delays: who waited a second must serve ten.
const HEALTHY_DELAYS: u32 = 10;
/// The first delay that is none, and the longest in the first [`OLD`] of a storm.
const FIRST: Duration = Duration::from_millis(50);
const MAX: Duration = Duration::from_secs(1);
/// After that time of a storm the delay doubles on, to this.
const OLD: Duration = Duration::from_secs(30);
const OLD_MAX: Duration = Duration::from_secs(30);
/// Of [`Intensity`].
const WINDOW: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SOON: Duration = Duration::from_millis(1);
    const FREE: Policy = Policy { delay: Duration::ZERO, auto: true };

    fn at(millis: u64) -> Instant {
        Instant::default().after(Duration::from_millis(millis))
    }

    /// The whole delays of these failures, which come as soon as they can.
    fn delays(restarts: &mut Restarts, failures: &[Failure], mut now: Instant) -> Vec<u64> {
        let one = |failure: &Failure| {
            now = now.after(restarts.failed(*failure, now, FREE, &mut Jitter(1)));
            u64::try_from(restarts.delay.as_millis()).unwrap()
        };
        failures.iter().map(one).collect()
    }

    #[test]
    fn the_first_is_at_once_and_then_it_doubles_to_a_second() {
        use Failure::{Boot, Crash, Refused};
        let want = [0, 50, 100, 200, 400, 800, 1000, 1000];
        assert_eq!(delays(&mut Restarts::default(), &[Boot; 8], at(0)), want);
        assert_eq!(delays(&mut Restarts::default(), &[Crash(SOON); 8], at(0)), want);
        // One that was refused is never asked for at once.
        assert_eq!(delays(&mut Restarts::default(), &[Refused; 4], at(0)), [50, 50, 100, 200]);
    }

    #[test]
    fn who_comes_up_clears_the_boots_and_who_serves_long_enough_all() {
        let mut restarts = Restarts::default();
        assert_eq!(delays(&mut restarts, &[Failure::Boot; 6], at(0)).last(), Some(&800));
        restarts.ready();
        assert_eq!(restarts.in_a_row(), 0, "no crash yet");
        // It must serve ten times as long as it was waited for.
        let crash = |seconds| [Failure::Crash(Duration::from_secs(seconds))];
        assert_eq!(delays(&mut restarts, &crash(7), at(9_000)), [0]);
        assert_eq!(delays(&mut restarts, &[Failure::Boot], at(9_100)), [50]);
        restarts.ready();
        assert_eq!(delays(&mut restarts, &crash(0), at(9_200)), [50]);
        assert_eq!(delays(&mut restarts, &crash(1), at(10_300)), [0]);
        assert_eq!(restarts.ever(), (7, 3));
        restarts.reset();
        assert_eq!((restarts.in_a_row(), restarts.ever()), (0, (7, 3)));
    }

    #[test]
    fn only_a_storm_older_than_30_s_backs_off_further() {
        let mut restarts = Restarts::default();
        let mut now = at(0);
        let mut old = Vec::new();
        for _ in 0..60 {
            let age = now.since(at(0));
            now = now.after(restarts.failed(Failure::Crash(SOON), now, FREE, &mut Jitter(3)));
            if age < OLD {
                assert!(restarts.delay <= MAX, "{age:?}: {:?}", restarts.delay);
            } else {
                old.push(restarts.delay.as_secs());
            }
        }
        assert_eq!(old[..6], [2, 4, 8, 16, 30, 30]);
        // It must run 300 s to be well again.
        let served = Failure::Crash(Duration::from_secs(299));
        restarts.ready();
        restarts.failed(served, now, FREE, &mut Jitter(3));
        assert_eq!(restarts.in_a_row(), 61);
        restarts.failed(Failure::Crash(OLD_MAX * 10), now, FREE, &mut Jitter(3));
        assert_eq!(restarts.in_a_row(), 1);
    }

    #[test]
    fn a_configured_delay_is_the_least() {
        let policy = Policy { delay: Duration::from_millis(300), auto: true };
        let mut restarts = Restarts::default();
        let mut next = || restarts.failed(Failure::Boot, at(0), policy, &mut Jitter(1));
        let first: Vec<Duration> = (0..4).map(|_| next()).collect();
        assert_eq!(first, [policy.delay; 4]);
        assert!((0..3).map(|_| next()).last().unwrap() > policy.delay, "the back-off is longer");
    }

    #[test]
    fn too_often_is_more_than_one_a_slot_and_one_in_ten_seconds() {
        let mut intensity = Intensity::default();
        let hits: Vec<bool> = (0..6).map(|n| intensity.hit(2, at(n * 1000))).collect();
        assert_eq!(hits, [false, false, false, true, false, false], "said once");
        assert!(intensity.look(2, at(12_000)));
        assert!(!intensity.look(2, at(12_001)));
        // Once every four seconds is a life that a pool of two can lead.
        assert!((4..100).all(|n| !intensity.hit(2, at(n * 4000))));
        assert!(intensity.ends.len() <= 4);
    }

    proptest! {
        /// Whatever fails, and however long it takes to fail: forks of one slot.
        #[test]
        fn at_most_20_forks_in_3_s_and_back_within_a_second_of_the_end(
            seed: u64,
            failures in prop::collection::vec((any::<bool>(), 0_u64..900), 1..200),
        ) {
            let (mut restarts, mut jitter) = (Restarts::default(), Jitter(seed));
            let (mut now, mut forks) = (Instant::default(), vec![Instant::default()]);
            for (boots, life) in failures {
                // Most end at once: the worst case.
                let life = Duration::from_millis(if life < 800 { 0 } else { life });
                now = now.after(life);
                let failure = if boots {
                    Failure::Boot
                } else {
                    restarts.ready();
                    Failure::Crash(life)
                };
                let delay = restarts.failed(failure, now, FREE, &mut jitter);
                let age = now.since(Instant::default());
                prop_assert!(delay <= if age < OLD { MAX } else { OLD_MAX }, "{delay:?} at {age:?}");
                now = now.after(delay);
                forks.push(now);
            }
            for window in forks.windows(21) {
                prop_assert!(window[20].since(window[0]) > Duration::from_secs(3));
            }
        }
    }
}
