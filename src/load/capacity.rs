//! Searches for the highest rate that a server holds. Pure: it is told of trials, and says which
//! rate to try next.

use super::pace::Arrivals;
use super::tally::Half;

/// What came of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// The rate was reached, and every gate was kept.
    Held,
    /// It was not, or one was broken.
    Broken,
}

/// The search. Doubles the rate until it breaks, then halves the gap between the highest that held
/// and the lowest that broke. A rate counts as broken when it broke twice: one hiccup of the
/// machine must not end the search far below the truth.
#[derive(Clone, Debug)]
pub struct Capacity {
    held: Option<f64>,
    broken: Option<f64>,
    next: f64,
    /// The next rate broke once already.
    suspect: bool,
    trials: u32,
    precision: f64,
}

/// Trials after which the search ends, whatever it knows.
const TRIALS_MAX: u32 = 40;
/// Below one request a second there is nothing to find.
const RATE_MIN: f64 = 1.0;
const RATE_MAX: f64 = 1e9;

impl Capacity {
    /// Begins at this rate, in requests a second, and ends when the answer is known to so small a
    /// part of it: 0.02 for two in a hundred.
    #[must_use]
    pub fn new(start: f64, precision: f64) -> Self {
        let next = start.clamp(RATE_MIN, RATE_MAX);
        let precision = precision.clamp(0.001, 0.5);
        Self { held: None, broken: None, next, suspect: false, trials: 0, precision }
    }

    /// The rate to try next; `None`: the search is over.
    #[must_use]
    pub fn next(&self) -> Option<f64> {
        let known = match (self.held, self.broken) {
            (Some(held), Some(broken)) => broken - held <= self.precision * held,
            (None, Some(broken)) => broken <= RATE_MIN,
            (Some(held), None) => held >= RATE_MAX,
            (None, None) => false,
        };
        (!known && self.trials < TRIALS_MAX).then_some(self.next)
    }

    /// What came of it.
    pub fn tell(&mut self, trial: Trial) {
        self.trials += 1;
        match trial {
            Trial::Broken if !self.suspect => {
                self.suspect = true;
                return;
            }
            Trial::Broken => self.broken = Some(self.next),
            Trial::Held => self.held = Some(self.next),
        }
        self.suspect = false;
        self.next = match (self.held, self.broken) {
            // The middle as people see it: twice as much is as far as half as much.
            (Some(held), Some(broken)) => (held * broken).sqrt(),
            (Some(held), None) => (held * 2.0).min(RATE_MAX),
            (None, Some(broken)) => (broken / 2.0).max(RATE_MIN),
            (None, None) => self.next,
        };
    }

    /// The highest rate that held; `None`: none did.
    #[must_use]
    pub fn found(&self) -> Option<f64> {
        self.held
    }

    /// How many trials there were.
    #[must_use]
    pub fn trials(&self) -> u32 {
        self.trials
    }
}

impl Half {
    /// Whether the server kept up: as many right replies came as requests were due, but for 2 % and
    /// one. What is on its way at the end was on its way at the start too, however much that is: of
    /// a server that keeps up it does not grow. By chance it does a little where arrivals are by
    /// chance. (So half of the measured time must be longer than a reply takes, or all the time
    /// shorter than the warm-up.)
    #[must_use]
    pub fn is_kept_up_with(self, arrivals: Arrivals) -> bool {
        let chance = match arrivals {
            Arrivals::Constant => 0,
            Arrivals::Poisson => self.due.isqrt(),
        };
        (self.replies + chance + 1) * 100 >= self.due * 98
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Searches on a server that holds `ceiling`, but for these trials, which break anyhow.
    fn search(start: f64, ceiling: f64, hiccups: &[u32]) -> Capacity {
        let mut capacity = Capacity::new(start, 0.02);
        while let Some(rate) = capacity.next() {
            let held = rate <= ceiling && !hiccups.contains(&capacity.trials());
            capacity.tell(if held { Trial::Held } else { Trial::Broken });
        }
        capacity
    }

    proptest! {
        #[test]
        fn the_ceiling_is_found_from_anywhere(
            start in 1.0..1e6_f64, ceiling in 2.0..1e6_f64, hiccup in 0u32..20,
        ) {
            let capacity = search(start, ceiling, &[hiccup]);
            let found = capacity.found().unwrap();
            prop_assert!(found <= ceiling && found * 1.0201 >= ceiling, "{found} of {ceiling}");
            prop_assert!(capacity.trials() < TRIALS_MAX);
        }
    }

    proptest! {
        /// Trials of two seconds, on a server that replies to no more than `ceiling` a second.
        #[test]
        fn a_server_that_only_just_keeps_up_is_told_from_one_that_does_not(
            start in 1.0..1e5_f64, ceiling in 200.0..1e5_f64,
        ) {
            let mut capacity = Capacity::new(start, 0.02);
            while let Some(rate) = capacity.next() {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
                let half = Half { due: rate as u64, replies: rate.min(ceiling) as u64 };
                let held = half.is_kept_up_with(Arrivals::Constant);
                capacity.tell(if held { Trial::Held } else { Trial::Broken });
            }
            let found = capacity.found().unwrap() / ceiling;
            prop_assert!((0.95..=1.05).contains(&found), "{}", found);
        }
    }

    #[test]
    fn a_backlog_that_grows_is_no_capacity() {
        let held = |due, replies, arrivals| Half { due, replies }.is_kept_up_with(arrivals);
        assert!(held(500, 500, Arrivals::Constant));
        assert!(held(500, 489, Arrivals::Constant));
        assert!(!held(542, 500, Arrivals::Constant), "whatever the connections could hold");
        assert!(held(520, 500, Arrivals::Poisson) && !held(542, 500, Arrivals::Poisson));
        assert!(held(1, 0, Arrivals::Constant) && !held(10, 0, Arrivals::Constant));
    }

    #[test]
    fn a_server_that_holds_nothing_has_no_capacity() {
        assert_eq!(search(1000.0, 0.0, &[]).found(), None);
    }

    #[test]
    fn the_steps_are_these() {
        let mut capacity = Capacity::new(100.0, 0.1);
        let mut steps = Vec::new();
        while let Some(rate) = capacity.next() {
            steps.push(rate.round());
            capacity.tell(if rate <= 300.0 { Trial::Held } else { Trial::Broken });
        }
        let want = [100.0, 200.0, 400.0, 400.0, 283.0, 336.0, 336.0, 308.0, 308.0];
        assert_eq!(steps, want);
        assert_eq!(capacity.found().map(f64::round), Some(283.0));
    }
}
