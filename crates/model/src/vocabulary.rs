//! The closed sets of words: states, healths, phases, protocols, lease modes, and what follows the end of a lease.
//!
//! Owns: each word's one spelling, in manifests, annotations, HTTP and metrics, and what the phase follows from. Does not
//! own: whether a lease has ended (`rollcall-core`), and the defaults that depend on who writes (`defaults`).

use std::{error::Error, fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares a vocabulary: an enum, its words, and the way back from a word.
macro_rules! vocabulary {
    ($(#[$of_enum:meta])* $name:ident { $($(#[$of_variant:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$of_enum])*
        #[derive(
            Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
        )]
        pub enum $name { $($(#[$of_variant])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            /// Every word of this vocabulary, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word, as manifests, HTTP and metrics write it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The meaning of a word; none when it is not of this vocabulary.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }

            /// The words as a sentence lists them: `a, b or c`.
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
    /// The operator's word about an instance. A registration over HTTP does not overwrite it, but for `Draining`
    /// when another pod takes the instance over.
    #[derive(Default)]
    State {
        /// In service.
        #[default]
        Up = "Up",
        /// Finishing what it has; not discoverable.
        Draining = "Draining",
        /// Taken out of service; not discoverable.
        OutOfService = "OutOfService",
    }
}

vocabulary! {
    /// How an instance says that it is, in the annotation `rollcall.dev/health`.
    #[derive(Default)]
    Health {
        /// All is well; also when nothing was said.
        #[default]
        Passing = "Passing",
        /// Serving, but not well; still discoverable.
        Warning = "Warning",
        /// Not to be used; not discoverable.
        Critical = "Critical",
    }
}

vocabulary! {
    /// What an instance reports: a health, or that it is leaving, which stands before its health.
    HealthReport {
        /// All is well; and it is not leaving any more, if it was.
        Passing = "Passing",
        /// Serving, but not well.
        Warning = "Warning",
        /// Not to be used.
        Critical = "Critical",
        /// Leaving: finishes what it has, and is not discoverable until it says Passing.
        Stopping = "Stopping",
    }
}

vocabulary! {
    /// What rollcall has found an instance to be: the first that applies.
    Phase {
        /// Its object is being deleted, and finalizers hold it.
        Terminating = "Terminating",
        /// Its lease has ended.
        Expired = "Expired",
        /// Its operator took it out.
        OutOfService = "OutOfService",
        /// Its operator drains it.
        Draining = "Draining",
        /// It says that it is leaving.
        Stopping = "Stopping",
        /// It says that it should not be used.
        Critical = "Critical",
        /// It says that it is not well.
        Warning = "Warning",
        /// All is well.
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
    /// Which life an instance has.
    LeaseMode {
        /// Alive as long as heartbeats come.
        Heartbeat = "Heartbeat",
        /// Alive as long as its object exists.
        Permanent = "Permanent",
    }
}

vocabulary! {
    /// What becomes of the object of an expired instance.
    OnExpiry {
        /// It stays, as Expired, and can come back by a heartbeat.
        Retain = "Retain",
        /// It is deleted `evictAfterSeconds` later.
        Evict = "Evict",
    }
}

vocabulary! {
    /// What a condition in the status is about, as far as rollcall writes it.
    ConditionType {
        /// Whether the instance is discoverable.
        Ready = "Ready",
        /// Its health annotation holds a word outside the vocabulary.
        UnknownHealth = "UnknownHealth",
        /// Another live instance offers one of its addresses with the same port.
        AddressShared = "AddressShared",
    }
}

/// The most characters of an unknown word that are shown: it can be anything, of any length.
const SHOWN: usize = 63;

/// A value of the health annotation that is outside the vocabulary, cut to 63 characters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnknownHealth(pub Arc<str>);

impl fmt::Display for UnknownHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown health {:?} counts as Warning: write {} (in upper or lower case; {} are understood, too)",
            self.0,
            HealthReport::listed(),
            HealthReport::FOREIGN.map(|(word, _)| word).join(", ")
        )
    }
}

impl Error for UnknownHealth {}

impl HealthReport {
    /// Words of other registries, and what they mean here.
    const FOREIGN: [(&'static str, Self); 5] = [
        ("UP", Self::Passing),
        ("DOWN", Self::Critical),
        ("OUT_OF_SERVICE", Self::Critical),
        ("STARTING", Self::Critical),
        ("MAINTENANCE", Self::Critical),
    ];

    /// The health that is reported; none where only the leaving is.
    #[must_use]
    pub const fn health(self) -> Option<Health> {
        match self {
            Self::Passing => Some(Health::Passing),
            Self::Warning => Some(Health::Warning),
            Self::Critical => Some(Health::Critical),
            Self::Stopping => None,
        }
    }

    /// What a word in the health annotation means. Blanks around it and its case do not matter, since templates and
    /// shells write it. HTTP takes the words of [`HealthReport`] only.
    ///
    /// # Errors
    /// [`UnknownHealth`] for any other word. It counts as Warning: a typo in a template must not empty a service.
    pub fn of_annotation(value: &str) -> Result<Self, UnknownHealth> {
        let own = Self::ALL.iter().map(|health| (health.as_str(), *health));
        let mut words = own.chain(Self::FOREIGN);
        let word = value.trim();
        let known = words.find(|(known, _)| known.eq_ignore_ascii_case(word));
        known.map(|(_, health)| health).ok_or_else(|| {
            let shown: String = value.chars().take(SHOWN).collect();
            UnknownHealth(shown.into())
        })
    }
}

impl Phase {
    /// Whether instances of this phase are discoverable to those who do not ask for another.
    #[must_use]
    pub fn is_discoverable(self) -> bool {
        matches!(self, Self::Ready | Self::Warning)
    }
}

impl Protocol {
    /// As in a DNS name, without the underscore (RFC 2782).
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

    fn reads_back<T>(all: &[T], as_str: fn(T) -> &'static str, parse: fn(&str) -> Option<T>)
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
    fn a_word_is_spelt_the_same_in_json_and_in_text() {
        reads_back(State::ALL, State::as_str, State::parse);
        reads_back(Health::ALL, Health::as_str, Health::parse);
        reads_back(HealthReport::ALL, HealthReport::as_str, HealthReport::parse);
        reads_back(Phase::ALL, Phase::as_str, Phase::parse);
        reads_back(Protocol::ALL, Protocol::as_str, Protocol::parse);
        reads_back(LeaseMode::ALL, LeaseMode::as_str, LeaseMode::parse);
        reads_back(OnExpiry::ALL, OnExpiry::as_str, OnExpiry::parse);
        reads_back(ConditionType::ALL, ConditionType::as_str, ConditionType::parse);
    }

    #[test]
    fn the_health_annotation_is_understood_in_any_case_and_in_the_words_of_other_registries() {
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
    fn an_unknown_health_names_itself_and_the_known_words() {
        let error = HealthReport::of_annotation("UNKNOWN").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown health \"UNKNOWN\" counts as Warning: write Passing, Warning, Critical or Stopping (in upper or lower case; \
             UP, DOWN, OUT_OF_SERVICE, STARTING, MAINTENANCE are understood, too)"
        );
        let long = HealthReport::of_annotation(&"x".repeat(64)).unwrap_err();
        assert_eq!(long, UnknownHealth("x".repeat(63).into()));
        assert!(HealthReport::of_annotation("").is_err());
    }
}
