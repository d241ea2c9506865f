//! The manifests of the workspace: every dependency has a reason, dependencies are sorted, and the lints apply
//! to every crate.

use crate::tree::{self, File};

/// A line of a manifest that sets a key.
pub(crate) struct Entry<'a> {
    /// For example `dependencies` or `workspace.lints.rust`; empty above the first section.
    pub(crate) section: &'a str,
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) text: &'a str,
}

impl<'a> Entry<'a> {
    /// The key up to its first dot.
    pub(crate) fn name(&self) -> &'a str {
        self.text.split(['=', '.', ' ']).next().unwrap_or_default()
    }

    /// Whether the entry is inherited from the workspace.
    fn is_inherited(&self) -> bool {
        self.setting().contains("workspace=true")
    }

    /// The entry without spaces and comment.
    fn setting(&self) -> String {
        self.text[..self.comment()].replace(' ', "")
    }

    fn has_reason(&self) -> bool {
        self.text[self.comment()..].trim_start_matches('#').trim().len() > 3
    }

    /// The offset of the comment.
    fn comment(&self) -> usize {
        let mut quoted = false;
        let found = self.text.char_indices().find(|(_, c)| {
            quoted ^= *c == '"';
            *c == '#' && !quoted
        });
        found.map_or(self.text.len(), |(at, _)| at)
    }
}

pub(crate) fn entries(manifest: &str) -> impl Iterator<Item = Entry<'_>> {
    let mut section = "";
    manifest.lines().enumerate().filter_map(move |(at, text)| {
        if let Some(name) = text.strip_prefix('[') {
            section = name.split(']').next().unwrap_or_default();
        }
        let sets_key = text.starts_with(char::is_alphanumeric);
        sets_key.then_some(Entry { section, line: at + 1, text })
    })
}

/// One entry for each dependency. In a section `[dependencies.name]` every line is an entry, so that no rule
/// overlooks it.
pub(crate) fn dependencies(manifest: &str) -> impl Iterator<Item = Entry<'_>> {
    entries(manifest).filter(|entry| entry.section.contains("dependencies"))
}

/// The manifests of the workspace: the root's and those in `crates/*`.
pub(crate) fn all() -> Vec<File> {
    let crates = tree::files("crates", "Cargo.toml");
    let root = std::fs::read_to_string(tree::root().join("Cargo.toml")).unwrap();
    let members = crates.into_iter().filter(|file| file.path.matches('/').count() == 2);
    std::iter::once(File::new("Cargo.toml", &root)).chain(members).collect()
}

/// Dependencies without a reason. In a workspace the reason is next to the version, in the manifest of the
/// root.
fn unexplained(manifest: &File) -> Vec<String> {
    let is_root = manifest.path == "Cargo.toml";
    let explained = |entry: &Entry<'_>| entry.is_inherited() || (is_root && entry.has_reason());
    let wrong = dependencies(&manifest.text).filter(|entry| !explained(entry));
    wrong.map(|entry| format!("{}:{}: {}", manifest.path, entry.line, entry.text)).collect()
}

/// Dependencies that are followed by a smaller name, within each group of adjacent lines.
fn unsorted(manifest: &File) -> Vec<String> {
    let entries: Vec<_> = dependencies(&manifest.text).collect();
    let neighbours = entries.windows(2).filter(|pair| pair[0].line + 1 == pair[1].line);
    neighbours
        .filter(|pair| pair[0].name() > pair[1].name())
        .map(|pair| format!("{}:{}: {}", manifest.path, pair[0].line, pair[0].name()))
        .collect()
}

/// Packages that do not forbid unsafe code. The first manifest is the root's.
fn without_lints(manifests: &[File]) -> Vec<String> {
    let sets = |file: &File, section, setting| {
        entries(&file.text).any(|entry| entry.section == section && entry.setting() == setting)
    };
    let root = &manifests[0];
    let is_shared = entries(&root.text).any(|entry| entry.section.starts_with("workspace.lints"));
    let section = if is_shared { "workspace.lints.rust" } else { "lints.rust" };
    let mut wrong = Vec::new();
    if !sets(root, section, "unsafe_code=\"forbid\"") {
        wrong.push(format!("{}: [{section}] needs unsafe_code = \"forbid\"", root.path));
    }
    let members = &manifests[usize::from(!is_shared)..];
    let without = members.iter().filter(|file| !sets(file, "lints", "workspace=true"));
    wrong.extend(without.map(|file| format!("{}: [lints] needs workspace = true", file.path)));
    wrong
}

#[test]
fn dependencies_have_reasons_and_are_sorted() {
    let manifests = all();
    assert!(dependencies(&manifests[0].text).count() > 10, "the dependencies were not found");
    let unexplained: Vec<_> = manifests.iter().flat_map(unexplained).collect();
    tree::assert_none(
        "give each dependency a comment that says what it is for, in the Cargo.toml of the root",
        &unexplained,
    );
    let unsorted: Vec<_> = manifests.iter().flat_map(unsorted).collect();
    tree::assert_none("sort these dependencies by name", &unsorted);
}

#[test]
fn dependency_without_reason_or_out_of_order_is_found() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\nb = \"1\" # letters\n\
                    a = \"1#2 no comment\"\n\n# Optional:\naa = { version = \"1\" } #\n\
                    ab = { workspace = true }\nac.workspace = true\n[lib]\nc = 1\n\
                    [dependencies.d]\nversion = \"1\"\n";
    let root = File::new("Cargo.toml", manifest);
    assert_eq!(
        unexplained(&root),
        [
            "Cargo.toml:5: a = \"1#2 no comment\"",
            "Cargo.toml:8: aa = { version = \"1\" } #",
            "Cargo.toml:14: version = \"1\""
        ]
    );
    assert_eq!(unsorted(&root), ["Cargo.toml:4: b"]);
    let member = File::new("crates/x/Cargo.toml", manifest);
    assert_eq!(unexplained(&member).len(), 4, "a reason does not replace the workspace's version");
}

#[test]
fn unsafe_code_is_forbidden_in_every_crate() {
    tree::assert_none("forbid unsafe code in every crate", &without_lints(&all()));
}

#[test]
fn crate_that_does_not_forbid_unsafe_code_is_found() {
    let root = |text| File::new("Cargo.toml", text);
    let member = |text| File::new("crates/x/Cargo.toml", text);
    let alone = root("[lints.rust]\nunsafe_code = \"forbid\"\n");
    assert_eq!(without_lints(&[alone]), [""; 0]);
    let shared = "[workspace.lints.rust]\nunsafe_code = \"forbid\" # why\n";
    let inherits = "[lints]\nworkspace = true\n";
    let both =
        || root("[lints]\nworkspace = true\n[workspace.lints.rust]\nunsafe_code = \"forbid\"");
    assert_eq!(without_lints(&[both(), member(inherits)]), [""; 0]);
    assert_eq!(
        without_lints(&[root(shared), member(inherits)]),
        ["Cargo.toml: [lints] needs workspace = true"]
    );
    assert_eq!(
        without_lints(&[both(), member("[lints.rust]\nunsafe_code = \"forbid\"")]),
        ["crates/x/Cargo.toml: [lints] needs workspace = true"]
    );
    assert_eq!(
        without_lints(&[root(
            "[workspace.lints.rust]\nunsafe_code = \"warn\"\n[lints]\nworkspace = true"
        )]),
        ["Cargo.toml: [workspace.lints.rust] needs unsafe_code = \"forbid\""]
    );
}
