//! What is wrong with a JSON text, as values: serde hands its errors on as sentences, and nothing is decided by those.
//!
//! Owns: a deserializer around another one whose error type keeps what serde says of a field, and what it is made of. The
//! inner error type cannot carry that, so a fault waits beside it until the call returns. Reads as a stream: nothing of the
//! text is kept. Does not own: what is said about a fault (`json`).

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

/// What is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is no JSON, or a number that no type holds; the parser's sentence.
    Syntax(String),
    /// A field that is not one of these.
    UnknownField(&'static [&'static str]),
    MissingField(&'static str),
    /// Empty where the path names it already.
    DuplicateField(&'static str),
    /// Another type or value.
    Mismatch {
        /// As `invalid type: null`; cut, since it quotes the text.
        found: String,
        expected: String,
    },
    /// Something else; the sentence of the type that was read.
    Other(String),
}

/// A deserializer with [`Fault`] for its errors. It asks the inner one for whatever there is, so that every mismatch is
/// found by a visitor and not by the inner one: JSON says its types. Of enums it reads those whose variants are words.
pub(super) struct Structured<'s, D> {
    inner: D,
    stash: &'s Stash,
}

/// The fault of which the inner deserializer has been told by a placeholder.
#[derive(Default)]
pub(super) struct Stash(Cell<Option<Fault>>);

impl Stash {
    /// A deserializer that leaves its faults here.
    pub(super) fn around<D>(&self, inner: D) -> Structured<'_, D> {
        Structured { inner, stash: self }
    }

    fn put<T, E: de::Error>(&self, result: Result<T, Fault>) -> Result<T, E> {
        result.map_err(|fault| {
            self.0.set(Some(fault));
            E::custom("")
        })
    }

    /// What is behind an error of the inner deserializer: what was put, or else its own.
    fn take<T, E: fmt::Display>(&self, result: Result<T, E>) -> Result<T, Fault> {
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
    fn mismatch(of: &str, found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            // As JSON calls it.
            Unexpected::Unit => format!("invalid {of}: null"),
            // Quoted: what is beyond a few hundred bytes is cut before it is escaped.
            Unexpected::Str(text) => {
                clip::name(format!("invalid {of}: string {:?}", clip::head(text)))
            }
            found => clip::name(format!("invalid {of}: {found}")),
        };
        Self::Mismatch { found, expected: expected.to_string() }
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Structured<'_, D> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.stash.take(self.inner.deserialize_any(Watched { it: visitor, stash: self.stash }))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.stash.take(self.inner.deserialize_option(Watched { it: visitor, stash: self.stash }))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let watched = Watched { it: visitor, stash: self.stash };
        self.stash.take(self.inner.deserialize_ignored_any(watched))
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
        self.deserialize_any(Word(visitor))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier
    }
}

/// A visitor, a seed or an access whose faults are put into the stash.
struct Watched<'s, T> {
    it: T,
    stash: &'s Stash,
}

macro_rules! visit {
    ($($method:ident: $type:ty),*) => {$(
        fn $method<E: de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.stash.put(self.it.$method(value))
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Watched<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.it.expecting(f)
    }

    visit! {
        visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str,
        visit_borrowed_str: &'de str, visit_string: String
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.stash.put(self.it.visit_unit())
    }

    fn visit_none<E: de::Error>(self) -> Result<V::Value, E> {
        self.stash.put(self.it.visit_none())
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.stash.put(self.it.visit_some(self.stash.around(inner)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let Self { it, stash } = self;
        stash.put(it.visit_seq(Watched { it: inner, stash }))
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let Self { it, stash } = self;
        stash.put(it.visit_map(Watched { it: inner, stash }))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Watched<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.stash.put(self.it.deserialize(self.stash.around(inner)))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Watched<'_, A> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let Self { it, stash } = self;
        stash.take(it.next_element_seed(Watched { it: seed, stash }))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Watched<'_, A> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let Self { it, stash } = self;
        stash.take(it.next_key_seed(Watched { it: seed, stash }))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let Self { it, stash } = self;
        stash.take(it.next_value_seed(Watched { it: seed, stash }))
    }
}

/// The visitor of an enum, to which a string is the name of a variant.
struct Word<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Word<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<V::Value, E> {
        self.0.visit_enum(unit(word))
    }
}

fn unit<'a, 'de, E: de::Error + 'a>(word: &'a str) -> impl EnumAccess<'de, Error = E> + 'a {
    word.into_deserializer()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Thing {
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
    struct Whole {
        #[serde(rename = "all")]
        _all: bool,
    }

    fn read<'de, T: de::Deserialize<'de>>(text: &'de str) -> Result<T, Fault> {
        T::deserialize(Stash::default().around(&mut serde_json::Deserializer::from_str(text)))
    }

    #[test]
    fn values_are_read_as_without_the_adapter() {
        for text in [
            "{}",
            "{\"number\": 7, \"flag\": true, \"word\": \"Up\", \"pair\": [1, 2], \"new\": -5}",
            "{\"number\": null, \"list\": [{}, {\"list\": [{\"word\": \"Down\"}]}]}",
        ] {
            let plain: Thing = serde_json::from_str(text).unwrap();
            assert_eq!(read::<Thing>(text).unwrap(), plain, "{text}");
        }
        let text = "{\"a\": [1, -2, 3.5, \"b\\n\", null, {\"c\": false}]}";
        assert_eq!(read::<Value>(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn faults_are_values_whatever_the_text_quotes() {
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
            ("{\"list\": [null]}", mismatch("invalid type: null", "struct Thing")),
            ("{\"pair\": [1]}", mismatch("invalid length: 1", "a tuple of size 2")),
            ("{\"word\": 1}", mismatch("invalid type: integer `1`", "enum Word")),
            (
                "{\"word\": \"Left\"}",
                Fault::Other("unknown variant `Left`, expected `Up` or `Down`".to_owned()),
            ),
        ] {
            assert_eq!(read::<Thing>(text).unwrap_err(), fault, "{text}");
        }
        assert_eq!(read::<Whole>("{}").unwrap_err(), Fault::MissingField("all"));
    }

    #[test]
    fn what_is_no_json_is_told_apart_from_what_is_not_expected() {
        for text in ["", "{", "{\"list\": [}", "{\"list\": [{]}", "{\"number\": 1e999}", "nul"] {
            let fault = read::<Thing>(text).unwrap_err();
            assert!(matches!(fault, Fault::Syntax(_)), "{text}: {fault}");
        }
    }

    #[test]
    fn quoted_text_is_cut() {
        let text = format!("{{\"number\": \"{}\"}}", "x".repeat(100_000));
        let Err(Fault::Mismatch { found, .. }) = read::<Thing>(&text) else { panic!() };
        assert!(found.len() < 300, "{}", found.len());
    }
}
