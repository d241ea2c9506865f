//! Errors about flags, and the check that returns them. Does not own: the flags (`config`).

use thiserror::Error;

/// A flag that is invalid or missing.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The value of the flag is invalid.
    #[error("--{flag} {value:?} cannot be used: {fix}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// The invalid value.
        value: String,
        /// What to give instead.
        fix: &'static str,
    },
    /// The flag is missing although another flag requires it.
    #[error("--{flag} is missing: {fix}")]
    Missing {
        /// The flag.
        flag: &'static str,
        /// What to give.
        fix: &'static str,
    },
}

/// Returns an error unless `is_valid`.
pub(super) fn check(
    flag: &'static str,
    value: &str,
    is_valid: bool,
    fix: &'static str,
) -> Result<(), ConfigError> {
    if is_valid { Ok(()) } else { Err(ConfigError::Value { flag, value: value.to_owned(), fix }) }
}

pub(super) fn missing(flag: &'static str, fix: &'static str) -> ConfigError {
    ConfigError::Missing { flag, fix }
}
