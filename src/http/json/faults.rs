//! The faults of a JSON text as values. serde reports errors as sentences, which should not be parsed.
//!
//! Owns: a deserializer around another one, whose error type keeps the structure of an error. The inner error type
//! cannot carry that structure, so a fault is stored in a [`Stash`] until the call returns. The text is streamed and
//! not kept. Does not own: the wording of a fault (`json`).

use std::{cell::Cell, fmt};

use serde::{
    Deserializer,
    de::{
        self, DeserializeSeed, EnumAccess, Expected, IntoDeserializer as _, MapAccess, SeqAccess,
        Unexpected, Visitor,
    },
    forward_to_deserialize_any,
};

use crate::http::clip;

/// A fault of a JSON text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not JSON, or a number outside the range of every type; the text is the parser's.
    Syntax(String),
    /// A field that is not one of these fields.
    UnknownField(&'static [&'static str]),
    MissingField(&'static str),
    /// Empty when the path already ends with the field.
    DuplicateField(&'static str),
    /// A value of the wrong type, or outside the range of its type.
    Mismatch {
        /// For example `invalid type: null`; truncated, because it quotes the JSON text.
        found: String,
        expected: String,
    },
    /// Any other fault; the text comes from the type that was read.
    Other(String),
}

/// A deserializer with [`Fault`] as its error type. It calls `deserialize_any` of the inner deserializer, which JSON
/// supports, so that every mismatch is detected by a visitor and not by the inner deserializer. It supports enums with
/// unit variants only.
pub(super) struct FaultDeserializer<'s, D> {
    inner: D,
    stash: &'s Stash,
}

/// The fault behind a placeholder error that was given to the inner deserializer.
#[derive(Default)]
pub(super) struct Stash(Cell<Option<Fault>>);

impl Stash {
    /// Wraps a deserializer, so that its faults are stored here.
    pub(super) fn wrap<D>(&self, inner: D) -> FaultDeserializer<'_, D> {
        FaultDeserializer { inner, stash: self }
    }

    fn capture<T, E: de::Error>(&self, result: Result<T, Fault>) -> Result<T, E> {
        result.map_err(|fault| {
            self.0.set(Some(fault));
            E::custom("")
        })
    }

    /// The fault behind an error of the inner deserializer: the stored fault, or else a syntax error.
    fn recover<T, E: fmt::Display>(&self, result: Result<T, E>) -> Result<T, Fault> {
        result.map_err(|error| self.0.take().unwrap_or_else(|| Fault::Syntax(error.to_string())))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::mismatch("type", found, expected)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::mismatch("value", found, expected)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::Mismatch {
            found: format!("invalid length: {length}"),
            expected: expected.to_string(),
        }
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownField(known)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::MissingField(field)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::DuplicateField(field)
    }
}

impl Fault {
    fn mismatch(what: &str, found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            // serde calls it `unit value`.
            Unexpected::Unit => format!("invalid {what}: null"),
            // Long text is truncated before it is escaped.
            Unexpected::Str(text) => {
                clip::truncate_name(format!("invalid {what}: string {:?}", clip::name_prefix(text)))
            }
            found => clip::truncate_name(format!("invalid {what}: {found}")),
        };
        Self::Mismatch { found, expected: expected.to_string() }
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for FaultDeserializer<'_, D> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.stash
            .recover(self.inner.deserialize_any(Capturing { inner: visitor, stash: self.stash }))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.stash
            .recover(self.inner.deserialize_option(Capturing { inner: visitor, stash: self.stash }))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let visitor = Capturing { inner: visitor, stash: self.stash };
        self.stash.recover(self.inner.deserialize_ignored_any(visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_any(VariantVisitor(visitor))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier
    }
}

/// A visitor, a seed or an access that stores its faults in the stash.
struct Capturing<'s, T> {
    inner: T,
    stash: &'s Stash,
}

macro_rules! visit {
    ($($method:ident: $type:ty),*) => {$(
        fn $method<E: de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.stash.capture(self.inner.$method(value))
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Capturing<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visit! {
        visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str,
        visit_borrowed_str: &'de str, visit_string: String
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.stash.capture(self.inner.visit_unit())
    }

    fn visit_none<E: de::Error>(self) -> Result<V::Value, E> {
        self.stash.capture(self.inner.visit_none())
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.stash.capture(self.inner.visit_some(self.stash.wrap(inner)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let Self { inner: target, stash } = self;
        stash.capture(target.visit_seq(Capturing { inner, stash }))
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let Self { inner: target, stash } = self;
        stash.capture(target.visit_map(Capturing { inner, stash }))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Capturing<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.stash.capture(self.inner.deserialize(self.stash.wrap(inner)))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Capturing<'_, A> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let Self { inner: target, stash } = self;
        stash.recover(target.next_element_seed(Capturing { inner: seed, stash }))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Capturing<'_, A> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let Self { inner: target, stash } = self;
        stash.recover(target.next_key_seed(Capturing { inner: seed, stash }))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let Self { inner: target, stash } = self;
        stash.recover(target.next_value_seed(Capturing { inner: seed, stash }))
    }
}

/// The visitor of an enum, which reads a string as the name of a variant.
struct VariantVisitor<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for VariantVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<V::Value, E> {
        self.0.visit_enum(unit(name))
    }
}

fn unit<'a, 'de, E: de::Error + 'a>(name: &'a str) -> impl EnumAccess<'de, Error = E> + 'a {
    name.into_deserializer()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        number: Option<u8>,
        flag: Option<bool>,
        word: Option<Word>,
        list: Option<Vec<Self>>,
        pair: Option<(u8, u8)>,
        new: Option<New>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    enum Word {
        Up,
        Down,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct New(i32);

    #[derive(Debug, Deserialize)]
    struct Required {
        #[serde(rename = "all")]
        _all: bool,
    }

    fn read<'de, T: de::Deserialize<'de>>(text: &'de str) -> Result<T, Fault> {
        T::deserialize(Stash::default().wrap(&mut serde_json::Deserializer::from_str(text)))
    }

    #[test]
    fn fault_deserializer_reads_the_same_values() {
        for text in [
            "{}",
            "{\"number\": 7, \"flag\": true, \"word\": \"Up\", \"pair\": [1, 2], \"new\": -5}",
            "{\"number\": null, \"list\": [{}, {\"list\": [{\"word\": \"Down\"}]}]}",
        ] {
            let plain: Sample = serde_json::from_str(text).unwrap();
            assert_eq!(read::<Sample>(text).unwrap(), plain, "{text}");
        }
        let text = "{\"a\": [1, -2, 3.5, \"b\\n\", null, {\"c\": false}]}";
        assert_eq!(read::<Value>(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn faults_are_structured_whatever_the_text_contains() {
        const KNOWN: &[&str] = &["number", "flag", "word", "list", "pair", "new"];
        let mismatch = |found: &str, expected: &str| Fault::Mismatch {
            found: found.to_owned(),
            expected: expected.to_owned(),
        };
        for (text, fault) in [
            ("{\"x\": 1}", Fault::UnknownField(KNOWN)),
            ("{\"missing field `number`\": 1}", Fault::UnknownField(KNOWN)),
            ("{\"flag\": true, \"flag\": true}", Fault::DuplicateField("flag")),
            ("{\"list\": [{}, {\"list\": [{\"x\": 1}]}]}", Fault::UnknownField(KNOWN)),
            ("{\"number\": 300}", mismatch("invalid value: integer `300`", "u8")),
            (
                "{\"number\": \"duplicate field `a`, expected b\"}",
                mismatch("invalid type: string \"duplicate field `a`, expected b\"", "u8"),
            ),
            ("{\"list\": [null]}", mismatch("invalid type: null", "struct Sample")),
            ("{\"pair\": [1]}", mismatch("invalid length: 1", "a tuple of size 2")),
            ("{\"word\": 1}", mismatch("invalid type: integer `1`", "enum Word")),
            (
                "{\"word\": \"Left\"}",
                Fault::Other("unknown variant `Left`, expected `Up` or `Down`".to_owned()),
            ),
        ] {
            assert_eq!(read::<Sample>(text).unwrap_err(), fault, "{text}");
        }
        assert_eq!(read::<Required>("{}").unwrap_err(), Fault::MissingField("all"));
    }

    #[test]
    fn syntax_errors_are_distinct_from_mismatches() {
        for text in ["", "{", "{\"list\": [}", "{\"list\": [{]}", "{\"number\": 1e999}", "nul"] {
            let fault = read::<Sample>(text).unwrap_err();
            assert!(matches!(fault, Fault::Syntax(_)), "{text}: {fault}");
        }
    }

    #[test]
    fn quoted_text_is_truncated() {
        let text = format!("{{\"number\": \"{}\"}}", "x".repeat(100_000));
        let Err(Fault::Mismatch { found, .. }) = read::<Sample>(&text) else { panic!() };
        assert!(found.len() < 300, "{}", found.len());
    }
}
