//! The paths, macros and method calls in a Rust file, each with its line and whether it is only for tests.
//! `syn` reads the code as tokens, so macros and attributes are covered as well.
//!
//! Does not own: which file a path refers to (`modules`).
//!

use std::{collections::BTreeMap, mem};

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use syn::{
    ItemUse, Token, UseTree, Visibility,
    ext::IdentExt as _,
    parse::{ParseStream, Parser as _},
    token::Brace,
};

pub(crate) type Path = Vec<String>;

/// An item that code refers to.
pub(crate) struct Mention {
    /// The path from `crate` or the name of another crate on: `crate::http::route::find`, `std::fs`. It ends in
    /// `*` if everything is imported. A macro ends in `!`, a method call is `.name`, and asynchronous code is
    /// `async` or `await`.
    pub(crate) path: Path,
    /// The line of its last segment, counted from 1.
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

/// Collects the mentions in the text of `module`, a path that begins with `crate`.
pub(crate) fn collect_mentions(text: &str, module: &[String]) -> syn::Result<Mentions> {
    let mut collector = Collector { module_path: module.to_vec(), ..Collector::default() };
    collector.tokens(text.parse()?)?;
    for mention in &mut collector.found.all {
        resolve(mention, &collector.names);
    }
    Ok(collector.found)
}

/// The paths of the names that a file imports or declares, and whether it does so only for tests. One map is
/// enough for all blocks: if two blocks import different modules under one name, the file imports both.
type Names = BTreeMap<(bool, String), Path>;

/// Replaces the first segment by its path, which can itself begin with such a name.
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
struct Collector {
    /// The current module: the file's, or an inline module in it.
    module_path: Path,
    for_tests: bool,
    names: Names,
    found: Mentions,
}

impl Collector {
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
        // A path that begins with a type refers to the module from which the type was imported.
        if name.starts_with(char::is_lowercase) {
            self.names.insert((self.for_tests, name), path.clone());
        }
        self.add(path, ident.span());
    }

    fn module(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        input.parse::<Token![mod]>()?;
        let name = text(&input.parse()?);
        self.module_path.push(name.clone());
        self.names.insert((self.for_tests, name), self.module_path.clone());
        if input.peek(Brace) {
            self.tokens(input.parse::<Group>()?.stream())?;
        } else if self.for_tests {
            self.found.modules_for_tests.push(self.module_path.clone());
        }
        self.module_path.pop();
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
            [keyword] if keyword == "async" || keyword == "await" => {}
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

    /// Replaces a leading `self` or `super`.
    fn absolute(&self, path: Path) -> Path {
        let supers = path.iter().take_while(|segment| *segment == "super").count();
        let rest = &path[usize::from(path[0] == "self").max(supers)..];
        match path[0].as_str() {
            "self" | "super" => {
                let above = self.module_path.len().saturating_sub(supers).max(1);
                [&self.module_path[..above], rest].concat()
            }
            _ => path,
        }
    }
}

fn text(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// The item after an attribute: up to a semicolon, or including its braces.
fn rest_of_item(input: ParseStream<'_>) -> syn::Result<TokenStream> {
    let mut item = Vec::new();
    while !input.is_empty() {
        let tree = input.parse()?;
        let has_ended = match &tree {
            TokenTree::Punct(punct) => punct.as_char() == ';',
            // A use tree has its semicolon after its braces.
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
    let mentions =
        collect_mentions(text, &["crate".to_owned(), "a".to_owned(), "b".to_owned()]).unwrap().all;
    let shown = mentions.iter().map(|mention| {
        let for_tests = if mention.for_tests { " for tests" } else { "" };
        format!("{} {}{for_tests}", mention.line, mention.path.join("::"))
    });
    shown.collect()
}

#[test]
fn use_trees_are_expanded_with_their_lines() {
    let code = "use crate::{\n  a::{b, c as d},\n  e::{self, f::*},\n};\nx(crate::g::h(), i);";
    assert_eq!(
        found(code),
        ["2 crate::a::b", "2 crate::a::c", "3 crate::e", "3 crate::e::f::*", "5 crate::g::h"]
    );
    assert_eq!(found("match a::b { c::D => e }"), ["1 a::b", "1 c::D"]);
}

#[test]
fn paths_are_resolved_from_the_crate() {
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
fn macros_and_attributes_count_and_comments_and_literals_do_not() {
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
fn cfg_test_items_are_marked_up_to_their_end() {
    let code = "a::b();\n#[cfg(test)]\nmod tests {\n fn f() { g::h() }\n}\n#[cfg(test)]\n\
                use i::{j};\n#[cfg(test)]\nmod k;\nmod l;\nm::n();\nfn o() { if p != q { r.s() } }";
    let expected = ["1 a::b", "4 g::h for tests", "7 i::j for tests", "11 m::n", "12 .s"];
    assert_eq!(found(code), expected);
    assert_eq!(
        collect_mentions(code, &["crate".to_owned()]).unwrap().modules_for_tests,
        [["crate", "k"]]
    );
}
