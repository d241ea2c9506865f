//! The committed manifests equal the generated ones.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rollcall_api::manifests;

/// The content of the files in a folder, by name.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}

#[test]
fn committed_crds_equal_the_generated_crds() {
    let committed = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("crds"));
    let generated: BTreeMap<_, _> = manifests::render().unwrap().into_iter().collect();
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    let remedy = format!("run `{}` and commit the changes", manifests::REGENERATE);
    assert_eq!(names(&committed), names(&generated), "crds/ holds other files: {remedy}");
    for (name, content) in &generated {
        assert!(committed.get(name) == Some(content), "crds/{name} has drifted: {remedy}");
    }
}

#[test]
fn printed_definitions_equal_the_written_files() {
    let printed = manifests::stream().unwrap();
    let documents = printed.split("---\n").filter(|document| !document.is_empty()).count();
    assert_eq!(documents, manifests::crds().len());
    for (name, content) in manifests::render().unwrap() {
        let (_, body) = content.split_once('\n').unwrap();
        assert!(name == "kustomization.yaml" || printed.contains(body), "{name} is not printed");
    }
}
