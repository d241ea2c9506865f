//! What the heart may know: no I/O, no async, no clock. So it can be proved by simulation.

use crate::code;
use crate::paths;
use crate::tree::{self, File};

/// The small pure crates that `registry` may use.
const PURE: &[&str] = &[
    "ahash",
    "arc_swap",
    "bytes",
    "fastrand",
    "ipnet",
    "papaya",
    "parking_lot",
    "thiserror",
    "xxhash_rust",
];

/// Parts of std that speak to the world, and the words of asynchronous code.
const WORLDLY: &[&str] =
    &["std::env", "std::fs", "std::io", "std::process", "std::thread", "std::time::Instant"];
const WORLDLY_WORDS: &[&str] = &["async fn", "async move", ".await", "SystemTime", "Instant::now"];

/// The crates that the package depends on, as code names them.
fn dependencies() -> Vec<String> {
    let manifest = tree::files("", "Cargo.toml").into_iter().find(|file| file.path == "Cargo.toml");
    let manifest = manifest.expect("Cargo.toml is there");
    let names: Vec<_> =
        crate::upkeep::dependency_lines(&manifest.text).map(|(_, line)| name(line)).collect();
    assert!(names.contains(&"tokio".to_owned()), "the dependencies were not found: {names:?}");
    names
}

fn name(line: &str) -> String {
    line.split(['=', '.', ' ']).next().unwrap_or_default().replace('-', "_")
}

fn impure(file: &File, shipped: &str, dependencies: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for mention in paths::mentions(shipped) {
        let path = mention.segments.join("::");
        let first = &mention.segments[0];
        let foreign = dependencies.contains(first) && !PURE.contains(&first.as_str());
        if foreign || WORLDLY.iter().any(|part| path.starts_with(part)) {
            wrong.push(format!("{}:{}: {path}", file.path, mention.line));
        }
    }
    for word in WORLDLY_WORDS {
        for (at, _) in shipped.match_indices(word) {
            wrong.push(format!("{}:{}: {word}", file.path, code::line(shipped, at)));
        }
    }
    wrong
}

#[test]
fn the_registry_has_no_input_or_output_no_async_and_no_clock() {
    let (all, dependencies) = (tree::sources(), dependencies());
    let heart = all.iter().filter(|file| file.path.starts_with("src/registry/"));
    let wrong: Vec<_> =
        heart.flat_map(|file| impure(file, &file.shipped_code(&all), &dependencies)).collect();
    tree::must_be_empty("the registry is pure: these belong to another room", &wrong);
}

#[test]
fn whatever_is_impure_is_found_unless_it_is_for_tests() {
    let text = "use std::{time::{Duration, Instant}, fs};\nuse papaya::HashMap;\nasync fn f() {\n  \
                kube::x() }\n#[cfg(test)]\nmod tests { use tokio::time; }\n";
    let file = File::new("src/registry/a.rs", text);
    let all = [file];
    let found = impure(&all[0], &all[0].shipped_code(&all), &["kube".into(), "tokio".into()]);
    let expected = ["1: std::time::Instant", "1: std::fs", "4: kube::x", "3: async fn"];
    assert_eq!(found, expected.map(|end| format!("src/registry/a.rs:{end}")));
}
