//! Bodies: bytes within a size and a time, then strict JSON, each fault named by its path.
//!
//! Strict means: unknown fields, the same field twice (in maps too), lists where objects belong,
//! and anything after the value are refused, because each is a mistake that a client would rather
//! hear of. Does not own: what values mean (`validate`).

use std::{
    borrow::Cow, collections::BTreeMap, fmt, future::poll_fn, marker::PhantomData, ops::Deref,
    pin::Pin, time::Duration,
};

use bytes::{Bytes, BytesMut};
use hyper::{
    HeaderMap,
    body::{Body as _, Incoming},
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};
use serde_json::error::Category;
use tokio::time::timeout;

use crate::http::{
    budget::Share,
    clip,
    limits::Limits,
    problem::{Flaw, Kind, Problem},
};

/// What bodies are, without their parameters.
pub(super) const JSON: &str = "application/json";

/// What a patch may be, as `Accept-Patch` lists it (RFC 5789 §3.1).
pub(super) const PATCH: &str = "application/merge-patch+json, application/json";

/// The most bytes of a body about one instance: its bounded fields fill two thirds of it when
/// every string is as long as it may be.
pub(super) const MAX_ONE: usize = 64 * 1024;

/// The most bytes of a batch: 10,000 beats of 400 bytes.
pub(super) const MAX_BATCH: usize = 4 * 1024 * 1024;

/// The most bytes of a body that is too large anyway which are read all the same, so that the client
/// has sent it and reads why not; a connection closed under its hands would tell it nothing.
const MAX_DISCARDED: usize = 1024 * 1024;

/// From the head of a request to the end of its body.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// The same for a body for which there is no room: it is told soon, and not when the body has come.
const POLITE: Duration = Duration::from_secs(1);

/// The most entries of an object of strings that are kept: more than any may have, and enough to say so.
pub(super) const MAX_ENTRIES: usize = 128;

/// A whole body, with its share of the memory for bodies.
#[derive(Debug)]
pub(super) struct Held {
    bytes: Bytes,
    /// Given back with it.
    _share: Share,
}

impl Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads the whole body, which may be empty.
///
/// # Errors
/// 413 beyond `limit` bytes, 408 when it takes too long, 415 when it says to be anything but JSON, 503 when as much
/// of other bodies is held as may be.
pub(super) async fn read(
    limits: &Limits,
    headers: &HeaderMap,
    body: Incoming,
    limit: usize,
) -> Result<Held, Problem> {
    read_as(limits, headers, body, limit, JSON).await
}

/// The same for a JSON merge patch, which may say to be one (RFC 7396 §4).
///
/// # Errors
/// As [`read`].
pub(super) async fn read_patch(
    limits: &Limits,
    headers: &HeaderMap,
    body: Incoming,
    limit: usize,
) -> Result<Held, Problem> {
    read_as(limits, headers, body, limit, PATCH).await
}

async fn read_as(
    limits: &Limits,
    headers: &HeaderMap,
    body: Incoming,
    limit: usize,
    types: &'static str,
) -> Result<Held, Problem> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let announced: usize = announced.and_then(|length| length.parse().ok()).unwrap_or(0);
    // Who asks first whether to send it gets the answer at once.
    let discarded = if headers.contains_key(EXPECT) { 0 } else { MAX_DISCARDED };
    if announced > limit + discarded {
        return Err(too_large(limit));
    }
    let seconds = BODY_WITHIN.as_secs();
    let slow = |_| Problem::new(Kind::SlowBody, format!("it must arrive whole within {seconds} s"));
    let gathered = gather(limits, body, announced.min(limit), limit);
    let held = timeout(BODY_WITHIN, gathered).await.map_err(slow)??;
    if !held.is_empty() {
        check_type(headers, types)?;
    }
    Ok(held)
}

/// The caller's deadline bounds every wait in it.
async fn gather(
    limits: &Limits,
    mut body: Incoming,
    announced: usize,
    limit: usize,
) -> Result<Held, Problem> {
    let mut share = limits.bodies.share(limit > MAX_ONE);
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(data) = next(&mut body).await? {
        let size = first.len() + all.len() + data.len();
        if size > limit {
            drop((first, all));
            share.free();
            discard(&mut body, data.len()).await;
            return Err(too_large(limit));
        }
        if !share.grow(size) {
            drop((first, all));
            share.free();
            let _ = timeout(POLITE, discard(&mut body, data.len())).await;
            return Err(limits.no_room());
        }
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                // Not touched before it is filled, and so no memory yet.
                all.reserve(announced.max(size));
            }
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    let bytes = if all.is_empty() { first } else { all.freeze() };
    Ok(Held { bytes, _share: share })
}

/// The next piece of a body; none at its end.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Problem> {
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        let broken = |error| Problem::new(Kind::BadBody, format!("it broke off: {error}"));
        // Anything but data is a trailer, and trailers say nothing here.
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Reads on for a while, so that a client that sends on reads its answer.
async fn discard(body: &mut Incoming, mut discarded: usize) {
    while discarded <= MAX_DISCARDED {
        match next(body).await {
            Ok(Some(data)) => discarded += data.len(),
            Ok(None) | Err(_) => return,
        }
    }
}

fn too_large(limit: usize) -> Problem {
    let detail = format!("at most {} KiB are taken; send less at a time", limit / 1024);
    Problem::of(Kind::TooLarge, vec![Flaw::body("", detail)])
}

fn check_type(headers: &HeaderMap, types: &'static str) -> Result<(), Problem> {
    let wrong = |name: &str, detail: Cow<'static, str>| {
        let problem = Problem::of(Kind::WrongContentType, vec![Flaw::header(name, detail)]);
        Err(Problem { accept: Some(types), ..problem })
    };
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim();
    if !types.split(", ").any(|known| essence.eq_ignore_ascii_case(known)) {
        let types = types.replace(", ", " or ");
        let detail =
            format!("send Content-Type: {types} (with curl, --json says application/json)");
        return wrong("Content-Type", detail.into());
    }
    match headers.get(CONTENT_ENCODING).map(|coding| coding.as_bytes()) {
        None | Some(b"identity") => Ok(()),
        Some(_) => wrong("Content-Encoding", "send the body as it is, not compressed".into()),
    }
}

/// A value of the whole of `bytes`.
///
/// # Errors
/// 400 when it is no JSON, 422 naming the field when it is other JSON than expected.
pub(super) fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Problem> {
    if bytes.is_empty() {
        return Err(Problem::new(Kind::BadBody, "a JSON object is needed; the body is empty"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let detail = format!("JSON is UTF-8, and the byte at {} is not", error.valid_up_to());
        Problem::of(Kind::BadBody, vec![Flaw::body("", detail)])
    })?;
    // Paths are tracked only once something is wrong: they cost an allocation a field.
    serde_json::from_str(text)
        .map_err(|error| located::<T>(text).unwrap_or_else(|| flaw("", &error)))
}

/// Reads again to find out where the fault is; none when it is after the value.
fn located<'a, T: Deserialize<'a>>(text: &'a str) -> Option<Problem> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let error = serde_path_to_error::deserialize::<_, T>(&mut deserializer).err()?;
    let path = error.path().to_string();
    Some(flaw(if path == "." { "" } else { &path }, error.inner()))
}

fn flaw(path: &str, error: &serde_json::Error) -> Problem {
    let message = error.to_string();
    if message.starts_with("number out of range") {
        return Problem::of(
            Kind::BadFields,
            vec![Flaw::body(path, "is a number beyond all bounds")],
        );
    }
    if error.classify() != Category::Data {
        // A key that was not read to its end has no name but "?".
        let path = path.trim_end_matches('?').trim_end_matches('.');
        let detail = format!("this is no JSON: {message}");
        return Problem::of(Kind::BadBody, vec![Flaw::body(path, detail)]);
    }
    // The field says where; line and column would say it again.
    let message = message.rsplit_once(" at line ").map_or(&*message, |(message, _)| message);
    let named = |rest: &str| rest.strip_suffix('`').unwrap_or(rest).to_owned();
    let child = |field: String| if path.is_empty() { field } else { format!("{path}.{field}") };
    let flaw = if let Some(rest) = message.strip_prefix("duplicate field `") {
        Flaw::body(child(named(rest)), "is there twice; say it once")
    } else if let Some(rest) = message.strip_prefix("missing field `") {
        Flaw::body(child(named(rest)), "is missing")
    } else if let Some(rest) = message.strip_prefix("unknown field `") {
        // The last of these words is serde's, whatever the key holds.
        let known = rest.rfind("`, expected ").and_then(|at| rest.get(at + 3..)).unwrap_or("");
        Flaw::body(path, format!("unknown field; {}", known.replace('`', "")))
    } else if let Some((found, expected)) = message.rsplit_once(", expected ") {
        // What was found may be as long as the body.
        Flaw::body(path, format!("{}, expected {expected}", clip::name(found.to_owned())))
    } else {
        Flaw::body(path, message.to_owned())
    };
    Problem::of(Kind::BadFields, vec![flaw])
}

/// A value that must be a JSON object. Derived structs would take a list of their fields' values
/// as well.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Object<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// An object of values of one type, each key once: the first [`MAX_ENTRIES`], and whether there were more.
#[derive(Debug)]
pub(super) struct Entries<V> {
    pub(super) entries: BTreeMap<String, V>,
    pub(super) are_more: bool,
}

/// An object of strings.
pub(super) type Strings = Entries<String>;

impl<V> Default for Entries<V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), are_more: false }
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Reading<V> {
            type Value = Entries<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<V>, A::Error> {
                let mut entries = BTreeMap::new();
                while entries.len() < MAX_ENTRIES {
                    let Some((key, value)) = map.next_entry::<String, V>()? else {
                        return Ok(Entries { entries, are_more: false });
                    };
                    if entries.contains_key(&key) {
                        return Err(A::Error::custom(format_args!("duplicate field `{key}`")));
                    }
                    entries.insert(key, value);
                }
                let mut are_more = false;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    are_more = true;
                }
                Ok(Entries { entries, are_more })
            }
        }

        deserializer.deserialize_map(Reading(PhantomData))
    }
}

/// A whole number of any size; its bounds are checked where they can be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole(pub(super) i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E>(self, number: i64) -> Result<Whole, E> {
                Ok(Whole(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Whole, E> {
                Ok(Whole(i64::try_from(number).unwrap_or(i64::MAX)))
            }

            /// `1.0` is a whole number too, as JSON Schema has it. Beyond the bounds of i64 `as` keeps to them.
            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Whole, E> {
                if number.fract() == 0.0 {
                    #[expect(
                        clippy::cast_possible_truncation,
                        reason = "it has no fraction, and `as` saturates"
                    )]
                    return Ok(Whole(number as i64));
                }
                Err(E::invalid_type(Unexpected::Float(number), &self))
            }
        }

        deserializer.deserialize_i64(Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Thing {
        #[serde(default)]
        parts: Vec<Object<Part>>,
        #[serde(default)]
        words: Strings,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Part {
        size: Whole,
    }

    fn refused(text: &[u8]) -> (u16, String, String) {
        let problem = json::<Object<Thing>>(text).unwrap_err();
        let flaw = problem.flaws.first().cloned();
        let field = flaw.map(|flaw| flaw.field).unwrap_or_default();
        (problem.kind.status().as_u16(), field, problem.detail.to_string())
    }

    #[test]
    fn each_fault_has_its_status_and_names_its_field() {
        let cases: [(&[u8], u16, &str, &str); 15] = [
            (b"", 400, "", "empty"),
            (b"{", 400, "", "EOF"),
            (b"{\"parts\": [}", 400, "parts[0]", "no JSON"),
            (b"{} x", 400, "", "trailing characters"),
            (b"{\"words\": {\"a\": \"\xff\"}}", 400, "", "UTF-8"),
            (b"[]", 422, "", "expected an object"),
            (b"{\"prats\": []}", 422, "prats", "expected parts or words"),
            (b"{\"parts\": [], \"parts\": []}", 422, "parts", "twice"),
            (b"{\"parts\": [{}]}", 422, "parts[0].size", "missing"),
            (b"{\"parts\": [[1]]}", 422, "parts[0]", "expected an object"),
            (b"{\"parts\": [{\"size\": \"1\"}]}", 422, "parts[0].size", "expected a whole number"),
            (b"{\"parts\": [{\"size\": 1.5}]}", 422, "parts[0].size", "expected a whole number"),
            (b"{\"parts\": [{\"size\": 1, \"size\": 1}]}", 422, "parts[0].size", "twice"),
            (b"{\"words\": {\"a\": \"1\", \"a\": \"2\"}}", 422, "words.a", "twice"),
            (b"{\"words\": {\"a\": 1}}", 422, "words.a", "expected a string"),
        ];
        for (text, status, field, says) in cases {
            let shown = String::from_utf8_lossy(text);
            let (got, named, detail) = refused(text);
            assert_eq!((got, &*named), (status, field), "{shown}: {detail}");
            assert!(detail.contains(says), "{shown}: {detail}");
        }
    }

    #[test]
    fn what_is_right_is_read() {
        let text = br#" {"parts": [{"size": 18446744073709551615}, {"size": 1.0}, {"size": -1e40}], "words": {"a": "b"}} "#;
        let Object(thing) = json::<Object<Thing>>(text).unwrap();
        let sizes: Vec<_> = thing.parts.iter().map(|part| part.0.size).collect();
        assert_eq!(sizes, [Whole(i64::MAX), Whole(1), Whole(i64::MIN)]);
        assert_eq!(thing.words.entries["a"], "b");
    }

    #[test]
    fn only_plain_json_is_taken() {
        let with = |content: &str, coding: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, content.parse().unwrap());
            if let Some(coding) = coding {
                headers.insert(CONTENT_ENCODING, coding.parse().unwrap());
            }
            check_type(&headers, JSON).is_ok()
        };
        assert!(with("application/json", None));
        assert!(with("Application/JSON; charset=utf-8", Some("identity")));
        assert!(!with("application/x-www-form-urlencoded", None));
        assert!(!with("application/json", Some("gzip")));
        assert!(check_type(&HeaderMap::new(), JSON).is_err());
        let problem = check_type(&HeaderMap::new(), PATCH).unwrap_err();
        assert_eq!(problem.accept, Some(PATCH));
        for name in PATCH.split(", ") {
            assert!(problem.detail.contains(name), "{}", problem.detail);
        }
    }
}
