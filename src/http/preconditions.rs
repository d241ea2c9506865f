//! `If-Match`: the versions of an instance that a write is for (RFC 9110 §13.1.1).
//!
//! Owns: parsing the header, and the version with which a call is attempted. Does not own: comparing it with the stored
//! version (`heartbeat`), which happens atomically with the write.

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use hyper::{
    HeaderMap,
    header::{HeaderName, IF_MATCH, IF_NONE_MATCH},
    http::request::Parts,
};

use crate::heartbeat::{Refusal, Target};
use crate::http::{
    app::AppState,
    problem::{Flaw, Problem, ProblemKind},
};

/// The maximum number of attempts when the instance changes to another admitted version in between.
const MAX_ATTEMPTS: usize = 4;

/// The condition of `If-Match`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IfMatch {
    /// There is no condition.
    Anything,
    /// The instance must exist.
    Existing,
    /// The instance must have one of these versions. Empty when no ETag in the header can belong to an instance.
    AnyOf(Vec<u64>),
}

/// A call on one instance, and the version with which it is attempted.
pub(super) struct Attempts<'a> {
    condition: IfMatch,
    target: Target<'a>,
    left: usize,
}

impl<'a> Attempts<'a> {
    /// Prepares the first attempt.
    ///
    /// # Errors
    /// 412 when the condition does not hold; the refusal of `find` when the instance must be found first and is not.
    pub(super) async fn new(
        app: &AppState,
        target: Target<'a>,
        condition: IfMatch,
    ) -> Result<Self, Problem> {
        let mut first = Self { condition, target, left: MAX_ATTEMPTS };
        first.target.version = match &first.condition {
            IfMatch::Anything => None,
            IfMatch::AnyOf(versions) if !versions.is_empty() => versions.iter().max().copied(),
            IfMatch::Existing | IfMatch::AnyOf(_) => {
                let found = app.intake.find(&target).await;
                let slot = found.map_err(|refusal| first.problem(refusal))?;
                let version = slot.record().resource_version;
                if !first.condition.admits(version) {
                    return Err(first.problem(Refusal::OtherVersion(version)));
                }
                Some(version)
            }
        };
        Ok(first)
    }

    /// The instance, with the version for the next attempt.
    pub(super) fn target(&self) -> &Target<'a> {
        &self.target
    }

    /// Prepares another attempt after a refusal, if the condition admits the stored version.
    ///
    /// # Errors
    /// The refusal, if no attempt is left.
    pub(super) fn retry(&mut self, refusal: Refusal) -> Result<(), Problem> {
        match refusal {
            Refusal::OtherVersion(version)
                if self.left > 1
                    && self.target.version != Some(version)
                    && self.condition.admits(version) =>
            {
                self.left -= 1;
                self.target.version = Some(version);
                Ok(())
            }
            refusal => Err(self.problem(refusal)),
        }
    }

    /// Like [`Attempts::retry`], for a registration, which does not create an instance if it names a version.
    ///
    /// # Errors
    /// As [`Attempts::retry`], and 412 when the instance does not exist.
    pub(super) fn retry_registration(&mut self, refusal: Refusal) -> Result<(), Problem> {
        match refusal {
            Refusal::Unknown | Refusal::Gone(_) if self.condition != IfMatch::Anything => {
                Err(Problem::no_instance_to_match(self.target.namespace, self.target.name))
            }
            refusal => self.retry(refusal),
        }
    }

    fn problem(&self, refusal: Refusal) -> Problem {
        Problem::refused(refusal, self.target.namespace, self.target.name)
    }
}

/// The extractor of a call that does not support conditions. It refuses them, because ignoring a condition would be
/// worse (RFC 9110 §13.2.1).
#[derive(Debug)]
pub(super) struct NoConditions<T>(PhantomData<T>);

/// What an error recommends instead of a condition.
pub(super) trait ConditionAdvice {
    const ADVICE: &'static str;
}

impl<T: ConditionAdvice, S: Sync> FromRequestParts<S> for NoConditions<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let has = |name: &HeaderName| parts.headers.contains_key(name);
        let given = [IF_MATCH, IF_NONE_MATCH].into_iter().find(has);
        given.map_or(Ok(Self(PhantomData)), |name| Err(invalid(&name, T::ADVICE)))
    }
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parse(&parts.headers)
    }
}

impl IfMatch {
    fn admits(&self, version: u64) -> bool {
        match self {
            Self::Anything | Self::Existing => true,
            Self::AnyOf(versions) => versions.contains(&version),
        }
    }
}

/// Parses the conditions of a write.
///
/// # Errors
/// 400 for a value that is not a list of ETags, and for `If-None-Match`, which no write can check atomically.
fn parse(headers: &HeaderMap) -> Result<IfMatch, Problem> {
    if headers.contains_key(IF_NONE_MATCH) {
        let detail = "is not supported for writes; a registration can be repeated, and 201 means that the instance is \
                      new. If-Match is supported";
        return Err(invalid(&IF_NONE_MATCH, detail));
    }
    let detail =
        "must be * or ETags of the instance from earlier responses, in quotes: If-Match: \"12345\"";
    let mut tags = Vec::new();
    let mut is_present = false;
    let mut has_asterisk = false;
    for value in headers.get_all(IF_MATCH) {
        is_present = true;
        match value.as_bytes().trim_ascii() {
            b"*" => has_asterisk = true,
            list => tags.extend(parse_tags(list).ok_or_else(|| invalid(&IF_MATCH, detail))?),
        }
    }
    match (is_present, has_asterisk, tags.is_empty()) {
        (false, ..) => Ok(IfMatch::Anything),
        (true, true, true) => Ok(IfMatch::Existing),
        // An empty list is valid (RFC 9110 §5.6.1), and matches no version.
        (true, false, _) => Ok(IfMatch::AnyOf(tags.into_iter().flatten().collect())),
        _ => Err(invalid(&IF_MATCH, detail)),
    }
}

fn invalid(name: &HeaderName, detail: &'static str) -> Problem {
    let name = if name == IF_MATCH { "If-Match" } else { "If-None-Match" };
    Problem::from_flaws(ProblemKind::BadHeader, vec![Flaw::header(name, detail)])
}

/// Parses a list of tags (RFC 9110 §8.8.3): the version of each, or `None` for a weak tag, which never matches, and
/// for a tag that no instance can have. Returns `None` when the value is not a list of tags.
fn parse_tags(list: &[u8]) -> Option<Vec<Option<u64>>> {
    let mut tags = Vec::new();
    let mut rest = list;
    loop {
        rest = rest.trim_ascii_start();
        let (is_weak, quoted) = match rest {
            [] => return Some(tags),
            [b',', after @ ..] => {
                rest = after;
                continue;
            }
            [b'W', b'/', b'"', after @ ..] => (true, after),
            [b'"', after @ ..] => (false, after),
            _ => return None,
        };
        let end = quoted.iter().position(|byte| *byte == b'"')?;
        let (tag, after) = (quoted.get(..end)?, quoted.get(end + 1..)?);
        rest = after.trim_ascii_start();
        if !matches!(rest, [] | [b',', ..]) || !tag.iter().all(|byte| is_tag_byte(*byte)) {
            return None;
        }
        let digits = Some(tag).filter(|tag| !is_weak && tag.iter().all(u8::is_ascii_digit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        tags.push(digits.and_then(|digits| digits.parse().ok()));
    }
}

/// Whether an ETag may contain this byte: visible ASCII, or a byte outside ASCII.
fn is_tag_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn parse_values(values: &[&str]) -> Result<IfMatch, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IF_MATCH, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        parse(&headers).map_err(|problem| problem.flaws[0].field.clone())
    }

    #[test]
    fn conditions_are_parsed_as_in_rfc_9110() {
        assert_eq!(parse_values(&[]), Ok(IfMatch::Anything));
        assert_eq!(parse_values(&["*"]), Ok(IfMatch::Existing));
        for (given, versions) in [
            (&["\"12345\""][..], &[12_345][..]),
            (&["\"1\", \"2\""], &[1, 2]),
            (&["\"1\",,\"2\" ,"], &[1, 2]),
            (&["\"1\"", "\"2\""], &[1, 2]),
            (&["W/\"1\""], &[]),
            (&["W/\"1\", \"2\""], &[2]),
            (&["\"\""], &[]),
            (&[""], &[]),
            (&[","], &[]),
            (&["\"+1\""], &[]),
            (&["\"a,b\""], &[]),
            (&["\"é\""], &[]),
            (&["\"99999999999999999999\""], &[]),
        ] {
            assert_eq!(parse_values(given), Ok(IfMatch::AnyOf(versions.to_vec())), "{given:?}");
        }
    }

    #[test]
    fn invalid_conditions_are_refused() {
        let invalid = [
            &["12345"][..],
            &["w/\"1\""],
            &["\"1\" \"2\""],
            &["\"1"],
            &["\"a b\""],
            &["*", "\"1\""],
            &["*, \"1\""],
        ];
        for given in invalid {
            assert_eq!(parse_values(given), Err("If-Match".to_owned()), "{given:?}");
        }
        let mut headers = HeaderMap::new();
        headers.append(IF_NONE_MATCH, HeaderValue::from_static("*"));
        assert_eq!(parse(&headers).unwrap_err().flaws[0].field, "If-None-Match");
    }

    #[test]
    fn only_listed_versions_are_admitted() {
        assert!(IfMatch::Existing.admits(7) && IfMatch::Anything.admits(7));
        assert!(IfMatch::AnyOf(vec![5, 7]).admits(7) && !IfMatch::AnyOf(vec![5]).admits(7));
        assert!(!IfMatch::AnyOf(Vec::new()).admits(7));
    }
}
