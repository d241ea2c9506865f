//! Quotations of untrusted input (fields of a token or a key) in messages.

/// The text in quotes, cut to its first 64 characters.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}
