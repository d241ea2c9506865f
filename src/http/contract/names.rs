//! Names of components that are made from other names.
//!
//! Generators make types and constants of them. Does not own: the names of schemas, which are those of the types in Rust.

/// The component of a parameter. One namespace holds the types of parameters and schemas: `health` would meet the schema
/// `Health`.
pub(super) fn parameter(name: &str) -> String {
    format!("{}Parameter", camel(name))
}

/// Words between hyphens, in CamelCase.
pub(super) fn camel(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    name.split('-').map(capital).collect()
}
