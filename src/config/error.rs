//! A flag that cannot be used, and the check that finds it. Does not own: which flags there are (`config`).

use thiserror::Error;

/// A flag that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// Its value cannot be used.
    #[error("--{flag} {value:?} cannot be used: {fix}")]
    Value {
        /// Which.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What to give instead.
        fix: &'static str,
    },
    /// It is missing beside another.
    #[error("--{flag} is missing: {fix}")]
    Missing {
        /// Which.
        flag: &'static str,
        /// What to give.
        fix: &'static str,
    },
}

/// An error unless the value fits.
pub(super) fn check(
    flag: &'static str,
    value: &str,
    fits: bool,
    fix: &'static str,
) -> Result<(), ConfigError> {
    if fits { Ok(()) } else { Err(ConfigError::Value { flag, value: value.to_owned(), fix }) }
}

/// The error that a flag is missing.
pub(super) fn missing(flag: &'static str, fix: &'static str) -> ConfigError {
    ConfigError::Missing { flag, fix }
}
