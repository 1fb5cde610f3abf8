//! Whether B differs from A by more than A differs from itself. Pure statistics, without any
//! assumption about how figures are spread: only signs and ranks count.
//!
//! A round measures A, A again, and B. B is held against the mean of both As, and A against itself.
//! There is a verdict only if nearly all rounds agree on the direction (sign test, two-sided, at
//! [`LEVEL`]) *and* the median change exceeds the noise floor: the bound that, at the same level,
//! A's median difference from itself stays within.

/// How often at most nearly all rounds agree by chance alone.
pub const LEVEL: f64 = 0.0005;

/// With fewer rounds than this even full agreement may be chance.
pub const ROUNDS_MIN: usize = 12;

/// One figure, lower or higher is better, as one round measured it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Round {
    /// Of A.
    pub a: f64,
    /// Of A once more: what differs here is noise.
    pub again: f64,
    /// Of B.
    pub b: f64,
}

/// What the rounds say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// B's figure is higher than A's.
    Higher,
    /// It is lower.
    Lower,
    /// Nothing that could not be noise.
    None,
}

/// How B's figure differs from A's. Parts of A's: 0.1 is a tenth more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The median.
    pub change: f64,
    /// Where the true one is, but for [`LEVEL`].
    pub between: (f64, f64),
    /// What A's difference from itself stays within.
    pub floor: f64,
    /// Rounds in which B's was higher.
    pub higher: usize,
    /// Rounds in all.
    pub rounds: usize,
    /// What follows.
    pub verdict: Verdict,
}

/// `None`: too few rounds, or a figure that is no positive number.
#[must_use]
pub fn judge(rounds: &[Round]) -> Option<Difference> {
    let fine = |figure: f64| figure.is_finite() && figure > 0.0;
    let all_fine = rounds.iter().all(|round| fine(round.a) && fine(round.again) && fine(round.b));
    if rounds.len() < ROUNDS_MIN || !all_fine {
        return None;
    }
    let sorted = |of: fn(&Round) -> f64| {
        let mut logs: Vec<f64> = rounds.iter().map(of).collect();
        logs.sort_by(f64::total_cmp);
        logs
    };
    // Of logarithms, so that twice as much is as far as half as much.
    let changes = sorted(|round| round.b.ln() - f64::midpoint(round.a.ln(), round.again.ln()));
    let noise = sorted(|round| round.again.ln() - round.a.ln());
    let cut = cut(rounds.len());
    let ends = |logs: &[f64]| (logs[cut], logs[logs.len() - 1 - cut]);
    let ((low, high), (below, above)) = (ends(&changes), ends(&noise));
    let (median, floor) = (middle(&changes), below.abs().max(above.abs()));
    let verdict = match median.abs() > floor {
        true if low > 0.0 => Verdict::Higher,
        true if high < 0.0 => Verdict::Lower,
        _ => Verdict::None,
    };
    Some(Difference {
        change: median.exp_m1(),
        between: (low.exp_m1(), high.exp_m1()),
        floor: floor.exp_m1(),
        higher: changes.iter().filter(|change| **change > 0.0).count(),
        rounds: rounds.len(),
        verdict,
    })
}

/// How many rounds at either end may disagree: the most for which that is rarer than [`LEVEL`] if
/// either sign is as likely.
fn cut(rounds: usize) -> usize {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let count = rounds as f64;
    // The chance of 0, 1, 2 … coins of all showing heads.
    let (mut chance, mut tails, mut cut) = (0.5_f64.powf(count), 0.0, 0.0);
    while 2.0 * (tails + chance) <= LEVEL {
        tails += chance;
        chance *= (count - cut) / (cut + 1.0);
        cut += 1.0;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small, positive")]
    let cut = cut as usize;
    cut.saturating_sub(1)
}

/// The median of sorted numbers; of none: no number.
#[must_use]
pub fn middle(sorted: &[f64]) -> f64 {
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    f64::midpoint(at(sorted.len().saturating_sub(1) / 2), at(sorted.len() / 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::pace::Chance;

    /// Figures around 100 with this deviation, a slow drift, and now and then a spike; B's are so
    /// much higher.
    fn rounds(count: u32, noise: f64, planted: f64, chance: &mut Chance) -> Vec<Round> {
        let figure = |drift: f64, chance: &mut Chance| {
            let normal = (0..12).map(|_| chance.uniform()).sum::<f64>() - 6.0;
            let spike = if chance.uniform() < 0.02 { 1.5 } else { 1.0 };
            100.0 * (drift + noise * normal).exp() * spike
        };
        (0..count)
            .map(|round| {
                let drift = 0.1 * f64::from(round) / f64::from(count);
                let [a, again, b] = [(); 3].map(|()| figure(drift, chance));
                Round { a, again, b: b * (1.0 + planted) }
            })
            .collect()
    }

    fn verdicts(runs: u32, noise: f64, planted: f64, want: Verdict) -> u32 {
        let mut chance = Chance::new(5);
        let mut run = || judge(&rounds(25, noise, planted, &mut chance)).unwrap().verdict == want;
        (0..runs).map(|_| u32::from(run())).sum()
    }

    #[test]
    fn a_against_a_gets_no_verdict() {
        assert_eq!(verdicts(20, 0.05, 0.0, Verdict::None), 20);
        // Nor does it a hundred times as often, but for what the level allows.
        for noise in [0.005, 0.05, 0.3] {
            let none = verdicts(2000, noise, 0.0, Verdict::None);
            assert!(none >= 1999, "{none} at {noise}");
        }
    }

    #[test]
    fn a_planted_slowdown_of_a_tenth_is_found() {
        // Spikes in 4 of 25 rounds of A against itself raise the floor above it: rare. With 4 % of
        // noise a round, a tenth is near what 25 rounds can tell.
        for (noise, least) in [(0.01, 950), (0.02, 950), (0.04, 700)] {
            let found = verdicts(1000, noise, 0.10, Verdict::Higher);
            assert!(found >= least, "{found} at {noise}");
            let found = verdicts(1000, noise, -0.10, Verdict::Lower);
            assert!(found >= least, "{found} at {noise}");
        }
        assert_eq!(verdicts(1000, 0.04, 0.10, Verdict::Lower), 0);
    }

    #[test]
    fn a_change_below_the_noise_is_none() {
        // B is 2 % higher in every round, but A differs from itself by 3 %.
        let round = |sign: f64| Round { a: 100.0, again: 100.0 * sign, b: 102.0 * sign.sqrt() };
        let rounds: Vec<Round> =
            (0..24).map(|at| round(if at % 2 == 0 { 1.03 } else { 1.0 / 1.03 })).collect();
        let got = judge(&rounds).unwrap();
        assert_eq!((got.higher, got.rounds, got.verdict), (24, 24, Verdict::None));
        assert!((got.change - 0.02).abs() < 1e-9 && (got.floor - 0.03).abs() < 1e-9, "{got:?}");
        // Without that noise it is a verdict.
        let rounds = vec![Round { a: 100.0, again: 100.0, b: 102.0 }; 12];
        let got = judge(&rounds).unwrap();
        assert_eq!((got.verdict, got.floor), (Verdict::Higher, 0.0));
        assert!((got.between.0 - 0.02).abs() < 1e-9, "{got:?}");
    }

    #[test]
    fn too_few_rounds_and_figures_that_are_none_say_nothing() {
        let fine = Round { a: 1.0, again: 1.0, b: 2.0 };
        assert_eq!(judge(&[fine; ROUNDS_MIN - 1]), None);
        for b in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let mut rounds = vec![fine; 30];
            rounds[7].b = b;
            assert_eq!(judge(&rounds), None);
        }
        assert!(middle(&[]).is_nan());
    }

    #[test]
    fn rounds_that_may_disagree() {
        // By the binomial distribution: 2·2⁻¹² = 0.0005; 2·(1+25+300+2300)·2⁻²⁵ = 0.00016.
        let cuts = [12, 13, 15, 16, 20, 25, 100].map(cut);
        assert_eq!(cuts, [0, 0, 0, 0, 2, 3, 32]);
    }
}
