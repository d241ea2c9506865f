//! Percent-decoding (RFC 3986 §2.1) of paths and query strings.

use std::borrow::Cow;

/// Decodes `raw`; `None` when an escape is invalid or the result is not UTF-8. In a query `+` means a space (WHATWG
/// URL, application/x-www-form-urlencoded).
pub(super) fn decode(raw: &str, in_query: bool) -> Option<Cow<'_, str>> {
    let is_plain = |byte: u8| byte != b'%' && !(in_query && byte == b'+');
    if raw.bytes().all(is_plain) {
        return Some(Cow::Borrowed(raw));
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => nibble(bytes.next()?)? << 4 | nibble(bytes.next()?)?,
            b'+' if in_query => b' ',
            plain => plain,
        });
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_and_invalid_ones_refused() {
        for (raw, in_query, text) in [
            ("orders-1", false, Some("orders-1")),
            ("a%20b+c", false, Some("a b+c")),
            ("a%20b+c", true, Some("a b c")),
            ("%C3%A9", false, Some("é")),
            ("%2F", false, Some("/")),
            ("%", false, None),
            ("%4", false, None),
            ("%zz", false, None),
            ("%+1", false, None),
            ("%FF", false, None),
        ] {
            assert_eq!(decode(raw, in_query).as_deref(), text, "{raw}");
        }
    }
}
