//! The paths that code mentions, with use trees written out.

/// A path and the line of its last segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    PathSeparator,
    Other(char),
}

/// Every path of two segments or more, from its first segment on. `code` is without comments and
/// literals.
pub(crate) fn mentions(code: &str) -> Vec<Mention> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((token, _)) = tokens.get(at) {
        let leads = tokens.get(at + 1).is_some_and(|(next, _)| *next == Token::PathSeparator);
        if matches!(token, Token::Word(_)) && leads {
            let mut reader = Reader { tokens: &tokens, at, found: &mut found };
            reader.tree(&[]);
            at = reader.at;
        } else {
            at += 1;
        }
    }
    found
}

struct Reader<'a, 'b> {
    tokens: &'b [(Token<'a>, usize)],
    at: usize,
    found: &'b mut Vec<Mention>,
}

impl Reader<'_, '_> {
    /// Reads one path or use tree below `prefix`.
    fn tree(&mut self, prefix: &[String]) {
        let mut segments = prefix.to_vec();
        let mut line = self.tokens.get(self.at.saturating_sub(1)).map_or(0, |(_, line)| *line);
        while let Some((Token::Word(word), on)) = self.tokens.get(self.at) {
            segments.push((*word).to_owned());
            line = *on;
            self.at += 1;
            if self.next_is(&Token::PathSeparator) {
                self.at += 1;
            } else {
                break;
            }
        }
        if self.next_is(&Token::Other('{')) && self.at > 0 && self.follows_a_separator() {
            self.at += 1;
            self.group(&segments);
        } else {
            self.found.push(Mention { segments, line });
        }
    }

    fn group(&mut self, prefix: &[String]) {
        while self.at < self.tokens.len() && !self.next_is(&Token::Other('}')) {
            match self.tokens[self.at].0 {
                Token::Word(_) => {
                    self.tree(prefix);
                    // A new name for it is no path.
                    while !self.next_is(&Token::Other(',')) && !self.next_is(&Token::Other('}')) {
                        if self.at >= self.tokens.len() {
                            return;
                        }
                        self.at += 1;
                    }
                }
                _ => self.at += 1,
            }
        }
        self.at += 1;
    }

    fn follows_a_separator(&self) -> bool {
        self.tokens[self.at - 1].0 == Token::PathSeparator
    }

    fn next_is(&self, token: &Token<'_>) -> bool {
        self.tokens.get(self.at).is_some_and(|(next, _)| next == token)
    }
}

fn tokens(code: &str) -> Vec<(Token<'_>, usize)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut rest, mut line, mut tokens) = (code, 1, Vec::new());
    while let Some(c) = rest.chars().next() {
        let length = if is_word(c) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            tokens.push((Token::Word(&rest[..length]), line));
            length
        } else if rest.starts_with("::") {
            tokens.push((Token::PathSeparator, line));
            2
        } else {
            line += usize::from(c == '\n');
            if !c.is_whitespace() {
                tokens.push((Token::Other(c), line));
            }
            c.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

#[test]
fn use_trees_are_written_out_with_their_lines() {
    let code = "use crate::{\n  a::{b, c as d},\n  e::{self, f::*},\n};\nx(crate::g::h(), i);";
    let found: Vec<String> =
        mentions(code).iter().map(|m| format!("{} {}", m.line, m.segments.join("::"))).collect();
    assert_eq!(
        found,
        ["2 crate::a::b", "2 crate::a::c", "3 crate::e::self", "3 crate::e::f", "5 crate::g::h"]
    );
}

#[test]
fn a_block_after_a_path_is_no_use_tree() {
    let found = mentions("match a::b { c::D => e }");
    assert_eq!(found.len(), 2, "{found:?}");
}
