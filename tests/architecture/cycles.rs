//! No modules import each other in a cycle, directly or through others, in any source tree.
//!
//! A module is a file. It imports another if code outside tests names something of it by its path;
//! what a module re-exports is its own. `mod child;` is no import, so a parent may declare a child
//! that uses the parent's items, but may not use the child's items as well.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    modules::{self, Module},
    tree::{self, File},
};

/// Files and folders in which cycles remain, with the reason. An entry without a cycle fails the
/// test.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// By importing file and imported file, the names that are imported, each with its first line.
type Imports<'a> = BTreeMap<&'a str, BTreeMap<&'a str, BTreeMap<&'a str, usize>>>;

/// What the modules of one source tree import of each other.
fn imports<'a>(modules: &[&'a Module]) -> Imports<'a> {
    let place = |module: &&'a Module| (module.path.as_slice(), module.file.as_str());
    // From the end: of `lib.rs` and `main.rs`, whose paths are the same, the first is the library.
    let files: BTreeMap<_, _> = modules.iter().rev().map(place).collect();
    let mut imports = Imports::new();
    for module in modules {
        let targets = imports.entry(module.file.as_str()).or_default();
        for mention in module.shipped() {
            let mut prefixes = (1..=mention.path.len()).rev();
            let deepest = prefixes.find(|length| files.contains_key(&mention.path[..*length]));
            let Some(length) = deepest else { continue };
            let target = files[&mention.path[..length]];
            if target != module.file {
                let name = mention.path.get(length).map_or("self", String::as_str);
                targets.entry(target).or_default().entry(name).or_insert(mention.line);
            }
        }
    }
    imports
}

/// The sets of nodes in which each can be reached from each.
pub(crate) fn cycles<'a>(
    edges: &BTreeMap<&'a str, BTreeSet<&'a str>>,
) -> BTreeSet<BTreeSet<&'a str>> {
    let reached = |from: &&'a str| {
        let (mut found, mut next) = (BTreeSet::new(), vec![*from]);
        while let Some(node) = next.pop() {
            next.extend(edges.get(node).into_iter().flatten().filter(|node| found.insert(**node)));
        }
        found
    };
    let reached: BTreeMap<_, _> = edges.keys().map(|node| (*node, reached(node))).collect();
    let cycle = |from: &&'a str| -> BTreeSet<_> {
        let returns = |node: &&&str| reached.get(**node).is_some_and(|found| found.contains(*from));
        reached[*from].iter().filter(returns).copied().collect()
    };
    edges.keys().map(cycle).filter(|cycle| !cycle.is_empty()).collect()
}

struct Cycle<'a> {
    files: BTreeSet<&'a str>,
    /// What in it imports what.
    words: String,
}

fn find(modules: &[Module]) -> Vec<Cycle<'_>> {
    let trees: BTreeSet<_> = modules.iter().map(|module| &module.tree).collect();
    let mut found = Vec::new();
    for tree in trees {
        let modules: Vec<_> = modules.iter().filter(|module| module.tree == *tree).collect();
        let imports = imports(&modules);
        let edges = imports.iter().map(|(from, to)| (*from, to.keys().copied().collect()));
        for files in cycles(&edges.collect()) {
            let words = describe(&files, &imports);
            found.push(Cycle { files, words });
        }
    }
    found
}

fn describe(files: &BTreeSet<&str>, imports: &Imports<'_>) -> String {
    let mut words = format!("{} modules", files.len());
    for from in files {
        for (to, names) in imports[from].iter().filter(|(to, _)| files.contains(*to)) {
            let line = names.values().min().unwrap_or(&0);
            let names: Vec<_> = names.keys().copied().collect();
            words += &format!("\n    {from}:{line} imports {} from {to}", names.join(", "));
        }
    }
    words
}

/// Cycles outside the excepted places, and exceptions without a cycle.
fn wrong(modules: &[Module], exceptions: &[(&str, &str)]) -> Vec<String> {
    let found = find(modules);
    let is_in = |place: &str, cycle: &Cycle<'_>| {
        let mut rests = cycle.files.iter().map(|file| file.strip_prefix(place));
        rests.all(|rest| rest.is_some_and(|rest| rest.starts_with('/') || rest == ".rs"))
    };
    let unexpected =
        found.iter().filter(|cycle| !exceptions.iter().any(|(place, _)| is_in(place, cycle)));
    let mut wrong: Vec<_> = unexpected.map(|cycle| cycle.words.clone()).collect();
    for (place, _) in exceptions {
        if !found.iter().any(|cycle| is_in(place, cycle)) {
            wrong.push(format!("{place} has no cycle any more: remove the exception"));
        }
    }
    wrong
}

#[test]
fn no_modules_import_each_other_in_a_cycle() {
    tree::must_be_empty("cycles among modules", &wrong(modules::all(), EXCEPTIONS));
}

const CYCLE: [(&str, &str); 5] = [
    ("src/lib.rs", "mod a;\nmod d;\n"),
    ("src/a.rs", "mod b;\nmod c;\npub use b::B;\nfn f() { b::g() }\n"),
    ("src/a/b.rs", "use super::c;\nfn g() { c::deep::h() }\n"),
    ("src/a/c.rs", "use std::fs;\nuse crate::{a, d};\nfn h() -> a::B { d::i() }\n"),
    ("src/d.rs", "pub fn i() {}\n#[cfg(test)]\nmod tests { use crate::a::B; }\n"),
];

fn wrong_in(files: &[(&str, &str)], exceptions: &[&str]) -> Vec<String> {
    let files: Vec<_> = files.iter().map(|(file, text)| File::new(file, text)).collect();
    let exceptions: Vec<_> = exceptions.iter().map(|place| (*place, "")).collect();
    wrong(&modules::read(&files), &exceptions)
}

#[test]
fn a_cycle_is_found_with_each_import_in_it() {
    let expected = "3 modules\n    \
                    src/a.rs:3 imports B, g from src/a/b.rs\n    \
                    src/a/b.rs:1 imports deep, self from src/a/c.rs\n    \
                    src/a/c.rs:2 imports B, self from src/a.rs";
    assert_eq!(wrong_in(&CYCLE, &[]), [expected]);
}

#[test]
fn an_exception_covers_the_cycles_in_its_folder_and_no_others() {
    assert_eq!(wrong_in(&CYCLE, &["src/a"]), [""; 0]);
    assert_eq!(wrong_in(&CYCLE, &["src/a/b"]).len(), 2);
    assert_eq!(
        wrong_in(&CYCLE[..2], &["src/a"]),
        ["src/a has no cycle any more: remove the exception"]
    );
}

#[test]
fn a_child_may_use_its_parent_and_crates_are_apart() {
    let declares = ("src/a.rs", "mod b;\npub(crate) struct A;\n");
    let uses = ("src/a/b.rs", "use super::A;\npub(super) fn f(_: A) {}\n");
    assert_eq!(wrong_in(&[declares, uses], &[]), [""; 0]);
    let other = ("crates/x/src/a.rs", "mod b;\nuse b::B;\n");
    assert_eq!(wrong_in(&[uses, other], &[]), [""; 0]);
    let both = ("crates/x/src/a/b.rs", "use super::A;\n");
    assert_eq!(wrong_in(&[declares, uses, other, both], &[]).len(), 1);
}
