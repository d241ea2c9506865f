//! Which modules of the server may import which modules and crates of the workspace.

use std::collections::BTreeMap;

use crate::{
    cycles,
    mentions::Mention,
    modules::{self, Module},
    tree::{self, File},
};

/// The top-level modules of `src`, each with what it may import: other modules, crates of the workspace, or
/// single modules of them. An import that is not listed here changes the design, so write a decision record in
/// `docs/decisions/` first.
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
    // It reads only the directory of the state machine. Its tests fill a directory with the state machine
    // itself.
    (
        "dns",
        "rollcall_core::directory rollcall_core::catalog rollcall_core::fact rollcall_model \
         buckets clock telemetry config",
    ),
    ("controller", "kubernetes rollcall_core rollcall_model clock telemetry"),
    ("heartbeat", "kubernetes rollcall_core rollcall_model clock telemetry"),
    // `kubernetes::breaker` and `kubernetes::testing` are for its unit tests.
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

/// The top-level module of `src` that a module belongs to.
fn top_level(module: &Module) -> &str {
    match module.path.get(1) {
        Some(top_level) => top_level,
        None if module.file == "src/main.rs" => "main",
        None => "lib",
    }
}

/// The imported item, if it belongs to the workspace: `http::route::find`, `rollcall_model::view`.
fn workspace_item(mention: &Mention) -> Option<&[String]> {
    let (first, rest) = mention.path.split_first()?;
    match first.as_str() {
        // A binary refers to the library by its crate name.
        "crate" | "rollcall" if !rest.is_empty() => Some(rest),
        name if name.starts_with("rollcall_") => Some(&mention.path),
        _ => None,
    }
}

fn is_allowed(workspace_item: &str, allowed: &str) -> bool {
    allowed.split(' ').any(|module| {
        workspace_item
            .strip_prefix(module)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    })
}

/// A message for every import that is not allowed.
fn forbidden_imports(module: &Module) -> Vec<String> {
    let (file, top_level) = (&module.file, top_level(module));
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == top_level) else {
        return vec![format!(
            "{file}: add the module {top_level} to ALLOWED in tests/architecture/imports.rs"
        )];
    };
    let mut forbidden = Vec::new();
    for mention in &module.mentions {
        let Some(workspace_item) =
            workspace_item(mention).filter(|workspace_item| workspace_item[0] != top_level)
        else {
            continue;
        };
        let workspace_item = workspace_item.join("::");
        if !is_allowed(&workspace_item, allowed) {
            let allowed = if allowed.is_empty() { "nothing of this workspace" } else { allowed };
            let line = mention.line;
            forbidden.push(format!(
                "{file}:{line}: {top_level} imports {workspace_item}; it may import {allowed}"
            ));
        }
    }
    forbidden
}

#[test]
fn modules_import_only_what_is_allowed() {
    let server = modules::all().iter().filter(|module| module.tree == "src");
    let forbidden: Vec<_> = server.flat_map(forbidden_imports).collect();
    tree::assert_none(
        "these imports are not allowed; a new one needs a decision record and an entry in ALLOWED (imports.rs)",
        &forbidden,
    );
}

#[test]
fn allowed_imports_have_no_cycle() {
    let targets =
        |allowed: &'static str| allowed.split(' ').filter_map(|name| name.split("::").next());
    let edges: BTreeMap<_, _> =
        ALLOWED.iter().map(|(module, allowed)| (*module, targets(allowed).collect())).collect();
    assert!(cycles::cycles(&edges).is_empty(), "{:?}", cycles::cycles(&edges));
}

fn forbidden_imports_in(file: &str, text: &str) -> Vec<String> {
    forbidden_imports(&modules::read_modules(&[File::new(file, text)])[0])
}

#[test]
fn forbidden_import_is_found_with_its_line() {
    assert_eq!(
        forbidden_imports_in(
            "src/telemetry/logs.rs",
            "//! x\nuse std::fmt;\nuse crate::http::route;\n"
        ),
        [
            "src/telemetry/logs.rs:3: telemetry imports http::route; it may import nothing of this workspace"
        ]
    );
}

#[test]
fn forbidden_import_is_found_in_groups_and_inline_paths() {
    let group = forbidden_imports_in(
        "src/dns/mod.rs",
        "use crate::{\n  config::dns,\n  kubernetes::writer,\n};",
    );
    assert!(group[0].starts_with("src/dns/mod.rs:3: dns imports kubernetes::writer;"));
    let inline = forbidden_imports_in("src/engine.rs", "fn f() {\n  crate::heartbeat::tell()\n}");
    assert!(inline[0].starts_with("src/engine.rs:2: engine imports heartbeat::tell;"));
    let above = forbidden_imports_in("src/dns/name.rs", "use super::super::kubernetes::writer;");
    assert_eq!(above.len(), 1);
    let for_tests = "#[cfg(test)]\nmod tests { use crate::kubernetes::writer; }";
    assert_eq!(forbidden_imports_in("src/dns/name.rs", for_tests).len(), 1);
}

#[test]
fn permission_for_a_submodule_covers_no_other_submodule() {
    let forbidden_imports = |line: &str| forbidden_imports_in("src/http/mod.rs", line);
    assert_eq!(forbidden_imports("use crate::kubernetes::writer::Writer;"), [""; 0]);
    assert_eq!(forbidden_imports("use crate::kubernetes::watch::Watch;").len(), 1);
    assert_eq!(forbidden_imports("use crate::kubernetes::writers;").len(), 1);
}

#[test]
fn workspace_crates_need_permission_like_modules() {
    let text = "use rollcall_model::view;\nuse rollcall_api::instance;";
    let found = forbidden_imports_in("src/http/list.rs", text);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("src/http/list.rs:2: http imports rollcall_api::instance;"));
    assert_eq!(forbidden_imports_in("src/main.rs", "fn main() { rollcall::cli::run() }"), [""; 0]);
    assert_eq!(forbidden_imports_in("src/main.rs", "fn main() { rollcall::dns::run() }").len(), 1);
}

#[test]
fn own_module_comments_strings_and_other_crates_are_not_imports() {
    let text = "// crate::http\nuse crate::telemetry::a; pub(in crate::telemetry) fn f() {\n \
                let _ = \"crate::dns::x\"; super::b::c(); tokio::http::d() }";
    assert_eq!(forbidden_imports_in("src/telemetry/logs.rs", text), [""; 0]);
}

#[test]
fn unlisted_module_is_reported() {
    let found = forbidden_imports_in("src/billing/mod.rs", "");
    assert_eq!(
        found,
        ["src/billing/mod.rs: add the module billing to ALLOWED in tests/architecture/imports.rs"]
    );
}
