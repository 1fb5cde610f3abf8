//! Values of options as text: durations, sizes, switches. Pure.

use super::ConfigError;
use std::time::Duration;

pub(super) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) const DAY: Duration = secs(86_400);
pub(super) const YEAR: Duration = secs(365 * 86_400);
pub(super) const MILLI: Duration = Duration::from_millis(1);
pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;

/// A value of the table: how it is read, shown and bounded.
pub(super) trait Value: Sized + Copy + PartialOrd {
    const FORM: &'static str;
    fn parse(text: &str) -> Option<Self>;
    fn show(self) -> String;
}

impl Value for Duration {
    const FORM: &'static str = "a duration such as 5s, 250ms or 2m";

    fn parse(text: &str) -> Option<Self> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let count: u64 = text[..digits].parse().ok()?;
        match &text[digits..] {
            "ms" => Some(Self::from_millis(count)),
            "s" => Some(Self::from_secs(count)),
            "m" => Some(Self::from_secs(count.checked_mul(60)?)),
            "h" => Some(Self::from_secs(count.checked_mul(3600)?)),
            "" if count == 0 => Some(Self::ZERO),
            _ => None,
        }
    }

    fn show(self) -> String {
        if self.subsec_millis() == 0 {
            format!("{}s", self.as_secs())
        } else {
            format!("{}ms", self.as_millis())
        }
    }
}

impl Value for u64 {
    const FORM: &'static str = "a number, or a size such as 16k or 10m";

    fn parse(text: &str) -> Option<Self> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let count: Self = text[..digits].parse().ok()?;
        match &text[digits..] {
            "" => Some(count),
            "k" => count.checked_mul(1 << 10),
            "m" => count.checked_mul(1 << 20),
            "g" => count.checked_mul(1 << 30),
            _ => None,
        }
    }

    fn show(self) -> String {
        self.to_string()
    }
}

impl Value for bool {
    const FORM: &'static str = "true or false";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(self) -> String {
        self.to_string()
    }
}

/// The value, if it is in its range.
pub(super) fn bounded<T: Value>(name: &str, value: T, low: T, high: T) -> Result<T, ConfigError> {
    if value >= low && value <= high {
        return Ok(value);
    }
    Err(ConfigError {
        option: name.to_owned(),
        value: value.show(),
        expected: format!("{} to {}", low.show(), high.show()),
    })
}
