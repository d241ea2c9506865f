//! Small rules that keep the house in order: length, headers, no panics, reasons, numbers.

use crate::code;
use crate::tree::{self, File};

/// Lines a file may have. One that needs more has two subjects.
const LONGEST: usize = 600;

/// What ends the process, or a task of it, for want of an answer.
const PANICS: &[&str] = &[".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!("];

/// The lines of a manifest that name a dependency, with their numbers.
pub(crate) fn dependency_lines(manifest: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    manifest.lines().enumerate().filter_map(move |(at, line)| {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.trim_end().ends_with("dependencies]");
            return None;
        }
        let names_one = inside && line.starts_with(|c: char| c.is_alphanumeric());
        names_one.then_some((at + 1, line))
    })
}

fn has_reason(line: &str) -> bool {
    let mut quoted = false;
    let comment = line.char_indices().find(|(_, c)| {
        quoted ^= *c == '"';
        *c == '#' && !quoted
    });
    comment.is_some_and(|(at, _)| line[at..].trim_start_matches('#').trim().len() > 3)
}

/// Names that stand before a smaller one, within each group of neighbouring lines.
fn unsorted(manifest: &str) -> Vec<String> {
    let lines: Vec<_> = dependency_lines(manifest).collect();
    let name = |line: &str| line.split(['=', ' ']).next().unwrap_or_default().to_owned();
    let neighbours = lines.windows(2).filter(|pair| pair[0].0 + 1 == pair[1].0);
    neighbours
        .filter(|pair| name(pair[0].1) > name(pair[1].1))
        .map(|pair| format!("Cargo.toml:{}: {}", pair[1].0, name(pair[1].1)))
        .collect()
}

fn panics(file: &File, shipped: &str) -> Vec<String> {
    let of = |word: &&str| {
        let found = shipped.match_indices(*word);
        found
            .map(|(at, word)| format!("{}:{}: {word}", file.path, code::line(shipped, at)))
            .collect::<Vec<_>>()
    };
    PANICS.iter().flat_map(of).collect()
}

/// What is wrong with the numbers of these decision records, which are in order.
fn misnumbered(names: &[&str]) -> Vec<String> {
    let expected = (1..).map(|number| format!("{number:04}-"));
    let wrong = names.iter().zip(expected).filter(|(name, number)| !name.starts_with(number));
    wrong.map(|(name, number)| format!("{name} should begin with {number}")).collect()
}

fn manifest() -> String {
    std::fs::read_to_string(tree::root().join("Cargo.toml")).unwrap()
}

#[test]
fn no_file_is_longer_than_600_lines() {
    let wrong: Vec<_> = ["src", "tests"]
        .iter()
        .flat_map(|folder| tree::files(folder, ".rs"))
        .map(|file| (file.text.lines().count(), file.path))
        .filter(|(lines, _)| *lines > LONGEST)
        .map(|(lines, path)| format!("{path} has {lines}"))
        .collect();
    tree::must_be_empty("divide these files by subject", &wrong);
}

#[test]
fn every_module_says_first_what_it_owns() {
    let files =
        ["src", "tests", "benches"].into_iter().filter(|name| tree::root().join(name).is_dir());
    let wrong: Vec<_> = files
        .flat_map(|folder| tree::files(folder, ".rs"))
        .filter(|file| !file.text.starts_with("//!"))
        .map(|file| file.path)
        .collect();
    tree::must_be_empty("these files do not begin with //!", &wrong);
}

#[test]
fn nothing_panics_outside_tests() {
    let all = tree::sources();
    let wrong: Vec<_> =
        all.iter().flat_map(|file| panics(file, &file.shipped_code(&all))).collect();
    tree::must_be_empty("answer with an error instead", &wrong);
}

#[test]
fn a_panic_is_found_by_line_unless_it_is_for_tests_or_only_words() {
    let text = "//! x.unwrap()\nfn f() { a.unwrap_or(1); b\n  .unwrap(); }\n#[cfg(test)]\nmod tests {\n \
                fn g() { c.expect(\"d\") }\n}\n#[expect(clippy::panic)]\nfn h() { panic!(\"todo!()\") }";
    let all = [File::new("src/a.rs", text)];
    let found = panics(&all[0], &all[0].shipped_code(&all));
    assert_eq!(found, ["src/a.rs:3: .unwrap()", "src/a.rs:9: panic!("]);
}

#[test]
fn every_dependency_says_what_it_is_for_and_they_are_sorted() {
    let manifest = manifest();
    let unexplained = dependency_lines(&manifest).filter(|(_, line)| !has_reason(line));
    let unexplained: Vec<_> =
        unexplained.map(|(at, line)| format!("Cargo.toml:{at}: {line}")).collect();
    tree::must_be_empty("say behind each what it is for", &unexplained);
    tree::must_be_empty("these are out of order", &unsorted(&manifest));
}

#[test]
fn a_dependency_without_a_reason_or_out_of_order_is_found() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\nb = \"1\" # letters\n\
                    a = \"1#2 no comment\"\n\n# Optional:\naa = { version = \"1\" } #\n[lib]\nc = 1\n";
    let without: Vec<_> =
        dependency_lines(manifest).filter(|(_, line)| !has_reason(line)).collect();
    assert_eq!(without.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [5, 8]);
    assert_eq!(unsorted(manifest), ["Cargo.toml:5: a"]);
}

#[test]
fn decision_records_are_numbered_without_gaps() {
    let files = tree::files("docs/decisions", ".md");
    assert!(!files.is_empty(), "the decision records were not found");
    let name = |file: &File| file.path.rsplit('/').next().unwrap_or_default().to_owned();
    let names: Vec<_> = files.iter().map(name).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    tree::must_be_empty("decision records", &misnumbered(&names));
    let untitled = files.iter().filter(|file| !file.text.starts_with("# "));
    let untitled: Vec<_> = untitled.map(|file| file.path.clone()).collect();
    tree::must_be_empty("these do not begin with a title", &untitled);
}

#[test]
fn a_gap_and_a_number_given_twice_are_found() {
    assert_eq!(misnumbered(&["0001-a.md", "0003-b.md"]), ["0003-b.md should begin with 0002-"]);
    assert_eq!(misnumbered(&["0001-a.md", "0001-b.md"]), ["0001-b.md should begin with 0002-"]);
}
