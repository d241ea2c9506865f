//! Vocabularies: the closed sets of values for states, healths, phases, protocols, lease modes and expiry
//! actions.
//!
//! Owns: the single spelling of each value in manifests, annotations, HTTP and metrics. Does not own: whether
//! a lease has ended (`rollcall-core`), and the defaults that depend on how an object was created
//! (`defaults`).

use std::{error::Error, fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares a vocabulary: an enum, the text of each value, and a parser.
macro_rules! vocabulary {
    ($(#[$of_enum:meta])* $name:ident { $($(#[$of_variant:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$of_enum])*
        #[derive(
            Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
        )]
        pub enum $name { $($(#[$of_variant])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            /// All values, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The text of the value in manifests, HTTP and metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Parses the text of a value; `None` if it is not in this vocabulary.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }

            /// The values as a list in a sentence: `a, b or c`.
            #[must_use]
            pub fn listed() -> String {
                listed(&[$($word,)+])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.as_str()) }
        }
    };
}

vocabulary! {
    /// The operator's setting for an instance. A registration over HTTP does not change it, except that
    /// `Draining` becomes `Up` if another pod takes the instance over.
    #[derive(Default)]
    State {
        /// In service.
        #[default]
        Up = "Up",
        /// Finishing its work; not discoverable.
        Draining = "Draining",
        /// Taken out of service; not discoverable.
        OutOfService = "OutOfService",
    }
}

vocabulary! {
    /// The health that an instance reports in the annotation `rollcall.dev/health`.
    #[derive(Default)]
    Health {
        /// Healthy. Also the value if nothing was reported.
        #[default]
        Passing = "Passing",
        /// Impaired; still discoverable.
        Warning = "Warning",
        /// Unusable; not discoverable.
        Critical = "Critical",
    }
}

vocabulary! {
    /// What an instance reports: a health, or that it is leaving, which takes precedence over its health.
    HealthReport {
        /// Healthy, and not leaving any more if it was.
        Passing = "Passing",
        /// Impaired.
        Warning = "Warning",
        /// Unusable.
        Critical = "Critical",
        /// Leaving: finishes its work, and is not discoverable until it reports Passing.
        Stopping = "Stopping",
    }
}

vocabulary! {
    /// The phase of an instance: the first that applies.
    Phase {
        /// The object is being deleted, and finalizers keep it.
        Terminating = "Terminating",
        /// Its lease has ended.
        Expired = "Expired",
        /// An operator took it out of service.
        OutOfService = "OutOfService",
        /// An operator is draining it.
        Draining = "Draining",
        /// It reports that it is leaving.
        Stopping = "Stopping",
        /// It reports that it is unusable.
        Critical = "Critical",
        /// It reports that it is impaired.
        Warning = "Warning",
        /// It is healthy.
        Ready = "Ready",
    }
}

vocabulary! {
    /// Transport protocol of a port.
    #[derive(Default)]
    Protocol {
        /// Transmission Control Protocol.
        #[default]
        Tcp = "TCP",
        /// User Datagram Protocol.
        Udp = "UDP",
        /// Stream Control Transmission Protocol.
        Sctp = "SCTP",
    }
}

vocabulary! {
    /// What keeps an instance live.
    LeaseMode {
        /// Live as long as heartbeats arrive.
        Heartbeat = "Heartbeat",
        /// Live as long as its object exists.
        Permanent = "Permanent",
    }
}

vocabulary! {
    /// What happens to the object of an expired instance.
    OnExpiry {
        /// It stays with the phase Expired, and a heartbeat can revive it.
        Retain = "Retain",
        /// It is deleted `evictAfterSeconds` later.
        Evict = "Evict",
    }
}

vocabulary! {
    /// The type of a condition in the status that rollcall writes.
    ConditionType {
        /// Whether the instance is discoverable.
        Ready = "Ready",
        /// The health annotation has a value outside the vocabulary.
        UnknownHealth = "UnknownHealth",
        /// Another live instance has one of its addresses with the same port.
        AddressShared = "AddressShared",
    }
}

/// How many characters of an unknown value are shown. The value can be any text of any length.
const SHOWN: usize = 63;

/// A value of the health annotation that is outside the vocabulary, cut to 63 characters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnknownHealth(pub Arc<str>);

impl fmt::Display for UnknownHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown health {:?} counts as Warning: write {} (case does not matter; {} are accepted, too)",
            self.0,
            HealthReport::listed(),
            HealthReport::ALIASES.map(|(word, _)| word).join(", ")
        )
    }
}

impl Error for UnknownHealth {}

impl HealthReport {
    /// Values of other registries, and their meaning here.
    const ALIASES: [(&'static str, Self); 5] = [
        ("UP", Self::Passing),
        ("DOWN", Self::Critical),
        ("OUT_OF_SERVICE", Self::Critical),
        ("STARTING", Self::Critical),
        ("MAINTENANCE", Self::Critical),
    ];

    /// The health that is reported; `None` if the instance reports only that it is stopping.
    #[must_use]
    pub const fn health(self) -> Option<Health> {
        match self {
            Self::Passing => Some(Health::Passing),
            Self::Warning => Some(Health::Warning),
            Self::Critical => Some(Health::Critical),
            Self::Stopping => None,
        }
    }

    /// Parses a value of the health annotation. Surrounding blanks and case are ignored, because templates
    /// and shell scripts write it. HTTP accepts only the values of [`HealthReport`].
    ///
    /// # Errors
    /// [`UnknownHealth`] for any other value. It counts as Warning, so that a typo in a template does not
    /// empty a service.
    pub fn of_annotation(value: &str) -> Result<Self, UnknownHealth> {
        let own = Self::ALL.iter().map(|health| (health.as_str(), *health));
        let mut words = own.chain(Self::ALIASES);
        let word = value.trim();
        let known = words.find(|(known, _)| known.eq_ignore_ascii_case(word));
        known.map(|(_, health)| health).ok_or_else(|| {
            let shown: String = value.chars().take(SHOWN).collect();
            UnknownHealth(shown.into())
        })
    }
}

impl Phase {
    /// Whether instances in this phase are discoverable by default.
    #[must_use]
    pub fn is_discoverable(self) -> bool {
        matches!(self, Self::Ready | Self::Warning)
    }
}

impl Protocol {
    /// The label in a DNS name, without the underscore (RFC 2782).
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [others @ .., last] => format!("{} or {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::de::DeserializeOwned;

    use super::*;

    fn assert_round_trip<T>(all: &[T], as_str: fn(T) -> &'static str, parse: fn(&str) -> Option<T>)
    where
        T: Copy + Debug + DeserializeOwned + PartialEq + Serialize,
    {
        for word in all {
            assert_eq!(parse(as_str(*word)), Some(*word));
            let json = serde_json::to_value(word).unwrap();
            assert_eq!(json, as_str(*word));
            assert_eq!(serde_json::from_value::<T>(json).unwrap(), *word);
        }
    }

    #[test]
    fn values_have_the_same_spelling_in_json_and_text() {
        assert_round_trip(State::ALL, State::as_str, State::parse);
        assert_round_trip(Health::ALL, Health::as_str, Health::parse);
        assert_round_trip(HealthReport::ALL, HealthReport::as_str, HealthReport::parse);
        assert_round_trip(Phase::ALL, Phase::as_str, Phase::parse);
        assert_round_trip(Protocol::ALL, Protocol::as_str, Protocol::parse);
        assert_round_trip(LeaseMode::ALL, LeaseMode::as_str, LeaseMode::parse);
        assert_round_trip(OnExpiry::ALL, OnExpiry::as_str, OnExpiry::parse);
        assert_round_trip(ConditionType::ALL, ConditionType::as_str, ConditionType::parse);
    }

    #[test]
    fn health_annotation_accepts_any_case_and_values_of_other_registries() {
        for (word, health) in [
            ("Passing", HealthReport::Passing),
            ("passing", HealthReport::Passing),
            ("stopping", HealthReport::Stopping),
            (" WARNING\n", HealthReport::Warning),
            ("critical", HealthReport::Critical),
            ("UP", HealthReport::Passing),
            ("Down", HealthReport::Critical),
            ("OUT_OF_SERVICE", HealthReport::Critical),
            ("starting", HealthReport::Critical),
            ("maintenance", HealthReport::Critical),
        ] {
            assert_eq!(HealthReport::of_annotation(word), Ok(health), "{word}");
        }
    }

    #[test]
    fn unknown_health_error_names_the_known_values() {
        let error = HealthReport::of_annotation("UNKNOWN").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown health \"UNKNOWN\" counts as Warning: write Passing, Warning, Critical or Stopping (case does not matter; \
             UP, DOWN, OUT_OF_SERVICE, STARTING, MAINTENANCE are accepted, too)"
        );
        let long = HealthReport::of_annotation(&"x".repeat(64)).unwrap_err();
        assert_eq!(long, UnknownHealth("x".repeat(63).into()));
        assert!(HealthReport::of_annotation("").is_err());
    }
}
