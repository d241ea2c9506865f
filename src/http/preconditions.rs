//! `If-Match`: which version of an instance a write is meant for (RFC 9110 §13.1.1).
//!
//! Owns: reading it. Does not own: holding it against what is stored (`witness`).

use hyper::{HeaderMap, header::IF_MATCH};

use crate::http::problem::{Flaw, Kind, Problem};

/// The version that a write is meant for, if it names one: the ETag of the instance, which is its
/// resourceVersion.
///
/// # Errors
/// 400 for anything but one strong ETag.
pub(super) fn version(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let mut given = headers.get_all(IF_MATCH).iter();
    let Some(first) = given.next() else { return Ok(None) };
    let quoted =
        first.to_str().ok().and_then(|tag| tag.trim().strip_prefix('"')?.strip_suffix('"'));
    let digits = quoted.filter(|tag| !tag.is_empty() && tag.bytes().all(|b| b.is_ascii_digit()));
    match (digits.and_then(|tag| tag.parse().ok()), given.next()) {
        (Some(version), None) => Ok(Some(version)),
        _ => {
            let detail = "give the ETag of the instance as its answers had it, one and in quotes: \
                          If-Match: \"12345\"";
            Err(Problem::of(Kind::BadQuery, vec![Flaw::header("If-Match", detail)]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Option<u64>, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IF_MATCH, value.parse().unwrap());
        }
        version(&headers).map_err(|problem| problem.flaws[0].field.clone())
    }

    #[test]
    fn one_strong_etag_is_a_version_and_everything_else_is_refused() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["\"12345\""]), Ok(Some(12_345)));
        for wrong in ["12345", "*", "W/\"1\"", "\"1\", \"2\"", "\"\"", "\"+1\"", "\"x\""] {
            assert_eq!(read(&[wrong]), Err("If-Match".to_owned()), "{wrong}");
        }
        assert!(read(&["\"1\"", "\"2\""]).is_err());
        assert!(read(&["\"99999999999999999999\""]).is_err());
    }
}
