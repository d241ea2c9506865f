//! Derives the names of components from other names.
//!
//! Generators turn component names into types and constants. Does not own: the names of schemas, which come from the
//! Rust types.

/// The component of a parameter. Generators put the types of parameters and schemas into one namespace, where the
/// parameter `health` would clash with the schema `Health`.
pub(super) fn parameter(name: &str) -> String {
    format!("{}Parameter", camel_case(name))
}

/// A hyphenated name in CamelCase.
pub(super) fn camel_case(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    name.split('-').map(capital).collect()
}
