//! The files of the repository.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::code;

/// One file of text.
pub(crate) struct File {
    /// From the root of the repository, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Without comments and the contents of strings.
    pub(crate) fn code(&self) -> String {
        code::only(&self.text)
    }

    /// Without tests, too; nothing when the whole file is one.
    pub(crate) fn shipped_code(&self, all: &[Self]) -> String {
        let in_tests = self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
        if in_tests || is_declared_for_tests(&self.path, all) {
            return String::new();
        }
        code::without_tests(&self.code())
    }
}

/// Whether the module above declares this one under `#[cfg(test)]`.
fn is_declared_for_tests(path: &str, all: &[File]) -> bool {
    let Some((folder, name)) = path.strip_suffix(".rs").and_then(|path| path.rsplit_once('/'))
    else {
        return false;
    };
    let parents = [format!("{folder}/mod.rs"), format!("{folder}/lib.rs"), format!("{folder}.rs")];
    let declaration = format!("mod {name};");
    all.iter().filter(|file| parents.contains(&file.path)).any(|parent| {
        let code = parent.code();
        code.contains(&declaration) && !code::without_tests(&code).contains(&declaration)
    })
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` (`""` is the whole repository) whose name ends so, in order of path.
pub(crate) fn files(folder: &str, ending: &str) -> Vec<File> {
    let mut found = Vec::new();
    collect(&root().join(folder), ending, &mut found);
    found.sort();
    let read = |path: &PathBuf| {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
        File { path: name.to_owned(), text: fs::read_to_string(path).unwrap() }
    };
    found.iter().map(read).collect()
}

pub(crate) fn sources() -> Vec<File> {
    let sources = files("src", ".rs");
    assert!(sources.len() > 10, "the sources were not found");
    sources
}

fn collect(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let is_folder = entry.file_type().unwrap().is_dir();
        if is_folder && name != "target" && !name.starts_with('.') {
            collect(&entry.path(), ending, found);
        } else if !is_folder && name.ends_with(ending) {
            found.push(entry.path());
        }
    }
}

/// Fails with everything that is wrong, not with the first.
pub(crate) fn must_be_empty(rule: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{rule}:\n  {}\n", wrong.join("\n  "));
}

#[test]
fn a_file_that_is_declared_for_tests_ships_nothing() {
    let all = [
        File::new("src/http/mod.rs", "mod route;\n#[cfg(test)]\nmod world;\n"),
        File::new("src/http/world.rs", "fn make() {}"),
        File::new("src/http/route.rs", "fn find() {}"),
        File::new("src/http/tests/first.rs", "fn try_it() {}"),
    ];
    assert_eq!(all[1].shipped_code(&all), "");
    assert_eq!(all[2].shipped_code(&all), "fn find() {}");
    assert_eq!(all[3].shipped_code(&all), "");
}
