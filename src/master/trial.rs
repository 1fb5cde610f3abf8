//! Whether new workers that serve on trial do as well as the others. Pure.

use crate::config::Config;
use crate::ipc::board::{Line, Times};
use crate::stats::Counter;
use std::time::Duration;

/// What workers did in some time, by their counters on the board.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Requests answered.
    pub responses: u64,
    /// Of those, with a status of 500 and more.
    pub errors: u64,
    /// How long they took.
    pub times: Times,
}

impl Sample {
    /// All that a worker has done.
    #[must_use]
    pub fn of(line: &Line) -> Self {
        let (responses, errors) = (line.get(Counter::Responses), line.get(Counter::ServerErrors));
        Self { responses, errors, times: line.times() }
    }

    /// What was done since an earlier one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            responses: self.responses.saturating_sub(earlier.responses),
            errors: self.errors.saturating_sub(earlier.errors),
            times: self.times.since(&earlier.times),
        }
    }

    /// Of two workers together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            responses: self.responses + other.responses,
            errors: self.errors + other.errors,
            times: self.times.plus(&other.times),
        }
    }

    /// Errors in a thousand answers.
    fn error_permille(&self) -> u64 {
        self.errors.saturating_mul(1000).checked_div(self.responses).unwrap_or(0)
    }
}

/// What is asked of those on trial, besides errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Their p99 may be so long; zero: as long as it likes.
    pub p99: Duration,
    /// Their p99 may be so many times that of the others; 0: any.
    pub slowdown: u64,
}

impl Limits {
    /// Of this configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { p99: config.canary_p99(), slowdown: config.canary_slowdown() }
    }
}

/// Compares those on trial with the others, which served at the same time.
///
/// # Errors
///
/// Their share of errors is more than a hundredth above that of the others, or their answers take
/// too long.
pub fn judge(trial: &Sample, others: &Sample, limits: Limits) -> Result<(), String> {
    let (new, old) = (trial.error_permille(), others.error_permille());
    if new > old + ERRORS_PERMILLE {
        return Err(format!(
            "on trial {} of {} answers were errors, of the old workers {} of {}",
            trial.errors, trial.responses, others.errors, others.responses
        ));
    }
    // A time is known to lie between two: whoever may be right is not refused.
    let ((new, _), (_, old)) = (trial.times.p99(), others.times.p99());
    let enough = |times: &Times| times.count() >= ANSWERS_MIN;
    if !enough(&trial.times) {
        return Ok(());
    }
    if !limits.p99.is_zero() && new >= limits.p99 {
        return Err(format!("on trial p99 was {new:.1?}; canary_p99 allows {:?}", limits.p99));
    }
    let most = old.saturating_mul(u32::try_from(limits.slowdown).unwrap_or(u32::MAX));
    if limits.slowdown > 0 && enough(&others.times) && new >= most.max(old + NOISE) {
        return Err(format!(
            "on trial p99 was {new:.1?}, of the old workers {old:.1?}; canary_slowdown allows {} \
             times as much",
            limits.slowdown
        ));
    }
    Ok(())
}

/// How much larger the share of errors may be: one in a hundred.
const ERRORS_PERMILLE: u64 = 10;
/// So many answers say something of the time that they take.
const ANSWERS_MIN: u64 = 20;
/// A difference that a busy machine makes.
const NOISE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(trial: (u64, u64), others: (u64, u64), want: bool) {
        let sample = |(responses, errors)| Sample { responses, errors, ..Sample::default() };
        let verdict = judge(&sample(trial), &sample(others), Limits::default());
        assert_eq!(verdict.is_ok(), want, "{trial:?} {others:?} {verdict:?}");
    }

    #[test]
    fn errors_are_compared_by_their_share() {
        check((0, 0), (0, 0), true);
        check((1000, 10), (1000, 0), true);
        check((1000, 11), (1000, 0), false);
        check((1000, 500), (10, 5), true);
        check((1, 1), (1000, 10), false);
        check((1000, 0), (1000, 1000), true);
    }

    /// So many answers of so many milliseconds, with limits in milliseconds and times.
    #[track_caller]
    fn check_p99(trial: (u64, u64), others: (u64, u64), p99: u64, slowdown: u64, want: &str) {
        let sample = |(count, millis)| {
            let mut times = Times::default();
            (0..count).for_each(|_| times.add(Duration::from_millis(millis)));
            Sample { responses: count, errors: 0, times }
        };
        let limits = Limits { p99: Duration::from_millis(p99), slowdown };
        let verdict = judge(&sample(trial), &sample(others), limits);
        let says = verdict.err().unwrap_or_default();
        assert_eq!(says.split(' ').next_back().unwrap(), want, "{says}");
    }

    #[test]
    fn slower_answers_are_refused_when_it_is_sure() {
        check_p99((100, 60), (100, 1), 0, 0, "");
        check_p99((100, 60), (100, 1), 50, 0, "50ms");
        check_p99((100, 50), (100, 1), 50, 0, "");
        check_p99((100, 60), (100, 1), 0, 3, "much");
        check_p99((100, 60), (100, 60), 0, 3, "");
        check_p99((100, 60), (100, 30), 0, 3, "");
        // Too few, on either side.
        check_p99((19, 60), (100, 1), 50, 3, "");
        check_p99((100, 60), (19, 1), 0, 3, "");
        check_p99((100, 60), (0, 0), 50, 3, "50ms");
        // A busy machine.
        check_p99((100, 9), (100, 1), 0, 3, "");
    }
}
