//! What is said of what strangers sent is cut: a name of 60 KiB, or ten thousand flaws, would come back many times as
//! large as they were sent.

use std::borrow::Cow;

/// Of a name: longer than any legal one.
const NAME: usize = 256;

/// Of a sentence: the API server's own, with those of webhooks, fit.
const SENTENCE: usize = 2_048;

/// A name, cut.
pub(super) fn name(name: String) -> String {
    match end(&name, NAME) {
        None => name,
        Some(end) => format!("{}…", name.get(..end).unwrap_or("")),
    }
}

/// So much of a text as a name may have: what is formatted from it is cut again.
pub(super) fn head(text: &str) -> &str {
    end(text, NAME).and_then(|end| text.get(..end)).unwrap_or(text)
}

/// A sentence, cut.
pub(super) fn sentence(sentence: Cow<'static, str>) -> Cow<'static, str> {
    match end(&sentence, SENTENCE) {
        None => sentence,
        Some(end) => format!("{}…", sentence.get(..end).unwrap_or("")).into(),
    }
}

/// Where to cut; none when it is short enough.
fn end(text: &str, most: usize) -> Option<usize> {
    let cut = || (0..=most).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    (text.len() > most).then(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(name("a".repeat(256)), "a".repeat(256));
        assert_eq!(name("a".repeat(257)), format!("{}…", "a".repeat(256)));
        assert_eq!(name(format!("a{}", "é".repeat(200))), format!("a{}…", "é".repeat(127)));
        assert!(matches!(sentence("short".into()), Cow::Borrowed("short")));
        assert_eq!(sentence("b".repeat(5_000).into()).len(), SENTENCE + "…".len());
    }
}
