//! Label selectors in the grammar of Kubernetes: `a=b, c!=d, e in (f, g), h notin (i), j, !k`.
//!
//! Source: Kubernetes, "Labels and Selectors". Owns: parsing and matching.

use std::{fmt, sync::Arc};

/// A conjunction of requirements on labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

/// The part of a selector that could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSelector {
    part: String,
}

impl fmt::Display for BadSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot parse \"{}\": write for example a=b, c!=d, e in (f, g), h notin (i), j or !k",
            self.part
        )
    }
}

impl std::error::Error for BadSelector {}

impl Selector {
    /// Parses a selector; an empty one matches everything.
    ///
    /// # Errors
    /// Names the part that could not be parsed.
    pub fn parse(text: &str) -> Result<Self, BadSelector> {
        let parts = split_outside_parentheses(text);
        let parts = parts.into_iter().map(str::trim).filter(|part| !part.is_empty());
        let requirements = parts.map(Requirement::parse).collect::<Result<_, _>>()?;
        Ok(Self { requirements })
    }

    /// Whether labels, sorted by key, meet all requirements.
    #[must_use]
    pub fn matches(&self, labels: &[(Arc<str>, Arc<str>)]) -> bool {
        self.requirements.iter().all(|requirement| {
            let has = labels.iter().find(|(key, _)| **key == *requirement.key);
            requirement.test.admits(has.map(|(_, value)| &**value))
        })
    }
}

impl Test {
    fn admits(&self, value: Option<&str>) -> bool {
        match self {
            Self::In(values) => value.is_some_and(|value| values.iter().any(|v| v == value)),
            Self::NotIn(values) => value.is_none_or(|value| values.iter().all(|v| v != value)),
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
        }
    }
}

impl Requirement {
    fn parse(part: &str) -> Result<Self, BadSelector> {
        let bad = || BadSelector { part: part.to_owned() };
        let (key, test) = if let Some(key) = part.strip_prefix('!') {
            (key, Test::Absent)
        } else if let Some((key, value)) = part.split_once("!=") {
            (key, Test::NotIn(vec![value.trim().to_owned()]))
        } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            (key, Test::In(vec![value.trim().to_owned()]))
        } else if let Some((head, values)) = part.split_once('(') {
            let values = values.strip_suffix(')').ok_or_else(bad)?;
            let values = values.split(',').map(|value| value.trim().to_owned()).collect();
            match head.trim().split_once(char::is_whitespace) {
                Some((key, operator)) if operator.trim() == "in" => (key, Test::In(values)),
                Some((key, operator)) if operator.trim() == "notin" => (key, Test::NotIn(values)),
                _ => return Err(bad()),
            }
        } else {
            (part, Test::Exists)
        };
        let key = key.trim();
        let values_fit = match &test {
            Test::In(values) | Test::NotIn(values) => {
                values.iter().all(|value| is_label_value(value))
            }
            Test::Exists | Test::Absent => true,
        };
        if key.is_empty() || !is_label_key(key) || !values_fit {
            return Err(bad());
        }
        Ok(Self { key: key.to_owned(), test })
    }
}

/// A label key: an optional DNS prefix and a name.
fn is_label_key(key: &str) -> bool {
    let (prefix, word) = key.split_once('/').unwrap_or(("", key));
    prefix.len() <= 253 && is_label_value(prefix) && !word.is_empty() && is_label_value(word)
}

/// Letters, digits, `-`, `_` and `.`; may be empty, which is a valid label value.
fn is_label_value(word: &str) -> bool {
    word.len() <= 253 && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut inside = false;
    text.split(|c| {
        match c {
            '(' => inside = true,
            ')' => inside = false,
            _ => {}
        }
        c == ',' && !inside
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Vec<(Arc<str>, Arc<str>)> {
        pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
    }

    #[test]
    fn selectors_match_as_in_kubernetes() {
        let has = labels(&[("track", "canary"), ("example.com/tier", "web")]);
        for (text, admitted) in [
            ("", true),
            ("track=canary", true),
            ("track==canary", true),
            ("track=stable", false),
            ("track!=stable", true),
            ("absent!=x", true),
            ("absent=x", false),
            ("track in (stable, canary)", true),
            ("track notin (stable,canary)", false),
            ("absent notin (x)", true),
            ("track", true),
            ("!track", false),
            ("!absent", true),
            ("example.com/tier=web, track", true),
            ("track=canary,example.com/tier in (db),!absent", false),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches(&has), admitted, "{text}");
        }
    }

    #[test]
    fn parse_error_names_the_bad_part() {
        for text in ["=x", "a in b", "a in (b", "a within (b)", "a b", "a=b c", "!", "a>1"] {
            let error = Selector::parse(text).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
