//! File conventions: length and head of a file, no panics, numbers of decision records.

use crate::{
    modules::{self, Module},
    tree::{self, File},
};

/// The most lines in a file. A longer file has more than one subject.
const LONGEST: usize = 600;

/// Calls that end the process or a task instead of returning an error.
const PANICS: &[&str] = &[".unwrap", ".expect", "panic!", "todo!", "unimplemented!"];

fn panics(module: &Module) -> Vec<String> {
    let mentions = module.mentions_outside_tests().filter_map(|mention| {
        let name = mention.path.last().filter(|name| PANICS.contains(&name.as_str()))?;
        Some(format!("{}:{}: {name}", module.file, mention.line))
    });
    mentions.collect()
}

/// Messages for wrong numbers of these decision records, which are sorted by name.
fn misnumbered(names: &[&str]) -> Vec<String> {
    let expected = (1..).map(|number| format!("{number:04}-"));
    let wrong = names.iter().zip(expected).filter(|(name, number)| !name.starts_with(number));
    wrong.map(|(name, number)| format!("{name} should begin with {number}")).collect()
}

/// The Rust files in these folders.
fn files(folders: &[&str]) -> impl Iterator<Item = File> {
    folders.iter().flat_map(|folder| tree::files(folder, ".rs"))
}

#[test]
fn no_file_is_longer_than_600_lines() {
    let wrong: Vec<_> = files(&["src", "crates", "tests"])
        .map(|file| (file.text.lines().count(), file.path))
        .filter(|(lines, _)| *lines > LONGEST)
        .map(|(lines, path)| format!("{path} has {lines}"))
        .collect();
    tree::assert_none("split these files by subject: at most 600 lines", &wrong);
}

#[test]
fn every_file_begins_with_a_module_comment() {
    let wrong: Vec<_> = files(&["src", "crates", "tests", "benches"])
        .filter(|file| !file.text.starts_with("//!"))
        .map(|file| file.path)
        .collect();
    tree::assert_none("begin these files with //! and what they own", &wrong);
}

#[test]
fn no_panic_outside_tests() {
    let wrong: Vec<_> = modules::all().iter().flat_map(panics).collect();
    tree::assert_none("return an error instead of a panic", &wrong);
}

#[test]
fn panic_is_found_with_its_line_outside_tests_and_literals() {
    let text = "//! x.unwrap()\nfn f() { a.unwrap_or(1); b\n  .unwrap(); }\n#[cfg(test)]\nmod tests {\n \
                fn g() { c.expect(\"d\") }\n}\n#[expect(clippy::panic)]\nfn h() { panic!(\"todo!()\") }\n\
                fn i() { j!(k.expect(\"l\")); std::todo!() }";
    let found = panics(&modules::read_modules(&[File::new("src/a.rs", text)])[0]);
    assert_eq!(
        found,
        ["src/a.rs:3: .unwrap", "src/a.rs:9: panic!", "src/a.rs:10: .expect", "src/a.rs:10: todo!"]
    );
}

#[test]
fn decision_records_are_numbered_without_gaps() {
    let files = tree::files("docs/decisions", ".md");
    assert!(!files.is_empty(), "the decision records were not found");
    let name = |file: &File| file.path.rsplit('/').next().unwrap_or_default().to_owned();
    let names: Vec<_> = files.iter().map(name).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    tree::assert_none("number the decision records without gaps", &misnumbered(&names));
    let untitled = files.iter().filter(|file| !file.text.starts_with("# "));
    let untitled: Vec<_> = untitled.map(|file| file.path.clone()).collect();
    tree::assert_none("begin these with a title", &untitled);
}

#[test]
fn missing_and_duplicate_record_numbers_are_found() {
    assert_eq!(misnumbered(&["0001-a.md", "0003-b.md"]), ["0003-b.md should begin with 0002-"]);
    assert_eq!(misnumbered(&["0001-a.md", "0001-b.md"]), ["0001-b.md should begin with 0002-"]);
}
