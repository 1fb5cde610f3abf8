//! Weights as text. Pure.

use super::ConfigError;
use super::value::Value;

pub(super) fn weight(text: &str) -> Option<u32> {
    u32::try_from(<u64 as Value>::parse(text)?).ok()
}

pub(super) fn show_weights(weights: &[u32]) -> String {
    weights.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

pub(super) fn wrong_weights(value: &str) -> ConfigError {
    let expected = format!("up to 1024 numbers of 0 to {WEIGHT_MAX}, such as 3,1,1");
    ConfigError { option: "weights".to_owned(), value: value.to_owned(), expected }
}

/// So large that no proportion needs more.
pub(super) const WEIGHT_MAX: u32 = 1_000_000;
