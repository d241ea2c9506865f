//! Responses as text without the values that differ between two runs.
//!
//! These values are replaced, and no others:
//!
//! | what | becomes |
//! |---|---|
//! | the name of the namespace | `<ns>` |
//! | a time (RFC 3339 in milliseconds, as rollcall writes it) | `<time>` |
//! | a uid | `<uid of P>`, where P is the first pair with it in its response |
//! | the revision of a set, which is a hash over uids | `<revision of P>` |
//! | `"resourceVersion"`, the `ETag` of an instance, `has version "N"` and `its ETag is now "N"` in a sentence | `<version>` |
//! | `"port"`, if the test chose this port for the replica | `<port>` |
//! | `Rollcall-Index`, `"index"` | `<index>` |
//! | `Rollcall-Age`, `"horizonAgeMs"`, `"expiresInMs"`, `retry:` of a stream | `<ms>` |
//! | `Date` | `<date>` |
//! | `Retry-After`, which is random | `<seconds>` |
//! | `"boot"` | `<boot>` |
//! | `"horizon"` and `"leadsUntil"`, if they are times | `<time>` |
//! | `"stored"`: what the leader has written so far | `<stored>` |
//! | the sentence in `"why"` that the status still shows an earlier phase | left out |
//! | `"gaps"`, `"lastGap"`: they depend on how long the machine paused | `<gaps>` |
//! | `Content-Length`, if it is the length of the body (for HEAD, of the body of GET) | `<length>` |
//! | the six headers of every response, if each is there once with its usual value ([`COMMON`]) | `(common headers)` |
//! | the order of headers of different names | sorted |
//! | chunks | the decoded body |
//! | the document of `/openapi.json`, if it equals that of the repository | `<openapi.json>` |
//! | a body of more than 10,000 bytes, after these replacements | its beginning, its length and its hash |

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use super::client::{Received, Response};

const CONTRACT: &[u8] = include_bytes!("../../../openapi.json");

/// The longest body that is recorded completely.
const LONGEST: usize = 10_000;

/// The beginning of the sentence that depends on what the leader has written so far.
const STILL_STORED: &str = ". Its status still says ";

/// The headers that every response of rollcall has, as recorded.
const COMMON: [&str; 6] = [
    "date: <date>",
    "rollcall-age: <ms>",
    "rollcall-index: <index>",
    "rollcall-replica: rollcall-0",
    "rollcall-stale: false",
    "x-content-type-options: nosniff",
];

/// The namespace and ports that the test chose for the replica that responds.
pub(super) struct TestValues<'a> {
    pub(super) namespace: &'a str,
    pub(super) ports: [u16; 3],
}

/// The values received so far, with their placeholders.
#[derive(Default)]
pub(super) struct Normalizer {
    known: BTreeMap<String, String>,
}

impl Normalizer {
    /// The text to record and compare. `get_length` is the length of the body of GET.
    pub(super) fn normalize(
        &mut self,
        name: &str,
        test_values: &TestValues<'_>,
        received: &Received,
        get_length: Option<usize>,
    ) -> String {
        let mut out = String::new();
        for response in &received.responses {
            out.push_str(&response.status);
            out.push('\n');
            let mut headers = response.headers.clone();
            headers.sort_by(|a, b| a.0.cmp(&b.0));
            let mut lines = Vec::new();
            for (header, value) in &headers {
                let value = self.header(name, test_values, response, (header, value), get_length);
                lines.push(format!("{header}: {value}"));
            }
            let is_once = |common: &&str| lines.iter().filter(|line| line == common).count() == 1;
            if COMMON.iter().all(is_once) {
                lines.retain(|line| !COMMON.contains(&line.as_str()));
                lines.push("(common headers)".to_owned());
            }
            for line in lines {
                out.push_str(&line);
                out.push('\n');
            }
            if !response.body.is_empty() {
                out.push('\n');
                out.push_str(&self.body(name, test_values, &response.body));
                out.push('\n');
            }
        }
        if !received.end.is_empty() {
            let end = self.values(name, test_values, &received.end);
            out.push_str(&format!("({end})\n"));
        }
        out
    }

    fn header(
        &mut self,
        name: &str,
        test_values: &TestValues<'_>,
        response: &Response,
        (header, value): (&str, &str),
        get_length: Option<usize>,
    ) -> String {
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let length = if response.is_head { get_length } else { Some(response.body.len()) };
        match header {
            "date" if value.ends_with(" GMT") => "<date>".to_owned(),
            "rollcall-index" if is_number => "<index>".to_owned(),
            "rollcall-age" if is_number => "<ms>".to_owned(),
            "retry-after" if is_number => "<seconds>".to_owned(),
            "content-length" if value.parse().ok() == length => "<length>".to_owned(),
            "etag" if is_version(value) => "\"<version>\"".to_owned(),
            "etag" => {
                let tag = value.trim_start_matches("W/").trim_matches('"').to_owned();
                // The ETag of the contract is kept, because it is a hash of the document only.
                if tag != format!("{:016x}", xxh3_64(CONTRACT)) {
                    self.add_placeholder(&tag, "revision", name);
                }
                self.values(name, test_values, value)
            }
            _ => self.values(name, test_values, value),
        }
    }

    fn body(&mut self, name: &str, test_values: &TestValues<'_>, body: &[u8]) -> String {
        if body == CONTRACT {
            return "<openapi.json>".to_owned();
        }
        let text = String::from_utf8_lossy(body);
        let text = self.values(name, test_values, &text);
        let Some(begin) = text.get(..LONGEST) else { return text };
        let begin: String = begin.chars().take(400).collect();
        format!("{begin} … {} bytes in all, hash {:016x}", text.len(), xxh3_64(text.as_bytes()))
    }

    /// Replaces the values of the table above that are recognized by their form or by the name before them.
    fn values(&mut self, name: &str, test_values: &TestValues<'_>, text: &str) -> String {
        for revision in strings_after(text, "\"revision\":\"") {
            self.add_placeholder(&revision, "revision", name);
        }
        for uid in uids(text) {
            self.add_placeholder(&uid, "uid", name);
        }
        let mut text = text.replace(test_values.namespace, "<ns>");
        for port in test_values.ports {
            text = text.replace(&format!("\"port\":{port},"), "\"port\":<port>,");
        }
        for (value, placeholder) in &self.known {
            if text.contains(value) {
                text = text.replace(value, placeholder);
            }
        }
        text = times(&text);
        for (before, placeholder) in [
            ("\"expiresInMs\":", "<ms>"),
            ("\"horizonAgeMs\":", "<ms>"),
            ("\"index\":", "<index>"),
            ("\"gaps\":", "<gaps>"),
            ("has version \\\"", "<version>"),
            ("its ETag is now \\\"", "<version>"),
            ("retry: ", "<ms>"),
            ("\"resourceVersion\":\"", "<version>"),
        ] {
            text = digits_after(&text, before, placeholder);
        }
        for boot in strings_after(&text, "\"boot\":\"") {
            text = text.replace(&boot, "<boot>");
        }
        for sentence in strings_after(&text, STILL_STORED) {
            text = text.replace(&format!("{STILL_STORED}{sentence}"), "");
        }
        text = value_after(&text, "\"stored\":", "<stored>");
        value_after(&text, "\"lastGap\":", "<gaps>")
    }

    fn add_placeholder(&mut self, value: &str, what: &str, name: &str) {
        if value.is_empty() || self.known.contains_key(value) {
            return;
        }
        let of_pair = format!("<{what} of {name}");
        let earlier = self.known.values().filter(|known| known.starts_with(&of_pair)).count();
        let number = if earlier == 0 { String::new() } else { format!(", {}", earlier + 1) };
        self.known.insert(value.to_owned(), format!("{of_pair}{number}>"));
    }
}

/// Whether this is the ETag of an instance, its resourceVersion. The ETag of a set has letters, or is longer.
fn is_version(tag: &str) -> bool {
    let inner = tag.trim_matches('"');
    inner.len() < 12 && !inner.is_empty() && inner.bytes().all(|byte| byte.is_ascii_digit())
}

/// The strings between each `before` and the next quotation mark.
fn strings_after(text: &str, before: &str) -> Vec<String> {
    let parts = text.split(before).skip(1);
    parts.filter_map(|part| part.split_once('"').map(|(value, _)| value.to_owned())).collect()
}

/// Replaces the digits after `before`.
fn digits_after(text: &str, before: &str, placeholder: &str) -> String {
    let mut parts = text.split(before);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        out.push_str(before);
        out.push_str(if rest.len() < part.len() { placeholder } else { "" });
        out.push_str(rest);
    }
    out
}

/// Replaces the null or flat object after `before`.
fn value_after(text: &str, before: &str, placeholder: &str) -> String {
    let mut parts = text.split(before);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let object = part.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let rest = part.strip_prefix("null").or_else(|| object.map(|(_, rest)| rest));
        out.push_str(before);
        out.push_str(rest.map_or("", |_| placeholder));
        out.push_str(rest.unwrap_or(part));
    }
    out
}

/// Whether the bytes have this shape: `0` is a digit, `h` a hexadecimal digit, any other byte itself.
fn has_shape(bytes: &[u8], shape: &[u8]) -> bool {
    bytes.len() >= shape.len()
        && bytes.iter().zip(shape).all(|(byte, wanted)| match wanted {
            b'0' => byte.is_ascii_digit(),
            b'h' => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
            wanted => byte == wanted,
        })
}

fn times(text: &str) -> String {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00.000Z";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if has_shape(rest.as_bytes(), SHAPE) {
            out.push_str("<time>");
            rest = &rest[SHAPE.len()..];
        } else {
            out.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    out
}

fn uids(text: &str) -> Vec<String> {
    const SHAPE: &[u8] = b"hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh";
    let windows = text.as_bytes().windows(SHAPE.len()).filter(|window| has_shape(window, SHAPE));
    windows.map(|window| String::from_utf8_lossy(window).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_volatile_values_are_replaced() {
        let mut normalizer = Normalizer::default();
        let test_values = TestValues { namespace: "rec-1", ports: [1, 2, 30_000] };
        let text = r#"{"uid":"01234567-89ab-cdef-0123-456789abcdef","namespace":"rec-1","resourceVersion":"12","weight":7,"port":30000,
            "createdAt":"2026-12-01T00:00:00.000Z","expiresInMs":29999,"verdict":{"stored":{"phase":"Ready"}},"stored":null}"#;
        let again = r#"{"uid":"01234567-89ab-cdef-0123-456789abcdef"}"#;
        assert_eq!(
            normalizer.values("a", &test_values, text),
            r#"{"uid":"<uid of a>","namespace":"<ns>","resourceVersion":"<version>","weight":7,"port":<port>,
            "createdAt":"<time>","expiresInMs":<ms>,"verdict":{"stored":<stored>},"stored":<stored>}"#
        );
        assert_eq!(normalizer.values("b", &test_values, again), r#"{"uid":"<uid of a>"}"#);
        assert_eq!(
            normalizer.values("b", &test_values, r#""expiresInMs":null"#),
            r#""expiresInMs":null"#
        );
    }
}
