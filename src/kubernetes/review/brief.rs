//! How much is quoted of what others wrote into a token or a key.

/// What a stranger wrote, to be said again: in quotes, and its first 64 characters at most.
pub(super) fn brief(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}
