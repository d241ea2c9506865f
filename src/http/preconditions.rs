//! `If-Match`: which versions of an instance a write is meant for (RFC 9110 §13.1.1).
//!
//! Owns: reading it, and on which version a call is tried. Does not own: holding that against what is stored
//! (`witness`), which is one step with the write.

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use hyper::{
    HeaderMap,
    header::{HeaderName, IF_MATCH, IF_NONE_MATCH},
    http::request::Parts,
};

use crate::heartbeat::{Refusal, Target};
use crate::http::{
    app::App,
    problem::{Flaw, Kind, Problem},
};

/// How often a call is tried on versions that suit, one newer than the other.
const ATTEMPTS: usize = 4;

/// What `If-Match` demands of the instance.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IfMatch {
    /// Nothing.
    Anything,
    /// That it is there.
    Existing,
    /// That it is one of these versions; none where no tag can be that of an instance.
    One(Vec<u64>),
}

/// A call on one instance, and the version on which it is tried.
pub(super) struct Attempts<'a> {
    wanted: IfMatch,
    target: Target<'a>,
    left: usize,
}

impl<'a> Attempts<'a> {
    /// The first try.
    ///
    /// # Errors
    /// 412 when the condition does not hold; what `find` says where it has to be looked at.
    pub(super) async fn new(
        app: &App,
        target: Target<'a>,
        wanted: IfMatch,
    ) -> Result<Self, Problem> {
        let mut first = Self { wanted, target, left: ATTEMPTS };
        first.target.version = match &first.wanted {
            IfMatch::Anything => None,
            IfMatch::One(versions) if !versions.is_empty() => versions.iter().max().copied(),
            IfMatch::Existing | IfMatch::One(_) => {
                let found = app.intake.find(&target).await;
                let slot = found.map_err(|refusal| first.refused(refusal))?;
                let version = slot.record().resource_version;
                if !first.wanted.admits(version) {
                    return Err(first.refused(Refusal::OtherVersion(version)));
                }
                Some(version)
            }
        };
        Ok(first)
    }

    /// What to try it on.
    pub(super) fn target(&self) -> &Target<'a> {
        &self.target
    }

    /// It was refused: another try where the version that is stored suits as well.
    ///
    /// # Errors
    /// The refusal otherwise.
    pub(super) fn again(&mut self, refusal: Refusal) -> Result<(), Problem> {
        match refusal {
            Refusal::OtherVersion(version)
                if self.left > 1
                    && self.target.version != Some(version)
                    && self.wanted.admits(version) =>
            {
                self.left -= 1;
                self.target.version = Some(version);
                Ok(())
            }
            refusal => Err(self.refused(refusal)),
        }
    }

    /// A registration makes what is not there, unless it is meant for a version.
    ///
    /// # Errors
    /// As [`Attempts::again`], 412 for what is not there.
    pub(super) fn again_registering(&mut self, refusal: Refusal) -> Result<(), Problem> {
        match refusal {
            Refusal::Unknown | Refusal::Gone(_) if self.wanted != IfMatch::Anything => {
                Err(Problem::not_there(self.target.namespace, self.target.name))
            }
            refusal => self.again(refusal),
        }
    }

    fn refused(&self, refusal: Refusal) -> Problem {
        Problem::refused(refusal, self.target.namespace, self.target.name)
    }
}

/// No conditions, as an extractor of a call that evaluates none: to act as if one held would be worse
/// (RFC 9110 §13.2.1).
#[derive(Debug)]
pub(super) struct NoConditions<T>(PhantomData<T>);

/// What to do instead of a condition.
pub(super) trait Instead {
    const INSTEAD: &'static str;
}

impl<T: Instead, S: Sync> FromRequestParts<S> for NoConditions<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let has = |name: &HeaderName| parts.headers.contains_key(name);
        let given = [IF_MATCH, IF_NONE_MATCH].into_iter().find(has);
        given.map_or(Ok(Self(PhantomData)), |name| Err(bad(&name, T::INSTEAD)))
    }
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        read(&parts.headers)
    }
}

impl IfMatch {
    fn admits(&self, version: u64) -> bool {
        match self {
            Self::Anything | Self::Existing => true,
            Self::One(versions) => versions.contains(&version),
        }
    }
}

/// What the headers demand.
///
/// # Errors
/// 400 for what is no list of ETags, and for `If-None-Match`, which no write can hold in one step.
fn read(headers: &HeaderMap) -> Result<IfMatch, Problem> {
    if headers.contains_key(IF_NONE_MATCH) {
        let detail = "is not held for writes: a registration means the same instance however often it is sent, and \
                      201 tells that it was new; If-Match is held";
        return Err(bad(&IF_NONE_MATCH, detail));
    }
    let detail = "give * or the ETags of the instance as its answers had them, in quotes: If-Match: \"12345\"";
    let mut tags = Vec::new();
    let mut is_there = false;
    let mut any = false;
    for value in headers.get_all(IF_MATCH) {
        is_there = true;
        match value.as_bytes().trim_ascii() {
            b"*" => any = true,
            list => tags.extend(strong(list).ok_or_else(|| bad(&IF_MATCH, detail))?),
        }
    }
    match (is_there, any, tags.is_empty()) {
        (false, ..) => Ok(IfMatch::Anything),
        (true, true, true) => Ok(IfMatch::Existing),
        // An empty list is a list (RFC 9110 §5.6.1), and holds of nothing.
        (true, false, _) => Ok(IfMatch::One(tags.into_iter().flatten().collect())),
        _ => Err(bad(&IF_MATCH, detail)),
    }
}

fn bad(name: &HeaderName, detail: &'static str) -> Problem {
    let name = if name == IF_MATCH { "If-Match" } else { "If-None-Match" };
    Problem::of(Kind::BadHeader, vec![Flaw::header(name, detail)])
}

/// The tags of a list (RFC 9110 §8.8.3): the version of each, none for a weak one, which is never the same, and
/// for one that no instance can have. None when it is no list.
fn strong(list: &[u8]) -> Option<Vec<Option<u64>>> {
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
        if !matches!(rest, [] | [b',', ..]) || !tag.iter().all(|byte| is_of_tag(*byte)) {
            return None;
        }
        let digits = Some(tag).filter(|tag| !is_weak && tag.iter().all(u8::is_ascii_digit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        tags.push(digits.and_then(|digits| digits.parse().ok()));
    }
}

/// Visible, or beyond ASCII.
fn is_of_tag(byte: u8) -> bool {
    byte.is_ascii_graphic() || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn of(values: &[&str]) -> Result<IfMatch, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IF_MATCH, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        read(&headers).map_err(|problem| problem.flaws[0].field.clone())
    }

    #[test]
    fn a_condition_is_read_as_rfc_9110_writes_it() {
        assert_eq!(of(&[]), Ok(IfMatch::Anything));
        assert_eq!(of(&["*"]), Ok(IfMatch::Existing));
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
            assert_eq!(of(given), Ok(IfMatch::One(versions.to_vec())), "{given:?}");
        }
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        let wrong = [
            &["12345"][..],
            &["w/\"1\""],
            &["\"1\" \"2\""],
            &["\"1"],
            &["\"a b\""],
            &["*", "\"1\""],
            &["*, \"1\""],
        ];
        for given in wrong {
            assert_eq!(of(given), Err("If-Match".to_owned()), "{given:?}");
        }
        let mut headers = HeaderMap::new();
        headers.append(IF_NONE_MATCH, HeaderValue::from_static("*"));
        assert_eq!(read(&headers).unwrap_err().flaws[0].field, "If-None-Match");
    }

    #[test]
    fn only_what_is_one_of_them_is_admitted() {
        assert!(IfMatch::Existing.admits(7) && IfMatch::Anything.admits(7));
        assert!(IfMatch::One(vec![5, 7]).admits(7) && !IfMatch::One(vec![5]).admits(7));
        assert!(!IfMatch::One(Vec::new()).admits(7));
    }
}
