//! Which room may import which.

use std::collections::{BTreeMap, BTreeSet};

use crate::paths::{self, Mention};
use crate::tree::{self, File};

/// A room, and what it may import: other rooms, or single modules of them. An import that is not
/// here is a change of the design, not of this list: say why in `docs/decisions/`.
const ALLOWED: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    // Declares the rooms, and imports nothing.
    ("lib", &[]),
    ("cli", &["serve", "config", "api", "http::contract", "dev", "telemetry"]),
    (
        "serve",
        &[
            "engine",
            "http",
            "dns",
            "controller",
            "witness",
            "auth",
            "cluster",
            "registry",
            "api",
            "telemetry",
            "config",
            "buckets",
            "clock",
        ],
    ),
    ("engine", &["registry", "clock", "telemetry"]),
    (
        "http",
        &[
            "auth",
            "witness",
            "cluster::writer",
            "registry",
            "buckets",
            "clock",
            "telemetry",
            "config",
        ],
    ),
    ("dns", &["registry", "buckets", "clock", "telemetry", "config"]),
    ("controller", &["cluster", "registry", "clock", "telemetry"]),
    ("witness", &["cluster", "registry", "clock", "telemetry"]),
    ("auth", &["cluster::review", "cluster::failure", "registry::lease", "clock", "telemetry"]),
    ("cluster", &["registry", "api", "clock", "telemetry"]),
    ("registry", &[]),
    ("api", &[]),
    ("dev", &["api", "telemetry"]),
    ("buckets", &["registry::lease"]),
    ("clock", &["registry::lease"]),
    ("config", &["registry", "telemetry"]),
    ("telemetry", &[]),
];

/// The room of a file below `src/`, and how deep its module lies below the library's root.
fn room_of(path: &str) -> (&str, usize) {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    let Some(module) = inside.strip_suffix(".rs") else { return (inside, 0) };
    let parts: Vec<_> = module.split('/').collect();
    match (parts.as_slice(), parts.last()) {
        // Further binaries are as thin as the first.
        (["main"] | ["bin", ..], _) => ("main", 0),
        (["lib"], _) => ("lib", 0),
        (all, Some(&"mod")) => (parts[0], all.len() - 1),
        (all, _) => (parts[0], all.len()),
    }
}

/// What a path in a file of `room` imports from the library, as `room::module…`.
fn target(mention: &Mention, room: &str, depth: usize) -> Option<String> {
    let segments = &mention.segments;
    let ups = segments.iter().take_while(|segment| *segment == "super").count();
    let rest = match segments.first()?.as_str() {
        // In a binary the library has its name.
        "rollcall" if room == "main" => &segments[1..],
        "crate" if room != "main" => &segments[1..],
        // Enough of them lead out of the room.
        "super" if ups >= depth => &segments[ups..],
        _ => return None,
    };
    (!rest.is_empty()).then(|| rest.join("::"))
}

fn is_allowed(target: &str, allowed: &[&str]) -> bool {
    allowed.iter().any(|module| {
        target.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    })
}

/// Every arrow that is not allowed, in words.
fn illegal(file: &File) -> Vec<String> {
    let (room, depth) = room_of(&file.path);
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{}: {room} is no room of the house (design, section 2)", file.path)];
    };
    let mut wrong = Vec::new();
    for mention in paths::mentions(&file.code()) {
        let Some(target) = target(&mention, room, depth) else { continue };
        let to = target.split("::").next().unwrap_or_default();
        let leads_out =
            mention.segments[0] != "super" || ALLOWED.iter().any(|(name, _)| *name == to);
        if to != room && leads_out && !is_allowed(&target, allowed) {
            wrong.push(format!(
                "{}:{}: {room} imports {target}; it may import {}",
                file.path,
                mention.line,
                if allowed.is_empty() { "nothing of ours".to_owned() } else { allowed.join(", ") }
            ));
        }
    }
    wrong
}

/// A room that can be reached from itself, if there is one.
fn cycle(arrows: &[(&str, &[&str])]) -> Option<String> {
    let mut left: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (room, allowed) in arrows {
        let rooms = allowed.iter().filter_map(|target| target.split("::").next());
        left.insert(room, rooms.collect());
    }
    // Rooms that import none of those left cannot be part of a cycle.
    while let Some(leaf) = left
        .iter()
        .find(|(_, targets)| targets.iter().all(|target| !left.contains_key(target)))
        .map(|(room, _)| *room)
    {
        left.remove(leaf);
    }
    left.keys().next().map(|room| (*room).to_owned())
}

#[test]
fn rooms_import_only_along_the_arrows_of_the_design() {
    let wrong: Vec<_> = tree::sources().iter().flat_map(illegal).collect();
    tree::must_be_empty("these imports are not in the design", &wrong);
}

#[test]
fn the_allowed_arrows_have_no_cycle() {
    assert_eq!(cycle(ALLOWED), None);
    assert_eq!(cycle(&[("a", &["b"]), ("b", &["c", "d::e"]), ("d", &["b"])]), Some("a".into()));
}

#[test]
fn an_arrow_that_points_upward_is_found_with_its_line() {
    let file =
        File::new("src/registry/lease.rs", "//! x\nuse std::fmt;\nuse crate::http::route;\n");
    assert_eq!(
        illegal(&file),
        ["src/registry/lease.rs:3: registry imports http::route; it may import nothing of ours"]
    );
}

#[test]
fn an_arrow_is_found_in_a_group_of_several_lines_and_in_the_middle_of_code() {
    let group =
        File::new("src/dns/mod.rs", "use crate::{\n  registry::lease,\n  cluster::writer,\n};");
    assert!(illegal(&group)[0].starts_with("src/dns/mod.rs:3: dns imports cluster::writer;"));
    let inline = File::new("src/engine.rs", "fn f() {\n  crate::witness::tell()\n}");
    assert!(illegal(&inline)[0].starts_with("src/engine.rs:2: engine imports witness::tell;"));
    let above = File::new("src/dns/name.rs", "use super::super::cluster::writer;");
    assert_eq!(illegal(&above).len(), 1);
}

#[test]
fn only_the_named_module_of_a_room_is_allowed() {
    let file = |line: &str| File::new("src/http/mod.rs", line);
    assert_eq!(illegal(&file("use crate::cluster::writer::Writer;")), [""; 0]);
    assert_eq!(illegal(&file("use crate::cluster::watch::Watch;")).len(), 1);
    assert_eq!(illegal(&file("use crate::cluster::writers;")).len(), 1);
}

#[test]
fn the_own_room_comments_strings_and_other_crates_are_no_arrows() {
    let text = "// crate::http\nuse crate::registry::a; pub(in crate::registry) fn f() {\n \
                let _ = \"crate::dns::x\"; super::b::c(); tokio::http::d() }";
    assert_eq!(illegal(&File::new("src/registry/view.rs", text)), [""; 0]);
}

#[test]
fn a_new_room_must_be_drawn_first() {
    assert!(illegal(&File::new("src/cellar/mod.rs", ""))[0].contains("cellar is no room"));
}
