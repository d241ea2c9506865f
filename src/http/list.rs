//! Lists in bodies that are longer than allowed: the items beyond the limit are parsed, but not kept.
//!
//! `{},` costs a client three bytes and the server about a hundred: without a limit, a body of a few MiB would take
//! hundreds of MiB. Owns: the limit. Does not own: the error message (`validate`).

use std::{borrow::Cow, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};

/// The first `MAX` items of a list, and whether there were more.
#[derive(Debug)]
pub(super) struct List<T, const MAX: usize> {
    pub(super) items: Vec<T>,
    pub(super) is_longer: bool,
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self { items: Vec::new(), is_longer: false }
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for ListVisitor<T, MAX> {
            type Value = List<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while items.len() < MAX {
                    match list.next_element()? {
                        Some(item) => items.push(item),
                        None => return Ok(List { items, is_longer: false }),
                    }
                }
                let mut is_longer = false;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    is_longer = true;
                }
                Ok(List { items, is_longer })
            }
        }

        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

impl<T: JsonSchema, const MAX: usize> JsonSchema for List<T, MAX> {
    fn schema_name() -> Cow<'static, str> {
        Vec::<T>::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        Vec::<T>::schema_id()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<T>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_beyond_the_limit_are_parsed_but_not_kept() {
        let read = |text: &str| serde_json::from_str::<List<u8, 2>>(text);
        for (text, kept, is_longer) in
            [("[]", 0, false), ("[1, 2]", 2, false), ("[1, 2, {}, [3]]", 2, true)]
        {
            let list = read(text).unwrap();
            assert_eq!((list.items.len(), list.is_longer), (kept, is_longer), "{text}");
        }
        assert!(read("[1, 2, 3").is_err(), "the rest must be JSON too");
        assert!(read("{}").unwrap_err().to_string().contains("expected a sequence"));
    }
}
