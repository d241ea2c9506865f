//! Modules do not import each other in a cycle, directly or through other modules, in any source tree.
//!
//! A module is a file. It imports another module if its code outside tests names an item of that module by
//! path. Re-exported items count as the module's own. `mod child;` is not an import: a child may use the items
//! of the parent that declares it, but then the parent may not use the items of the child.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    modules::{self, Module},
    tree::{self, File},
};

/// Files and folders in which cycles are accepted, with the reason. An entry without a cycle fails the test.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// The imported names by importing file and imported file, each with its first line.
type Imports<'a> = BTreeMap<&'a str, BTreeMap<&'a str, BTreeMap<&'a str, usize>>>;

/// The imports among the modules of one source tree.
fn imports<'a>(modules: &[&'a Module]) -> Imports<'a> {
    let module_file = |module: &&'a Module| (module.path.as_slice(), module.file.as_str());
    // In reverse, so that `lib.rs` replaces `main.rs`, which has the same path.
    let files: BTreeMap<_, _> = modules.iter().rev().map(module_file).collect();
    let mut imports = Imports::new();
    for module in modules {
        let targets = imports.entry(module.file.as_str()).or_default();
        for mention in module.mentions_outside_tests() {
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

/// The sets of nodes that can all reach each other.
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
    /// The imports in the cycle, as text.
    description: String,
}

fn find_cycles(modules: &[Module]) -> Vec<Cycle<'_>> {
    let trees: BTreeSet<_> = modules.iter().map(|module| &module.tree).collect();
    let mut found = Vec::new();
    for tree in trees {
        let modules: Vec<_> = modules.iter().filter(|module| module.tree == *tree).collect();
        let imports = imports(&modules);
        let edges = imports.iter().map(|(from, to)| (*from, to.keys().copied().collect()));
        for files in cycles(&edges.collect()) {
            let description = describe(&files, &imports);
            found.push(Cycle { files, description });
        }
    }
    found
}

fn describe(files: &BTreeSet<&str>, imports: &Imports<'_>) -> String {
    let mut description = format!("{} modules", files.len());
    for from in files {
        for (to, names) in imports[from].iter().filter(|(to, _)| files.contains(*to)) {
            let line = names.values().min().unwrap_or(&0);
            let names: Vec<_> = names.keys().copied().collect();
            description += &format!("\n    {from}:{line} imports {} from {to}", names.join(", "));
        }
    }
    description
}

/// Cycles without an exception, and exceptions without a cycle.
fn violations(modules: &[Module], exceptions: &[(&str, &str)]) -> Vec<String> {
    let found = find_cycles(modules);
    let is_in = |folder: &str, cycle: &Cycle<'_>| {
        let mut rests = cycle.files.iter().map(|file| file.strip_prefix(folder));
        rests.all(|rest| rest.is_some_and(|rest| rest.starts_with('/') || rest == ".rs"))
    };
    let unexpected =
        found.iter().filter(|cycle| !exceptions.iter().any(|(folder, _)| is_in(folder, cycle)));
    let mut violations: Vec<_> = unexpected.map(|cycle| cycle.description.clone()).collect();
    for (folder, _) in exceptions {
        if !found.iter().any(|cycle| is_in(folder, cycle)) {
            violations.push(format!("{folder} has no cycle any more: remove its exception"));
        }
    }
    violations
}

#[test]
fn modules_have_no_import_cycle() {
    tree::assert_none(
        "these modules import each other in a cycle; move the shared item into a module of its own",
        &violations(modules::all(), EXCEPTIONS),
    );
}

const CYCLE: [(&str, &str); 5] = [
    ("src/lib.rs", "mod a;\nmod d;\n"),
    ("src/a.rs", "mod b;\nmod c;\npub use b::B;\nfn f() { b::g() }\n"),
    ("src/a/b.rs", "use super::c;\nfn g() { c::deep::h() }\n"),
    ("src/a/c.rs", "use std::fs;\nuse crate::{a, d};\nfn h() -> a::B { d::i() }\n"),
    ("src/d.rs", "pub fn i() {}\n#[cfg(test)]\nmod tests { use crate::a::B; }\n"),
];

fn violations_in(files: &[(&str, &str)], exceptions: &[&str]) -> Vec<String> {
    let files: Vec<_> = files.iter().map(|(file, text)| File::new(file, text)).collect();
    let exceptions: Vec<_> = exceptions.iter().map(|folder| (*folder, "")).collect();
    violations(&modules::read_modules(&files), &exceptions)
}

#[test]
fn cycle_is_found_with_each_of_its_imports() {
    let expected = "3 modules\n    \
                    src/a.rs:3 imports B, g from src/a/b.rs\n    \
                    src/a/b.rs:1 imports deep, self from src/a/c.rs\n    \
                    src/a/c.rs:2 imports B, self from src/a.rs";
    assert_eq!(violations_in(&CYCLE, &[]), [expected]);
}

#[test]
fn exception_covers_only_cycles_in_its_folder() {
    assert_eq!(violations_in(&CYCLE, &["src/a"]), [""; 0]);
    assert_eq!(violations_in(&CYCLE, &["src/a/b"]).len(), 2);
    assert_eq!(
        violations_in(&CYCLE[..2], &["src/a"]),
        ["src/a has no cycle any more: remove its exception"]
    );
}

#[test]
fn child_may_use_its_parent_and_crates_are_separate() {
    let declares = ("src/a.rs", "mod b;\npub(crate) struct A;\n");
    let uses = ("src/a/b.rs", "use super::A;\npub(super) fn f(_: A) {}\n");
    assert_eq!(violations_in(&[declares, uses], &[]), [""; 0]);
    let other = ("crates/x/src/a.rs", "mod b;\nuse b::B;\n");
    assert_eq!(violations_in(&[uses, other], &[]), [""; 0]);
    let both = ("crates/x/src/a/b.rs", "use super::A;\n");
    assert_eq!(violations_in(&[declares, uses, other, both], &[]).len(), 1);
}
