//! Truncates untrusted input that a problem quotes. Otherwise a name of 60 KiB, or ten thousand flaws, would make the
//! response many times larger than the request.

use std::borrow::Cow;

/// The maximum size of a quoted name in bytes: longer than every valid name.
const MAX_NAME: usize = 256;

/// The maximum size of a quoted sentence in bytes: sentences of the API server and of webhooks fit.
const MAX_SENTENCE: usize = 2_048;

/// Truncates a name.
pub(super) fn truncate_name(name: String) -> String {
    match cut_at(&name, MAX_NAME) {
        None => name,
        Some(end) => format!("{}…", name.get(..end).unwrap_or("")),
    }
}

/// The first [`MAX_NAME`] bytes of a text. The result is not marked as truncated, so truncate text that is formatted
/// from it again.
pub(super) fn name_prefix(text: &str) -> &str {
    cut_at(text, MAX_NAME).and_then(|end| text.get(..end)).unwrap_or(text)
}

/// Truncates a sentence.
pub(super) fn truncate_sentence(sentence: Cow<'static, str>) -> Cow<'static, str> {
    match cut_at(&sentence, MAX_SENTENCE) {
        None => sentence,
        Some(end) => format!("{}…", sentence.get(..end).unwrap_or("")).into(),
    }
}

/// The offset at which to truncate. `None` when the text is short enough.
fn cut_at(text: &str, most: usize) -> Option<usize> {
    let cut = || (0..=most).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    (text.len() > most).then(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_truncated_between_characters() {
        assert_eq!(truncate_name("a".repeat(256)), "a".repeat(256));
        assert_eq!(truncate_name("a".repeat(257)), format!("{}…", "a".repeat(256)));
        assert_eq!(
            truncate_name(format!("a{}", "é".repeat(200))),
            format!("a{}…", "é".repeat(127))
        );
        assert!(matches!(truncate_sentence("short".into()), Cow::Borrowed("short")));
        assert_eq!(truncate_sentence("b".repeat(5_000).into()).len(), MAX_SENTENCE + "…".len());
    }
}
