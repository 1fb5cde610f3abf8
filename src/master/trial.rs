//! Whether new workers that serve on trial do as well as the others. Pure.

/// What workers did in some time, by their counters on the board.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Requests answered.
    pub responses: u64,
    /// Of those, with a status of 500 and more.
    pub errors: u64,
}

impl Sample {
    /// What was done since an earlier one.
    #[must_use]
    pub const fn since(self, earlier: &Self) -> Self {
        Self {
            responses: self.responses.saturating_sub(earlier.responses),
            errors: self.errors.saturating_sub(earlier.errors),
        }
    }

    /// Of two workers together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { responses: self.responses + other.responses, errors: self.errors + other.errors }
    }

    /// Errors in a thousand answers.
    fn error_permille(self) -> u64 {
        self.errors.saturating_mul(1000).checked_div(self.responses).unwrap_or(0)
    }
}

/// Compares those on trial with the others, which served at the same time.
///
/// # Errors
///
/// Their share of errors is more than a hundredth above that of the others.
pub fn judge(trial: &Sample, others: &Sample) -> Result<(), String> {
    let (new, old) = (trial.error_permille(), others.error_permille());
    if new > old + ERRORS_PERMILLE {
        return Err(format!(
            "on trial {} of {} answers were errors, of the old workers {} of {}",
            trial.errors, trial.responses, others.errors, others.responses
        ));
    }
    Ok(())
}

/// How much larger the share of errors may be: one in a hundred.
const ERRORS_PERMILLE: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(trial: (u64, u64), others: (u64, u64), want: bool) {
        let sample = |(responses, errors)| Sample { responses, errors };
        let verdict = judge(&sample(trial), &sample(others));
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
}
