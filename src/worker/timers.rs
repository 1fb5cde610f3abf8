//! All deadlines of a worker: one lazy wheel of 100 ms ticks, and a heap for exact ones. Pure.
//!
//! Lazy: activity only stores a later deadline in the connection. When its entry fires, the
//! connection compares and is put back if it has time left. So a busy connection costs one entry a
//! timeout, not one a request.

use super::slots::Key;
use crate::io::Instant;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The wheel's step, 100 ms. Deadlines fire up to this much late, never early.
const TICK_NANOS: u64 = 100_000_000;
const BUCKETS: usize = 1024;
const BUCKETS_TICKS: u64 = BUCKETS as u64;
const WORD: usize = u64::BITS as usize;

/// What a connection knows of its own timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    deadline: Option<Instant>,
    /// The tick of its valid entry in the wheel; other entries are left-overs.
    entry: u64,
}

impl Default for Timer {
    fn default() -> Self {
        Self { deadline: None, entry: u64::MAX }
    }
}

/// What to do with a fired entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fired {
    /// The deadline has passed.
    Due,
    /// Nothing to do: a left-over, or it has time left and was put back.
    NotYet,
}

/// The wheel and the heap.
#[derive(Debug)]
pub struct Timers {
    buckets: Vec<Vec<Key>>,
    /// A bit for each bucket that is not empty.
    occupied: [u64; BUCKETS / WORD],
    /// All ticks before this one have fired.
    next: u64,
    exact: BinaryHeap<Reverse<(Instant, Key)>>,
}

fn tick_after(at: Instant) -> u64 {
    at.as_nanos().div_ceil(TICK_NANOS)
}

impl Timers {
    /// Starts at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            buckets: vec![Vec::new(); BUCKETS],
            occupied: [0; BUCKETS / WORD],
            next: now.as_nanos() / TICK_NANOS,
            exact: BinaryHeap::new(),
        }
    }

    /// Sets a connection's deadline. `exact`: to be met to the wait's precision, at the price of a
    /// heap entry.
    #[inline]
    pub fn set(&mut self, key: Key, timer: &mut Timer, deadline: Option<Instant>, exact: bool) {
        if exact && timer.deadline != deadline {
            self.exact.extend(deadline.map(|at| Reverse((at, key))));
        }
        timer.deadline = deadline;
        if let Some(at) = deadline {
            self.also(key, timer, at);
        }
    }

    fn insert(&mut self, key: Key, timer: &mut Timer, tick: u64) {
        let tick = tick.clamp(self.next, self.next + BUCKETS_TICKS - 1);
        timer.entry = tick;
        let bucket = Self::bucket(tick);
        self.buckets[bucket].push(key);
        self.occupied[bucket / WORD] |= 1 << (bucket % WORD);
    }

    fn bucket(tick: u64) -> usize {
        usize::try_from(tick % BUCKETS_TICKS).unwrap_or(0)
    }

    /// When to look next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let wheel = self.next_tick().map(|tick| Instant::from_nanos(tick * TICK_NANOS));
        let exact = self.exact.peek().map(|Reverse((at, _))| *at);
        wheel.into_iter().chain(exact).min()
    }

    fn next_tick(&self) -> Option<u64> {
        let start = Self::bucket(self.next);
        // One word more than there are: the first one is looked at twice, its low bits last.
        for step in 0..=self.occupied.len() {
            let index = (start / WORD + step) % self.occupied.len();
            let mut word = self.occupied[index];
            if step == 0 {
                word &= u64::MAX << (start % WORD);
            }
            if word != 0 {
                let bucket = index * WORD + word.trailing_zeros() as usize;
                let ahead = (bucket + BUCKETS - start) % BUCKETS;
                return Some(self.next + ahead as u64);
            }
        }
        None
    }

    /// Takes out all entries that fire up to `now`, with the tick each fired at. Ask
    /// [`Timers::fired`] about each.
    pub fn expire(&mut self, now: Instant, into: &mut Vec<(Key, u64)>) {
        while let Some(Reverse((at, key))) = self.exact.peek().copied() {
            if at > now {
                break;
            }
            self.exact.pop();
            into.push((key, u64::MAX));
        }
        let end = now.as_nanos() / TICK_NANOS;
        while let Some(tick) = self.next_tick().filter(|tick| *tick <= end) {
            let bucket = Self::bucket(tick);
            into.extend(self.buckets[bucket].drain(..).map(|key| (key, tick)));
            self.occupied[bucket / WORD] &= !(1 << (bucket % WORD));
            self.next = tick + 1;
        }
        self.next = self.next.max(end + 1);
    }

    /// Sees to it that an entry fires for a second deadline too: the one for unread output.
    pub fn also(&mut self, key: Key, timer: &mut Timer, at: Instant) {
        let tick = tick_after(at);
        if tick < timer.entry {
            self.insert(key, timer, tick);
        }
    }

    /// Whether a fired entry means its connection. `also`: its second deadline, if it has one.
    pub fn fired(
        &mut self,
        key: Key,
        timer: &mut Timer,
        tick: u64,
        now: Instant,
        also: Option<Instant>,
    ) -> Fired {
        let valid = timer.entry == tick;
        if valid {
            timer.entry = u64::MAX;
        }
        match timer.deadline.into_iter().chain(also).min() {
            // An exact entry (tick u64::MAX) is true whenever the deadline has come.
            Some(at) if at <= now => Fired::Due,
            Some(at) => {
                if valid {
                    self.insert(key, timer, tick_after(at));
                }
                Fired::NotYet
            }
            None => Fired::NotYet,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: Key = Key { slot: 3, generation: 1 };

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    /// Runs until the deadline fires; returns when, in ms, and how many entries it took.
    fn due(timers: &mut Timers, timer: &mut Timer) -> Option<(u64, usize)> {
        for entries in 1..100 {
            let now = timers.next_deadline()?;
            let mut fired = Vec::new();
            timers.expire(now, &mut fired);
            for (key, tick) in fired {
                if timers.fired(key, timer, tick, now, None) == Fired::Due {
                    return Some((now.as_nanos() / 1_000_000, entries));
                }
            }
        }
        None
    }

    #[test]
    fn later_deadlines_cost_no_entry_and_fire_once() {
        let mut timers = Timers::new(at(0));
        let mut timer = Timer::default();
        for millis in [1000, 2000, 3050] {
            timers.set(KEY, &mut timer, Some(at(millis)), false);
        }
        assert_eq!(due(&mut timers, &mut timer), Some((3100, 2)));
    }

    #[test]
    fn an_earlier_deadline_is_not_missed() {
        let mut timers = Timers::new(at(0));
        let mut timer = Timer::default();
        timers.set(KEY, &mut timer, Some(at(75_000)), false);
        timers.set(KEY, &mut timer, Some(at(10_000)), false);
        assert_eq!(due(&mut timers, &mut timer), Some((10_000, 1)));
    }

    #[test]
    fn beyond_the_horizon_it_goes_round() {
        let mut timers = Timers::new(at(0));
        let mut timer = Timer::default();
        timers.set(KEY, &mut timer, Some(at(300_000)), false);
        assert_eq!(due(&mut timers, &mut timer).map(|(millis, _)| millis), Some(300_000));
    }

    #[test]
    fn exact_ones_are_exact_and_none_is_none() {
        let mut timers = Timers::new(at(0));
        let mut timer = Timer::default();
        timers.set(KEY, &mut timer, Some(at(37)), true);
        assert_eq!(due(&mut timers, &mut timer).map(|(millis, _)| millis), Some(37));
        timers.set(KEY, &mut timer, None, false);
        assert_eq!(due(&mut timers, &mut timer), None);
    }

    proptest! {
        #[test]
        fn never_early_never_more_than_a_tick_late(
            start in 0u64..1_000_000, deadlines in prop::collection::vec(1u64..400_000, 1..12)
        ) {
            let mut timers = Timers::new(at(start));
            let mut timer = Timer::default();
            let mut last = 0;
            for deadline in deadlines {
                last = start + deadline;
                timers.set(KEY, &mut timer, Some(at(last)), false);
            }
            let (fired, _) = due(&mut timers, &mut timer).unwrap();
            prop_assert!(fired >= last && fired <= last + 100, "{fired} for {last}");
        }
    }
}
