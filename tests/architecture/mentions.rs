//! The paths, macros and method calls in a file of Rust, each with its line, and whether it is for
//! tests only. `syn` reads the code as tokens, so that macros and attributes are read like the rest.
//!
//! Does not own: which file a path leads to (`modules`).

use std::{collections::BTreeMap, mem};

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use syn::{
    ItemUse, Token, UseTree, Visibility,
    ext::IdentExt as _,
    parse::{ParseStream, Parser as _},
    token::Brace,
};

pub(crate) type Path = Vec<String>;

/// Something that code names.
pub(crate) struct Mention {
    /// From `crate` or the name of another crate on: `crate::http::route::find`, `std::fs`, with
    /// `*` at its end if everything is imported. A macro ends in `!`, a method call is `.name`,
    /// and asynchronous code is `async` or `await`.
    pub(crate) path: Path,
    /// Where its last segment is, counted from 1.
    pub(crate) line: usize,
    /// Whether it is under `#[cfg(test)]` in its file.
    pub(crate) for_tests: bool,
}

#[derive(Default)]
pub(crate) struct Mentions {
    pub(crate) all: Vec<Mention>,
    /// The modules that are declared under `#[cfg(test)]`.
    pub(crate) modules_for_tests: Vec<Path>,
}

/// Reads the text of `module`, a path that begins with `crate`.
pub(crate) fn read(text: &str, module: &[String]) -> syn::Result<Mentions> {
    let mut reader = Reader { here: module.to_vec(), ..Reader::default() };
    reader.tokens(text.parse()?)?;
    for mention in &mut reader.found.all {
        resolve(mention, &reader.names);
    }
    Ok(reader.found)
}

/// What the names stand for that a file imports or declares, and whether it does so for tests. One
/// map is enough for all blocks: where two of them import different modules by the same name, the
/// file imports both.
type Names = BTreeMap<(bool, String), Path>;

/// Replaces the first segment by what it stands for, which may begin with such a name, too.
fn resolve(mention: &mut Mention, names: &Names) {
    let path = &mut mention.path;
    for _ in 0..4 {
        let named = |for_tests| names.get(&(for_tests, path[0].clone()));
        let full = named(mention.for_tests).or_else(|| named(false));
        let Some(full) = full.filter(|full| full[0] != path[0]) else { return };
        path.splice(..1, full.iter().cloned());
    }
}

#[derive(Default)]
struct Reader {
    /// The module that is being read: the file's, or an inline one below it.
    here: Path,
    for_tests: bool,
    names: Names,
    found: Mentions,
}

impl Reader {
    fn tokens(&mut self, tokens: TokenStream) -> syn::Result<()> {
        (|input: ParseStream<'_>| self.stream(input)).parse2(tokens)
    }

    fn stream(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        let mut after_dot = false;
        while !input.is_empty() {
            let is_member = mem::replace(&mut after_dot, input.peek(Token![.]));
            if input.peek(Token![use]) && input.fork().parse::<ItemUse>().is_ok() {
                self.use_tree(&[], &input.parse::<ItemUse>()?.tree);
            } else if input.peek(Token![pub]) {
                // The path in `pub(in path)` imports nothing.
                input.parse::<Visibility>()?;
            } else if input.peek(Token![mod]) && input.peek2(syn::Ident) {
                self.module(input)?;
            } else if input.peek(Ident::peek_any) {
                self.path(input, is_member)?;
            } else if let TokenTree::Group(group) = input.parse()? {
                if group.stream().to_string().replace(' ', "") == "cfg(test)" {
                    let before = mem::replace(&mut self.for_tests, true);
                    self.tokens(rest_of_item(input)?)?;
                    self.for_tests = before;
                } else {
                    self.tokens(group.stream())?;
                }
            }
        }
        Ok(())
    }

    fn use_tree(&mut self, prefix: &[String], tree: &UseTree) {
        let below = |ident: &Ident| match text(ident) {
            name if name == "self" && !prefix.is_empty() => prefix.to_vec(),
            name => [prefix, &[name]].concat(),
        };
        match tree {
            UseTree::Path(path) => self.use_tree(&below(&path.ident), &path.tree),
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.use_tree(prefix, tree));
            }
            UseTree::Glob(glob) => {
                self.add([prefix, &["*".to_owned()]].concat(), glob.star_token.span);
            }
            UseTree::Name(name) => self.import(below(&name.ident), &name.ident, None),
            UseTree::Rename(as_) => self.import(below(&as_.ident), &as_.ident, Some(&as_.rename)),
        }
    }

    fn import(&mut self, path: Path, ident: &Ident, rename: Option<&Ident>) {
        let path = self.absolute(path);
        let name = rename.map(text).or_else(|| path.last().cloned()).unwrap_or_default();
        // Paths that begin with a type lead to the module that the type was imported from.
        if name.starts_with(char::is_lowercase) {
            self.names.insert((self.for_tests, name), path.clone());
        }
        self.add(path, ident.span());
    }

    fn module(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        input.parse::<Token![mod]>()?;
        let name = text(&input.parse()?);
        self.here.push(name.clone());
        self.names.insert((self.for_tests, name), self.here.clone());
        if input.peek(Brace) {
            self.tokens(input.parse::<Group>()?.stream())?;
        } else if self.for_tests {
            self.found.modules_for_tests.push(self.here.clone());
        }
        self.here.pop();
        Ok(())
    }

    fn path(&mut self, input: ParseStream<'_>, is_member: bool) -> syn::Result<()> {
        let mut ident = input.call(Ident::parse_any)?;
        let mut path = vec![text(&ident)];
        while input.peek(Token![::]) && input.peek3(Ident::peek_any) {
            input.parse::<Token![::]>()?;
            ident = input.call(Ident::parse_any)?;
            path.push(text(&ident));
        }
        let is_macro = input.peek(Token![!]) && !input.peek(Token![!=]);
        match path.as_mut_slice() {
            [.., name] if is_macro => name.push('!'),
            [word] if word == "async" || word == "await" => {}
            [name] if is_member => name.insert(0, '.'),
            [_] => return Ok(()),
            _ => {}
        }
        self.add(path, ident.span());
        Ok(())
    }

    fn add(&mut self, path: Path, at: Span) {
        let (path, line) = (self.absolute(path), at.start().line);
        self.found.all.push(Mention { path, line, for_tests: self.for_tests });
    }

    /// Replaces `self` and `super` at the beginning.
    fn absolute(&self, path: Path) -> Path {
        let ups = path.iter().take_while(|segment| *segment == "super").count();
        let rest = &path[usize::from(path[0] == "self").max(ups)..];
        match path[0].as_str() {
            "self" | "super" => {
                let above = self.here.len().saturating_sub(ups).max(1);
                [&self.here[..above], rest].concat()
            }
            _ => path,
        }
    }
}

fn text(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// What an attribute stands before: up to a semicolon, or with its braces.
fn rest_of_item(input: ParseStream<'_>) -> syn::Result<TokenStream> {
    let mut item = Vec::new();
    while !input.is_empty() {
        let tree = input.parse()?;
        let has_ended = match &tree {
            TokenTree::Punct(punct) => punct.as_char() == ';',
            // A use tree has its semicolon behind its braces.
            TokenTree::Group(group) => {
                group.delimiter() == Delimiter::Brace && !input.peek(Token![;])
            }
            _ => false,
        };
        item.push(tree);
        if has_ended {
            break;
        }
    }
    Ok(item.into_iter().collect())
}

fn found(text: &str) -> Vec<String> {
    let mentions = read(text, &["crate".to_owned(), "a".to_owned(), "b".to_owned()]).unwrap().all;
    let shown = mentions.iter().map(|mention| {
        let for_tests = if mention.for_tests { " for tests" } else { "" };
        format!("{} {}{for_tests}", mention.line, mention.path.join("::"))
    });
    shown.collect()
}

#[test]
fn use_trees_are_written_out_with_their_lines() {
    let code = "use crate::{\n  a::{b, c as d},\n  e::{self, f::*},\n};\nx(crate::g::h(), i);";
    assert_eq!(
        found(code),
        ["2 crate::a::b", "2 crate::a::c", "3 crate::e", "3 crate::e::f::*", "5 crate::g::h"]
    );
    assert_eq!(found("match a::b { c::D => e }"), ["1 a::b", "1 c::D"]);
}

#[test]
fn paths_begin_at_the_crate_wherever_they_are_written() {
    let code = "mod child;\npub(in crate::c) use child::D;\nuse std::fs as files;\nuse super::e;\n\
                mod inner {\n use super::f::G;\n use self::h;\n}\n\
                fn i() -> files::File { e::j(child::<crate::k::L>(..super::m::N)) }";
    let expected = [
        "2 crate::a::b::child::D",
        "3 std::fs",
        "4 crate::a::e",
        "6 crate::a::b::f::G",
        "7 crate::a::b::inner::h",
        "9 std::fs::File",
        "9 crate::a::e::j",
        "9 crate::k::L",
        "9 crate::a::m::N",
    ];
    assert_eq!(found(code), expected);
}

#[test]
fn macros_and_attributes_are_read_and_comments_and_literals_are_not() {
    let code = "/* a::b /* c::d */ */ // e::f\n#[g(with = crate::h::i)]\nmacro_rules! j {\n \
                ($k:expr) => { use crate::l::{m, n}; $crate::o::P };\n}\n\
                const Q: &str = r##\"r::s\"# t::u\"##; fn v<'w>() { x!(\"y::z\", 'a', crate::b::c) }";
    let expected = [
        "2 crate::h::i",
        "3 macro_rules!",
        "4 crate::l::m",
        "4 crate::l::n",
        "4 crate::o::P",
        "6 x!",
        "6 crate::b::c",
    ];
    assert_eq!(found(code), expected);
}

#[test]
fn what_is_for_tests_is_marked_up_to_the_end_of_its_item() {
    let code = "a::b();\n#[cfg(test)]\nmod tests {\n fn f() { g::h() }\n}\n#[cfg(test)]\n\
                use i::{j};\n#[cfg(test)]\nmod k;\nmod l;\nm::n();\nfn o() { if p != q { r.s() } }";
    let expected = ["1 a::b", "4 g::h for tests", "7 i::j for tests", "11 m::n", "12 .s"];
    assert_eq!(found(code), expected);
    assert_eq!(read(code, &["crate".to_owned()]).unwrap().modules_for_tests, [["crate", "k"]]);
}
