//! The one source of chance, seeded, in integers. Pure.

/// How often something happens: `numerator` times in `denominator`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    numerator: u32,
    denominator: u32,
}

impl Ratio {
    /// It does not happen.
    pub const NEVER: Self = Self { numerator: 0, denominator: 1 };

    /// So often; `denominator` must not be zero.
    #[must_use]
    pub const fn new(numerator: u32, denominator: u32) -> Self {
        assert!(denominator > 0, "a ratio needs a whole");
        Self { numerator, denominator }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, fast, and every seed is a good one.
#[derive(Clone, Debug)]
pub struct Prng(u64);

impl Prng {
    /// The same seed gives the same numbers, for ever.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "an empty range");
        let span = u128::from(high - low) + 1;
        let scaled = (u128::from(self.bits()) * span) >> 64;
        low + u64::try_from(scaled).expect("it is below a span of 64 bits")
    }

    /// An index into something of this length, which must not be zero.
    pub fn index(&mut self, length: usize) -> usize {
        assert!(length > 0, "nothing to choose from");
        let index = self.range(0, length as u64 - 1);
        usize::try_from(index).expect("it is below a usize")
    }

    /// Whether it happens this time.
    pub fn chance(&mut self, ratio: Ratio) -> bool {
        ratio.numerator > 0
            && self.range(1, u64::from(ratio.denominator)) <= u64::from(ratio.numerator)
    }

    /// A source of its own, so that more chance here does not change the numbers there.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self(self.bits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_reached_at_both_ends_and_never_left() {
        let mut prng = Prng::new(7);
        let drawn: Vec<u64> = (0..1000).map(|_| prng.range(3, 6)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&3), Some(&6)));
        assert_eq!(prng.range(u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn a_ratio_is_kept_on_average() {
        let mut prng = Prng::new(1);
        let hits = (0..10_000).filter(|_| prng.chance(Ratio::new(1, 4))).count();
        assert!((2_300..2_700).contains(&hits), "{hits}");
        assert!(!(0..1000).any(|_| prng.chance(Ratio::NEVER)));
        assert!((0..1000).all(|_| prng.chance(Ratio::new(1, 1))));
    }
}
