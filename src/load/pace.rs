//! When a request is due: a fixed rate, evenly or at random, or a rate that rises. Pure.

use crate::io::Instant;
use std::time::Duration;

/// How the generator decides when to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Closed loop: each connection asks again as soon as it is answered. Finds the ceiling.
    Closed,
    /// Open loop: requests are due by the clock, whatever the server does. Finds the latency.
    Open {
        /// How they are spaced.
        arrivals: Arrivals,
        /// Requests a second at the start, over all connections.
        from: f64,
        /// Requests a second at the end; the same as `from` for a fixed rate.
        to: f64,
    },
}

/// How requests of an open loop are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly.
    Constant,
    /// At random and independent of each other, as those of many users are.
    Poisson,
}

impl Pace {
    /// The rate offered on average; `None` for a closed loop.
    #[must_use]
    pub fn rate(self) -> Option<f64> {
        match self {
            Self::Closed => None,
            Self::Open { from, to, .. } => Some(f64::midpoint(from, to)),
        }
    }
}

/// The due times of one thread's share of an open loop.
///
/// The k-th request of all threads together is due when the integral of the rate reaches k. That
/// is solved for the time of each k anew, so that no error adds up.
#[derive(Clone, Debug)]
pub struct Schedule {
    start: Instant,
    arrivals: Arrivals,
    from: f64,
    /// How much the rate grows each second.
    slope: f64,
    seconds: f64,
    /// The integral at the next request of ours.
    position: f64,
    shares: f64,
    chance: Chance,
    due: Option<Instant>,
}

impl Schedule {
    /// Share `index` of `shares`, from `start` on for `duration`; after it nothing is due.
    #[must_use]
    pub fn new(
        (arrivals, from, to): (Arrivals, f64, f64),
        (index, shares): (u32, u32),
        start: Instant,
        duration: Duration,
        seed: u64,
    ) -> Self {
        let seconds = duration.as_secs_f64();
        let slope = if seconds > 0.0 { (to - from) / seconds } else { 0.0 };
        let shares = f64::from(shares);
        let mut chance = Chance::new(seed ^ (u64::from(index) << 32));
        let position = match arrivals {
            Arrivals::Constant => f64::from(index),
            Arrivals::Poisson => shares * chance.exponential(),
        };
        let mut new =
            Self { start, arrivals, from, slope, seconds, position, shares, chance, due: None };
        new.due = new.solve();
        new
    }

    /// When the next request is due; `None`: the schedule is over.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The next request was sent, or given up.
    pub fn advance(&mut self) {
        self.position += match self.arrivals {
            Arrivals::Constant => self.shares,
            Arrivals::Poisson => self.shares * self.chance.exponential(),
        };
        self.due = self.solve();
    }

    /// Solves `from·t + slope·t²/2 = position`, in the form that does not cancel.
    fn solve(&self) -> Option<Instant> {
        let root = (self.from * self.from + 2.0 * self.slope * self.position).sqrt();
        let time =
            if self.position == 0.0 { 0.0 } else { 2.0 * self.position / (self.from + root) };
        // A falling rate never reaches some positions: the root is no number then.
        if time.is_nan() || time >= self.seconds {
            return None;
        }
        Some(self.start.after(Duration::from_secs_f64(time)))
    }
}

/// A seeded source of chance (SplitMix64). Good enough to space requests.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// More than 0, up to 1.
    pub(super) fn uniform(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
        let uniform = ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        uniform
    }

    /// With a mean of 1.
    fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Instant = Instant::from_nanos(1_000_000_000);

    fn times(arrivals: Arrivals, from: f64, to: f64, shares: u32, millis: u64) -> Vec<f64> {
        let mut all = Vec::new();
        for index in 0..shares {
            let duration = Duration::from_millis(millis);
            let mut one = Schedule::new((arrivals, from, to), (index, shares), START, duration, 7);
            while let Some(due) = one.due() {
                all.push(due.since(START).as_secs_f64() * 1e3);
                one.advance();
            }
        }
        all.sort_by(f64::total_cmp);
        all
    }

    /// Due times in milliseconds.
    #[track_caller]
    fn check(from: f64, to: f64, shares: u32, millis: u64, want: &[f64]) {
        let got = times(Arrivals::Constant, from, to, shares, millis);
        assert_eq!(got.len(), want.len(), "{got:?}");
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < 0.001, "{got} is not {want}");
        }
    }

    #[test]
    fn a_fixed_rate_is_even_whatever_the_number_of_threads() {
        for shares in 1..=3 {
            check(1000.0, 1000.0, shares, 5, &[0.0, 1.0, 2.0, 3.0, 4.0]);
        }
    }

    #[test]
    fn a_ramp_is_due_when_its_integral_reaches_the_next_whole_number() {
        // From 0 to 10 a second in a second: t²·5 = k.
        check(0.0, 10.0, 1, 1000, &[0.0, 447.214, 632.456, 774.597, 894.427]);
        // From 10 to 0: 10t − 5t² = k.
        check(10.0, 0.0, 2, 1000, &[0.0, 105.573, 225.403, 367.544, 552.786]);
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        let times = times(Arrivals::Poisson, 20_000.0, 20_000.0, 2, 5_000);
        let gaps: Vec<f64> = times.windows(2).map(|two| two[1] - two[0]).collect();
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let (count, total) = (gaps.len() as f64, gaps.iter().sum::<f64>());
        let mean = total / count;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
        assert!((99_000.0..101_000.0).contains(&count), "{count} in 5 s");
        // Of an exponential distribution the deviation equals the mean.
        assert!((0.98..1.02).contains(&(variance.sqrt() / mean)), "{} to {mean}", variance.sqrt());
    }

    proptest! {
        #[test]
        fn as_many_are_due_as_the_rate_says(
            from in 0.0..5000.0_f64, to in 0.0..5000.0_f64, shares in 1u32..5,
        ) {
            let count = times(Arrivals::Constant, from, to, shares, 1000).len();
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let error = (count as f64 - f64::midpoint(from, to)).abs();
            prop_assert!(error <= 2.0, "{count} from {from} to {to}");
        }
    }
}
