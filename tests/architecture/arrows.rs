//! Which of the server's modules may import which, and which crates of the workspace.

use std::collections::BTreeMap;

use crate::{
    cycles,
    mentions::Mention,
    modules::{self, Module},
    tree::{self, File},
};

/// A module at the top of `src`, and what it may import: others and crates of the workspace, or
/// single modules of them. An import that is not here is a change of the design, not of this list:
/// say why in `docs/decisions/`.
const ALLOWED: &[(&str, &str)] = &[
    ("main", "cli"),
    // Declares the modules, and imports nothing.
    ("lib", ""),
    ("cli", "serve config rollcall_api http::contract dev telemetry"),
    (
        "serve",
        "engine http dns controller heartbeat auth kubernetes rollcall_core rollcall_model \
         rollcall_api telemetry config buckets clock",
    ),
    ("engine", "rollcall_core rollcall_model clock telemetry"),
    (
        "http",
        "auth heartbeat kubernetes::writer rollcall_core rollcall_model buckets clock \
         telemetry config",
    ),
    // Of the state machine the directory; its tests fill one by the machine itself.
    (
        "dns",
        "rollcall_core::directory rollcall_core::catalog rollcall_core::fact rollcall_model \
         buckets clock telemetry config",
    ),
    ("controller", "kubernetes rollcall_core rollcall_model clock telemetry"),
    ("heartbeat", "kubernetes rollcall_core rollcall_model clock telemetry"),
    // The breaker and the stand-in are for its unit tests.
    (
        "auth",
        "kubernetes::review kubernetes::failure kubernetes::breaker kubernetes::testing rollcall_model::lease clock \
         telemetry",
    ),
    ("kubernetes", "rollcall_core rollcall_model rollcall_api clock telemetry"),
    ("dev", "rollcall_api telemetry"),
    ("buckets", "rollcall_model::lease"),
    ("clock", "rollcall_model::lease"),
    ("config", "rollcall_model telemetry"),
    ("telemetry", ""),
];

/// The module at the top of `src` that a module belongs to.
fn top(module: &Module) -> &str {
    match module.path.get(1) {
        Some(top) => top,
        None if module.file == "src/main.rs" => "main",
        None => "lib",
    }
}

/// What is imported of the workspace: `http::route::find`, `rollcall_model::view`.
fn target(mention: &Mention) -> Option<&[String]> {
    let (first, rest) = mention.path.split_first()?;
    match first.as_str() {
        // In a binary the library has its name.
        "crate" | "rollcall" if !rest.is_empty() => Some(rest),
        name if name.starts_with("rollcall_") => Some(&mention.path),
        _ => None,
    }
}

fn is_allowed(target: &str, allowed: &str) -> bool {
    allowed.split(' ').any(|module| {
        target.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    })
}

/// Every import that is not allowed, in words.
fn illegal(module: &Module) -> Vec<String> {
    let (file, top) = (&module.file, top(module));
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == top) else {
        return vec![format!("{file}: {top} is not in the list of modules in arrows.rs")];
    };
    let mut wrong = Vec::new();
    for mention in &module.mentions {
        let Some(target) = target(mention).filter(|target| target[0] != top) else { continue };
        let target = target.join("::");
        if !is_allowed(&target, allowed) {
            let allowed = if allowed.is_empty() { "nothing of ours" } else { allowed };
            let line = mention.line;
            wrong.push(format!("{file}:{line}: {top} imports {target}; it may import {allowed}"));
        }
    }
    wrong
}

#[test]
fn modules_import_only_along_the_arrows_of_the_design() {
    let server = modules::all().iter().filter(|module| module.tree == "src");
    let wrong: Vec<_> = server.flat_map(illegal).collect();
    tree::must_be_empty("these imports are not in the design", &wrong);
}

#[test]
fn the_allowed_arrows_have_no_cycle() {
    let tops =
        |allowed: &'static str| allowed.split(' ').filter_map(|name| name.split("::").next());
    let arrows: BTreeMap<_, _> =
        ALLOWED.iter().map(|(module, allowed)| (*module, tops(allowed).collect())).collect();
    assert!(cycles::cycles(&arrows).is_empty(), "{:?}", cycles::cycles(&arrows));
}

fn illegal_in(file: &str, text: &str) -> Vec<String> {
    illegal(&modules::read(&[File::new(file, text)])[0])
}

#[test]
fn an_arrow_that_points_upward_is_found_with_its_line() {
    assert_eq!(
        illegal_in("src/telemetry/logs.rs", "//! x\nuse std::fmt;\nuse crate::http::route;\n"),
        ["src/telemetry/logs.rs:3: telemetry imports http::route; it may import nothing of ours"]
    );
}

#[test]
fn an_arrow_is_found_in_a_group_of_several_lines_and_in_the_middle_of_code() {
    let group =
        illegal_in("src/dns/mod.rs", "use crate::{\n  config::dns,\n  kubernetes::writer,\n};");
    assert!(group[0].starts_with("src/dns/mod.rs:3: dns imports kubernetes::writer;"));
    let inline = illegal_in("src/engine.rs", "fn f() {\n  crate::heartbeat::tell()\n}");
    assert!(inline[0].starts_with("src/engine.rs:2: engine imports heartbeat::tell;"));
    let above = illegal_in("src/dns/name.rs", "use super::super::kubernetes::writer;");
    assert_eq!(above.len(), 1);
    let for_tests = "#[cfg(test)]\nmod tests { use crate::kubernetes::writer; }";
    assert_eq!(illegal_in("src/dns/name.rs", for_tests).len(), 1);
}

#[test]
fn only_the_named_module_of_a_module_is_allowed() {
    let illegal = |line: &str| illegal_in("src/http/mod.rs", line);
    assert_eq!(illegal("use crate::kubernetes::writer::Writer;"), [""; 0]);
    assert_eq!(illegal("use crate::kubernetes::watch::Watch;").len(), 1);
    assert_eq!(illegal("use crate::kubernetes::writers;").len(), 1);
}

#[test]
fn a_crate_of_the_workspace_is_allowed_like_a_module() {
    let text = "use rollcall_model::view;\nuse rollcall_api::instance;";
    let found = illegal_in("src/http/list.rs", text);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("src/http/list.rs:2: http imports rollcall_api::instance;"));
    assert_eq!(illegal_in("src/main.rs", "fn main() { rollcall::cli::run() }"), [""; 0]);
    assert_eq!(illegal_in("src/main.rs", "fn main() { rollcall::dns::run() }").len(), 1);
}

#[test]
fn the_own_module_comments_strings_and_other_crates_are_no_arrows() {
    let text = "// crate::http\nuse crate::telemetry::a; pub(in crate::telemetry) fn f() {\n \
                let _ = \"crate::dns::x\"; super::b::c(); tokio::http::d() }";
    assert_eq!(illegal_in("src/telemetry/logs.rs", text), [""; 0]);
}

#[test]
fn a_new_module_must_be_listed_first() {
    let found = illegal_in("src/cellar/mod.rs", "");
    assert_eq!(found, ["src/cellar/mod.rs: cellar is not in the list of modules in arrows.rs"]);
}
