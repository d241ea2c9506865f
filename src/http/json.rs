//! Strict JSON, with the path of every fault.
//!
//! Strict means that unknown fields, repeated fields (also in maps), lists in place of objects, and trailing data are
//! refused, because each is probably a mistake of the client. Owns: the types that bodies consist of, and the wording
//! of faults. Does not own: classifying a fault (`faults`), and the meaning of values (`validate`).

mod faults;

use std::{borrow::Cow, collections::BTreeMap, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer,
    de::{
        self, DeserializeSeed, IgnoredAny, MapAccess, Unexpected, Visitor,
        value::MapAccessDeserializer,
    },
};

use crate::http::problem::{Flaw, Problem, ProblemKind};
use faults::{Fault, Stash};

/// The maximum number of entries that are kept of an object of strings: more than any limit, so that exceeding a limit
/// is detected.
pub(super) const MAX_ENTRIES: usize = 128;

/// Parses all of `bytes` as one value.
///
/// # Errors
/// 400 when it is not JSON, 422 with the field when the JSON has the wrong type.
pub(super) fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Problem> {
    if bytes.is_empty() {
        return Err(Problem::new(ProblemKind::BadBody, "the body is empty; send a JSON object"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let detail = format!("must be UTF-8; the byte at offset {} is not", error.valid_up_to());
        Problem::from_flaws(ProblemKind::BadBody, vec![Flaw::body("", detail)])
    })?;
    // Paths and faults are tracked only after a failure, because tracking paths costs one allocation for each field.
    serde_json::from_str(text).map_err(|error| explain::<T>(text, &error))
}

/// Parses again to find out what is wrong, and where.
fn explain<'a, T: Deserialize<'a>>(text: &'a str, error: &serde_json::Error) -> Problem {
    let stash = Stash::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize::<_, T>(stash.wrap(&mut deserializer));
    let Err(located) = read else {
        // The fault is in the data after the value.
        return invalid_json("", &error.to_string());
    };
    let path = located.path().to_string();
    let path = if path == "." { "" } else { &path };
    match located.inner() {
        Fault::Syntax(_) if is_number_out_of_range(text, error) => Problem::from_flaws(
            ProblemKind::BadFields,
            vec![Flaw::body(path, "is a number that is too large")],
        ),
        Fault::Syntax(message) => invalid_json(path, message),
        fault => Problem::from_flaws(ProblemKind::BadFields, vec![flaw(path, fault)]),
    }
}

fn invalid_json(path: &str, message: &str) -> Problem {
    // An incomplete key appears as "?" in the path.
    let path = path.trim_end_matches('?').trim_end_matches('.');
    let detail = format!("invalid JSON: {message}");
    Problem::from_flaws(ProblemKind::BadBody, vec![Flaw::body(path, detail)])
}

fn flaw(path: &str, fault: &Fault) -> Flaw {
    let child = |field: &str| match (path, field) {
        ("", name) | (name, "") => name.to_owned(),
        (path, field) => format!("{path}.{field}"),
    };
    match fault {
        Fault::DuplicateField(field) => Flaw::body(child(field), "is given twice; give it once"),
        Fault::MissingField(field) => Flaw::body(child(field), "is missing"),
        Fault::UnknownField(known) => Flaw::unknown_field(path, known),
        Fault::Mismatch { found, expected } => {
            Flaw::body(path, format!("{found}, expected {expected}"))
        }
        Fault::Syntax(message) | Fault::Other(message) => Flaw::body(path, message.clone()),
    }
}

/// Whether the syntax error is a number outside the range of every type. serde_json has no error code for that, but
/// reports where it stopped: at the end of the number, or inside it.
fn is_number_out_of_range(text: &str, error: &serde_json::Error) -> bool {
    let bytes = text.as_bytes();
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines.by_ref().take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
    let Some((left, right)) = bytes.split_at_checked(before + error.column()) else {
        return false;
    };
    let is_end = |byte: &u8| !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    let start = left.iter().rposition(is_end).map_or(0, |at| at + 1);
    let end = left.len() + right.iter().position(is_end).unwrap_or(right.len());
    let is_value = bytes.get(..start).is_some_and(|before| {
        matches!(before.trim_ascii_end().last(), None | Some(b'[' | b',' | b':'))
    });
    // `IgnoredAny` checks the grammar only, and not the range.
    let is_number = |number: &&str| serde_json::from_str::<IgnoredAny>(number).is_ok();
    let number =
        text.get(start..end).filter(is_number).and_then(|number| number.parse::<f64>().ok());
    is_value && number.is_some_and(f64::is_infinite)
}

/// A value that must be a JSON object. Without this wrapper, a derived struct also accepts a list of the values of its
/// fields.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
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

/// An object with distinct keys and values of one type: the first [`MAX_ENTRIES`] entries, and whether there are more.
#[derive(Debug)]
pub(super) struct Entries<V> {
    pub(super) entries: BTreeMap<String, V>,
    pub(super) has_more: bool,
}

/// An object of strings.
pub(super) type Strings = Entries<String>;

impl<V> Default for Entries<V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), has_more: false }
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for EntriesVisitor<V> {
            type Value = Entries<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<V>, A::Error> {
                let mut entries = BTreeMap::new();
                while entries.len() < MAX_ENTRIES {
                    let Some(key) = map.next_key_seed(NewKey(&entries))? else {
                        return Ok(Entries { entries, has_more: false });
                    };
                    entries.insert(key, map.next_value()?);
                }
                let mut has_more = false;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    has_more = true;
                }
                Ok(Entries { entries, has_more })
            }
        }

        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

/// A key that must not repeat. A repeated key is refused while it is read, so that the path of the fault ends with it.
struct NewKey<'a, V>(&'a BTreeMap<String, V>);

impl<'de, V> DeserializeSeed<'de> for NewKey<'_, V> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<V> Visitor<'_> for NewKey<'_, V> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<String, E> {
        if self.0.contains_key(key) { Err(E::duplicate_field("")) } else { Ok(key.to_owned()) }
    }
}

/// An integer of any size; `validate` checks its bounds, and can explain them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Integer(pub(super) i64);

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntegerVisitor;

        impl Visitor<'_> for IntegerVisitor {
            type Value = Integer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E>(self, number: i64) -> Result<Integer, E> {
                Ok(Integer(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Integer, E> {
                Ok(Integer(i64::try_from(number).unwrap_or(i64::MAX)))
            }

            /// `1.0` is an integer, as in JSON Schema. Numbers outside the range of `i64` saturate.
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Integer, E> {
                if number.fract() == 0.0 {
                    #[expect(
                        clippy::cast_possible_truncation,
                        reason = "the number has no fraction, and `as` saturates"
                    )]
                    return Ok(Integer(number as i64));
                }
                Err(E::invalid_type(Unexpected::Float(number), &self))
            }
        }

        deserializer.deserialize_i64(IntegerVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct TestBody {
        #[serde(default)]
        parts: Vec<Object<Part>>,
        #[serde(default)]
        words: Strings,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Part {
        size: Integer,
    }

    fn refused(text: &[u8]) -> (u16, String, String) {
        let problem = json::<Object<TestBody>>(text).unwrap_err();
        let flaw = problem.flaws.first().cloned();
        let field = flaw.map(|flaw| flaw.field).unwrap_or_default();
        (problem.kind.status().as_u16(), field, problem.detail.to_string())
    }

    #[test]
    fn every_fault_has_a_status_and_a_field() {
        let cases: [(&[u8], u16, &str, &str); 15] = [
            (b"", 400, "", "empty"),
            (b"{", 400, "", "EOF"),
            (b"{\"parts\": [}", 400, "parts[0]", "invalid JSON"),
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
        for (text, status, field, message) in cases {
            let shown = String::from_utf8_lossy(text);
            let (actual, named, detail) = refused(text);
            assert_eq!((actual, &*named), (status, field), "{shown}: {detail}");
            assert!(detail.contains(message), "{shown}: {detail}");
        }
    }

    #[test]
    fn number_out_of_range_is_not_a_syntax_error() {
        let digits = "9".repeat(5_000);
        for number in ["1e999", "-1e999", "1E+400", &digits] {
            for text in [
                format!("{{\"parts\": [{{\"size\": {number}}}]}}"),
                format!("{{\n\"parts\": [\n {{\"size\":\t{number} \n}}]}}"),
            ] {
                let (status, field, detail) = refused(text.as_bytes());
                assert_eq!((status, &*field), (422, "parts[0].size"), "{text}: {detail}");
                assert!(detail.contains("too large"), "{text}: {detail}");
            }
        }
        for (text, field) in [
            ("{\"words\": {\"a\": \"\\x1e999\"}}", "words.a"),
            ("{\"words\": {\"a\": \"\u{1}1e999\"}}", "words.a"),
            ("{\"words\": {\"a\": \"\\ud800\"}}", "words.a"),
            ("{\"parts\": [{\"size\": 1e}]}", "parts[0].size"),
            ("{\"parts\": [{\"size\": 01e999}]}", "parts[0].size"),
        ] {
            let (status, named, detail) = refused(text.as_bytes());
            assert_eq!((status, &*named), (400, field), "{text}: {detail}");
        }
    }

    #[test]
    fn text_in_the_body_does_not_affect_the_fault() {
        let cases: [(&[u8], &str, &str); 3] = [
            (b"{\"missing field `size`\": 1}", "missing field `size`", "unknown field"),
            (b"{\"parts\": \"duplicate field `a`\"}", "parts", "expected a sequence"),
            (b"{\"words\": {\"a`b\": \"1\", \"a`b\": \"2\"}}", "words.a`b", "twice"),
        ];
        for (text, field, message) in cases {
            let (status, named, detail) = refused(text);
            assert_eq!((status, &*named), (422, field), "{detail}");
            assert!(detail.contains(message), "{detail}");
        }
    }

    #[test]
    fn valid_json_is_parsed() {
        let text = br#" {"parts": [{"size": 18446744073709551615}, {"size": 1.0}, {"size": -1e40}], "words": {"a": "b"}} "#;
        let Object(body) = json::<Object<TestBody>>(text).unwrap();
        let sizes: Vec<_> = body.parts.iter().map(|part| part.0.size).collect();
        assert_eq!(sizes, [Integer(i64::MAX), Integer(1), Integer(i64::MIN)]);
        assert_eq!(body.words.entries["a"], "b");
    }
}
