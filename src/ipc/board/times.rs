//! How long a worker's answers take, while the master wants to know: counts by the size of the
//! time, four to a doubling. Single writer, as all counters.

use super::{Line, TIMES};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Four to a doubling, from about a microsecond to 17 seconds.
const BUCKETS: usize = 4 * (LAST - FIRST) as usize;
const FIRST: u32 = 10;
const LAST: u32 = 34;
/// Of the line: whether times are wanted (the master's word), answers of this pass that are not
/// timed yet, the counts.
pub(super) const TIMES_WORDS: usize = 2 + BUCKETS;
const WANTED: usize = TIMES;
const UNTIMED: usize = TIMES + 1;
const COUNTS: usize = TIMES + 2;

/// Which count a time belongs to.
const fn bucket(nanos: u64) -> usize {
    if nanos < 1 << FIRST {
        return 0;
    }
    let power = nanos.ilog2();
    let quarter = (nanos >> (power - 2) & 3) as usize;
    let index = 4 * (power - FIRST) as usize + quarter;
    if index < BUCKETS { index } else { BUCKETS - 1 }
}

/// The shortest time of a count.
const fn floor(bucket: usize) -> Duration {
    let (power, quarter) = (FIRST as usize + bucket / 4, (bucket % 4) as u64);
    let nanos = if bucket == 0 { 0 } else { (4 + quarter) << (power - 2) };
    Duration::from_nanos(nanos)
}

/// Times of answers, counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times([u64; BUCKETS]);

impl Default for Times {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Times {
    /// What was counted since an earlier look.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self(std::array::from_fn(|index| self.0[index].saturating_sub(earlier.0[index])))
    }

    /// Of two workers together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|index| self.0[index] + other.0[index]))
    }

    /// One more answer.
    pub fn add(&mut self, took: Duration) {
        self.0[bucket(nanos(took))] += 1;
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Of a hundred answers ninety-nine took no longer than this: between these two times.
    #[must_use]
    pub fn p99(&self) -> (Duration, Duration) {
        let rank = (self.count() * 99).div_ceil(100).max(1);
        let mut seen = 0;
        for (index, count) in self.0.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return (floor(index), floor(index + 1));
            }
        }
        (Duration::ZERO, Duration::ZERO)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Line {
    /// The master wants times from now on, or none.
    pub fn want_times(&self, wanted: bool) {
        self.words[WANTED].store(u64::from(wanted), Ordering::Relaxed);
    }

    /// A request was answered, so long after it had come whole. Zero: in the pass that brought it;
    /// it is timed by the pass.
    pub fn answered(&self, took: Duration) {
        if self.words[WANTED].load(Ordering::Relaxed) == 0 {
            return;
        }
        let word = if took.is_zero() { UNTIMED } else { COUNTS + bucket(nanos(took)) };
        self.bump(Some(word), 1);
    }

    /// Whether answers of this pass wait to be timed by its end.
    #[must_use]
    pub fn has_untimed(&self) -> bool {
        self.words[UNTIMED].load(Ordering::Relaxed) > 0
    }

    /// The pass took so long: its answers leave now.
    pub fn pass_took(&self, took: Duration) {
        let count = self.words[UNTIMED].swap(0, Ordering::Relaxed);
        self.bump(Some(COUNTS + bucket(nanos(took))), count);
    }

    /// All times so far.
    #[must_use]
    pub fn times(&self) -> Times {
        Times(std::array::from_fn(|index| self.words[COUNTS + index].load(Ordering::Acquire)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MILLI: Duration = Duration::from_millis(1);

    proptest! {
        #[test]
        fn a_time_lies_between_the_two_ends_of_its_count(time in 0_u64..1 << LAST) {
            let index = bucket(time);
            prop_assert!(nanos(floor(index)) <= time && time < nanos(floor(index + 1)));
        }
    }

    #[test]
    fn the_ninety_ninth_of_a_hundred() {
        let mut times = Times::default();
        assert_eq!(times.p99(), (Duration::ZERO, Duration::ZERO));
        for _ in 0..99 {
            times.add(MILLI);
        }
        times.add(50 * MILLI);
        let (low, high) = times.p99();
        assert!(low <= MILLI && MILLI < high && high - low < MILLI / 3, "{low:?} {high:?}");
        let mut later = times.clone();
        later.add(50 * MILLI);
        assert!(later.p99().0 > 40 * MILLI, "{:?}", later.p99());
        let since = later.since(&times);
        assert_eq!((since.count(), since.plus(&times)), (1, later));
        times.add(Duration::from_secs(86_400));
        assert_eq!(times.count(), 101);
    }

    #[test]
    fn answers_are_timed_while_that_is_wanted_alone_or_by_their_pass() {
        let line = Line::detached();
        line.answered(MILLI);
        assert!(!line.has_untimed());
        line.want_times(true);
        line.answered(20 * MILLI);
        line.answered(Duration::ZERO);
        line.answered(Duration::ZERO);
        assert!(line.has_untimed());
        line.pass_took(MILLI);
        assert!(!line.has_untimed());
        let mut want = Times::default();
        [20 * MILLI, MILLI, MILLI].into_iter().for_each(|took| want.add(took));
        assert_eq!(line.times(), want);
        line.want_times(false);
        line.answered(MILLI);
        assert_eq!(line.times().count(), 3);
    }
}
