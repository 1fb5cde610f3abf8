//! Which workers have served long enough, by requests, age or memory. Pure.
//!
//! Each life has limits of its own, up to a fifth above the configured ones, so that workers which
//! began together are not replaced together.

use crate::config::Config;
use crate::io::Instant;
use std::time::Duration;

/// When a worker is replaced; 0: never for that reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    requests: u64,
    age: Duration,
    rss: u64,
    pss: u64,
}

/// Why a worker is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It has read `recycle_requests` requests.
    Requests,
    /// It is as old as `recycle_age`.
    Age,
    /// It has `recycle_rss` bytes resident.
    Rss,
    /// Its share of memory is `recycle_pss` bytes.
    Pss,
}

impl Cause {
    /// The option it comes from.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "recycle_requests",
            Self::Age => "recycle_age",
            Self::Rss => "recycle_rss",
            Self::Pss => "recycle_pss",
        }
    }
}

/// What is known of one worker.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Which slot it fills.
    pub slot: u32,
    /// Which life of it.
    pub generation: u32,
    /// Requests it has read.
    pub requests: u64,
    /// Since it was ready.
    pub age: Duration,
    /// Its memory, as far as the kernel says.
    pub rss: Option<u64>,
    /// The same, each shared page by its share.
    pub pss: Option<u64>,
}

impl Limits {
    /// As configured.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            requests: config.recycle_requests(),
            age: config.recycle_age(),
            rss: config.recycle_rss(),
            pss: config.recycle_pss(),
        }
    }

    /// Whether any worker is ever replaced.
    #[must_use]
    pub fn are_set(&self) -> bool {
        *self != Self::default()
    }

    /// Whether the memory of workers must be asked for: RSS, PSS.
    #[must_use]
    pub const fn ask_memory(&self) -> (bool, bool) {
        (self.rss > 0, self.pss > 0)
    }

    /// Why this worker is to be replaced, if it is.
    #[must_use]
    pub fn cause(&self, facts: &Facts, seed: u64) -> Option<Cause> {
        let permille = 1000 + chance(seed, facts) % (JITTER_PERMILLE + 1);
        let over = |value: u64, limit: u64| {
            limit > 0 && u128::from(value) * 1000 >= u128::from(limit) * u128::from(permille)
        };
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        [
            (over(facts.requests, self.requests), Cause::Requests),
            (over(millis(facts.age), millis(self.age)), Cause::Age),
            (facts.rss.is_some_and(|bytes| over(bytes, self.rss)), Cause::Rss),
            (facts.pss.is_some_and(|bytes| over(bytes, self.pss)), Cause::Pss),
        ]
        .into_iter()
        .find_map(|(over, cause)| over.then_some(cause))
    }
}

/// A number of this life's own (splitmix64).
fn chance(seed: u64, facts: &Facts) -> u64 {
    let life = u64::from(facts.slot) << 32 | u64::from(facts.generation);
    let mut mixed = seed.wrapping_add(life.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// When to look again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recycler {
    next: Instant,
}

impl Recycler {
    /// Whether it is time to look; then not again for a while.
    pub fn is_due(&mut self, limits: &Limits, now: Instant) -> bool {
        let due = limits.are_set() && self.next <= now;
        if due {
            self.next = now.after(INTERVAL);
        }
        due
    }

    /// When to look next.
    #[must_use]
    pub fn next_deadline(&self, limits: &Limits) -> Option<Instant> {
        limits.are_set().then_some(self.next)
    }

    /// A successor did not come up: nobody is replaced for a while.
    pub fn failed(&mut self, now: Instant) {
        self.next = now.after(AFTER_FAILURE);
    }
}

/// How far above the configured limit a life's own may lie.
const JITTER_PERMILLE: u64 = 200;
/// How often workers are looked at.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long workers are left alone after a successor that did not come up.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn facts() -> Facts {
        Facts { slot: 0, generation: 0, requests: 0, age: Duration::ZERO, rss: None, pss: None }
    }

    /// `limits`: options, `name=value`; `facts`: the worker; `want`: why it is replaced.
    #[track_caller]
    fn check(limits: &str, facts: Facts, want: Option<Cause>) {
        let mut config = Config::default();
        for option in limits.split_whitespace() {
            let (name, value) = option.split_once('=').unwrap();
            config.set(name, value).unwrap();
        }
        for seed in 0..100 {
            assert_eq!(Limits::new(&config).cause(&facts, seed), want, "{limits} {facts:?}");
        }
    }

    #[test]
    fn each_cause() {
        check("", Facts { requests: u64::MAX, age: Duration::MAX, ..facts() }, None);
        check("recycle_requests=100", Facts { requests: 99, ..facts() }, None);
        let many = Facts { requests: 120, ..facts() };
        check("recycle_requests=100", many, Some(Cause::Requests));
        let old = Facts { age: Duration::from_secs(12), ..facts() };
        check("recycle_age=10s", old, Some(Cause::Age));
        check("recycle_age=13s", old, None);
        let large = Facts { rss: Some(120 << 20), ..facts() };
        check("recycle_rss=100m", large, Some(Cause::Rss));
        check("recycle_pss=100m", large, None);
        let large = Facts { pss: Some(120 << 20), ..facts() };
        check("recycle_pss=100m", large, Some(Cause::Pss));
        check("recycle_rss=100m recycle_pss=121m", large, None);
    }

    #[test]
    fn workers_that_began_together_do_not_end_together() {
        let mut config = Config::default();
        config.set("recycle_requests", "1000").unwrap();
        let limits = Limits::new(&config);
        let ends = |slot| {
            let at = |requests| Facts { slot, requests, ..facts() };
            (1000..=1200).find(|&requests| limits.cause(&at(requests), 7).is_some()).unwrap()
        };
        let mut ends: Vec<u64> = (0..16).map(ends).collect();
        ends.sort_unstable();
        ends.dedup();
        assert!(ends.len() > 8, "{ends:?}");
    }

    proptest! {
        #[test]
        fn no_limit_overflows(requests: u64, limit in 1_u64..1 << 40, seed: u64) {
            let mut config = Config::default();
            config.setters().recycle_requests(limit).unwrap();
            let cause = Limits::new(&config).cause(&Facts { requests, ..facts() }, seed);
            prop_assert!(cause.is_some() || requests < limit + limit / 5 + 1);
            prop_assert!(cause.is_none() || requests >= limit);
        }
    }
}
