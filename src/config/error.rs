//! What is wrong with a setting.

use crate::error::{Error, ErrorKind};
use std::fmt;

/// What is wrong with a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Which option.
    pub option: String,
    /// What it was set to.
    pub value: String,
    /// What it takes.
    pub expected: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:?}: expected {}", self.option, self.value, self.expected)
    }
}

impl std::error::Error for ConfigError {}

impl From<ConfigError> for Error {
    fn from(wrong: ConfigError) -> Self {
        Self::new(ErrorKind::Config, wrong.to_string())
            .with("option", &wrong.option)
            .with("value", &wrong.value)
            .because(wrong)
    }
}
