//! The closed sets of words in a `ServiceInstance`: states, phases, lease modes, health, protocols.
//!
//! Owns their spelling. What follows from a word is decided in `registry`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The operator's word about an instance. A registration over HTTP never overwrites it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum State {
    /// In service.
    #[default]
    Up,
    /// Finishes what it has; gets nothing new.
    Draining,
    /// Taken out of service.
    OutOfService,
}

/// Which life an instance has.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum LeaseMode {
    /// Alive as long as it beats.
    Heartbeat,
    /// Alive as long as its object exists.
    Permanent,
}

/// What becomes of the object after its lease has ended.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum OnExpiry {
    /// The object stays, as Expired.
    #[default]
    Retain,
    /// The object is deleted `evictAfterSeconds` later.
    Evict,
}

/// What an instance says of itself in the annotation `rollcall.dev/health`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum Health {
    /// Well. Also what holds when nothing is said.
    #[default]
    Passing,
    /// Works, but wants attention; still discovered by default.
    Warning,
    /// Does not work; not discovered by default.
    Critical,
}

/// What rollcall has found an instance to be: the first word that applies.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub enum Phase {
    /// Its lease has ended.
    Expired,
    /// Its operator took it out of service.
    OutOfService,
    /// Its operator lets it finish.
    Draining,
    /// It reports that it does not work.
    Critical,
    /// It reports that it wants attention.
    Warning,
    /// It serves.
    Ready,
}

/// The transport protocol of a port.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum Protocol {
    /// Transmission Control Protocol.
    #[default]
    TCP,
    /// User Datagram Protocol.
    UDP,
    /// Stream Control Transmission Protocol.
    SCTP,
}

/// A value of the health annotation that is no word of [`Health`].
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("unknown health {0:?}: say Passing, Warning or Critical")]
pub struct UnknownHealth(
    /// What was said, cut to 63 characters so that a log line stays a line.
    pub String,
);

impl Health {
    /// The word as it stands in the annotation.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "Passing",
            Self::Warning => "Warning",
            Self::Critical => "Critical",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Health {
    type Err = UnknownHealth;

    fn from_str(word: &str) -> Result<Self, UnknownHealth> {
        match word {
            "Passing" => Ok(Self::Passing),
            "Warning" => Ok(Self::Warning),
            "Critical" => Ok(Self::Critical),
            other => Err(UnknownHealth(other.chars().take(63).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_health_reads_back_as_it_was_written() {
        for health in [Health::Passing, Health::Warning, Health::Critical] {
            assert_eq!(health.to_string().parse(), Ok(health));
            assert_eq!(serde_json::to_value(health).unwrap(), health.as_str());
        }
    }

    #[test]
    fn an_unknown_health_names_itself_and_the_known_words() {
        let error = "passing".parse::<Health>().unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"unknown health "passing": say Passing, Warning or Critical"#
        );
    }
}
