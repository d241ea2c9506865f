//! Rust text reduced to what the compiler would act on. Lines and columns stay where they were, so
//! that a finding can name them.

/// The code with blanks for comments, strings and characters.
pub(crate) fn only(text: &str) -> String {
    let text: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let end = literal_or_comment(&text, at);
        if let Some(end) = end {
            out.extend(text[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    out
}

/// The code with blanks for everything under `#[cfg(test)]`.
pub(crate) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = code.to_owned();
    while let Some(start) = out.find(MARK) {
        let end = item_end(&out, start + MARK.len());
        let blank: String =
            out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

/// Which line `at` is on, counted from 1.
pub(crate) fn line(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Where the item ends that begins at `from`: with its braces, or with a semicolon before any.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code[from..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return from + at + 1,
            '}' => depth = depth.saturating_sub(1),
            ';' if depth == 0 => return from + at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Where the literal or comment ends that begins at `at`, if one does.
fn literal_or_comment(text: &[char], at: usize) -> Option<usize> {
    let next = text.get(at + 1);
    match text[at] {
        '/' if next == Some(&'/') => Some(find(text, at, |c| c == '\n')),
        '/' if next == Some(&'*') => Some(block_end(text, at)),
        '"' => Some(quote_end(text, at, '"')),
        '\'' if next == Some(&'\\') => Some(quote_end(text, at, '\'')),
        '\'' if text.get(at + 2) == Some(&'\'') => Some(at + 3),
        'r' if !continues_a_word(text, at) => raw_end(text, at),
        _ => None,
    }
}

/// Whether the `r` at `at` belongs to a longer word; the prefixes `br` and `cr` do not count.
fn continues_a_word(text: &[char], at: usize) -> bool {
    let is_word = |at: usize| text[at].is_alphanumeric() || text[at] == '_';
    match at {
        0 => false,
        1 => is_word(0) && !matches!(text[0], 'b' | 'c'),
        _ => is_word(at - 1) && (!matches!(text[at - 1], 'b' | 'c') || is_word(at - 2)),
    }
}

fn find(text: &[char], from: usize, is: impl Fn(char) -> bool) -> usize {
    text[from..].iter().position(|c| is(*c)).map_or(text.len(), |at| from + at)
}

fn block_end(text: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at + 1 < text.len() {
        match (text[at], text[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn quote_end(text: &[char], from: usize, quote: char) -> usize {
    let mut at = from + 1;
    while at < text.len() && text[at] != quote {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    text.len().min(at + 1)
}

fn raw_end(text: &[char], from: usize) -> Option<usize> {
    let quote = find(text, from + 1, |c| c != '#');
    let hashes = quote - from - 1;
    if text.get(quote) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = &text[quote + 1..];
    let end = body.windows(close.len()).position(|window| window == close);
    Some(end.map_or(text.len(), |end| quote + 1 + end + close.len()))
}

#[test]
fn comments_and_literals_are_blanked_and_lines_stay() {
    let text = r##"a /* b /* c */
d */ e // f
"g\" // h" i 'j' '\'' '"' <'k> r#"l " m"# br"n" for_r"##;
    let code = only(text);
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "e", "i", "<'k>", "b", "for_r"]);
    assert_eq!(code.lines().count(), 3);
    assert_eq!(code.chars().count(), text.chars().count());
}

#[test]
fn what_is_for_tests_is_blanked_with_its_braces() {
    let code = "a;\n#[cfg(test)]\nmod tests {\n fn f() { g() }\n}\n#[cfg(test)]\nuse b;\nc;";
    assert_eq!(without_tests(code).split_whitespace().collect::<Vec<_>>(), ["a;", "c;"]);
    assert_eq!(line(code, code.len()), 8);
}
