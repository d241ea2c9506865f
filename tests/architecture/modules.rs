//! The modules of every source tree (one per file), and their mentions.

use std::{collections::BTreeSet, sync::LazyLock};

use crate::{
    mentions::{self, Mention, Path},
    tree::{self, File},
};

/// A file of Rust code as a module of its crate.
pub(crate) struct Module {
    pub(crate) file: String,
    /// The folder of the crate's sources: `src`, or `crates/core/src`.
    pub(crate) tree: String,
    /// Its path in the crate, from `crate` on.
    pub(crate) path: Path,
    /// Whether it, or a parent module, is declared under `#[cfg(test)]`.
    pub(crate) for_tests: bool,
    pub(crate) mentions: Vec<Mention>,
}

impl Module {
    /// Its mentions, except those under `#[cfg(test)]`.
    pub(crate) fn mentions_outside_tests(&self) -> impl Iterator<Item = &Mention> {
        self.mentions.iter().filter(|mention| !self.for_tests && !mention.for_tests)
    }
}

/// The modules of `src` and of each `crates/*/src`.
pub(crate) fn all() -> &'static [Module] {
    static ALL: LazyLock<Vec<Module>> = LazyLock::new(|| {
        let files = ["src", "crates"].iter().flat_map(|folder| tree::files(folder, ".rs"));
        let all = read_modules(&files.collect::<Vec<_>>());
        assert!(all.len() > 10, "the sources were not found");
        all
    });
    &ALL
}

/// The modules in these files. Files outside the source trees are left out.
pub(crate) fn read_modules(files: &[File]) -> Vec<Module> {
    let (mut modules, mut for_tests) = (Vec::new(), BTreeSet::new());
    for file in files {
        let Some((tree, path)) = module_path(&file.path) else { continue };
        let found = mentions::collect_mentions(&file.text, &path);
        let found = found.unwrap_or_else(|error| panic!("{}: {error}", file.path));
        for_tests.extend(found.modules_for_tests.into_iter().map(|path| (tree.clone(), path)));
        let (file, mentions) = (file.path.clone(), found.all);
        modules.push(Module { file, tree, path, for_tests: false, mentions });
    }
    for Module { tree, path, for_tests: is_for_tests, .. } in &mut modules {
        let mut above = (1..=path.len()).map(|length| (tree.clone(), path[..length].to_vec()));
        *is_for_tests = above.any(|module| for_tests.contains(&module));
    }
    modules
}

/// The source tree that a file belongs to, and its module's path in the crate.
fn module_path(file: &str) -> Option<(String, Path)> {
    let parts: Vec<_> = file.strip_suffix(".rs")?.split('/').collect();
    let (tree, names) = match parts.as_slice() {
        ["src", names @ ..] => ("src".to_owned(), names),
        ["crates", name, "src", names @ ..] => (format!("crates/{name}/src"), names),
        _ => return None,
    };
    let names = match names {
        ["lib" | "main"] => &[],
        _ => names.strip_suffix(&["mod"]).unwrap_or(names),
    };
    let path = ["crate"].iter().chain(names).map(|name| (*name).to_owned());
    Some((tree, path.collect()))
}

#[test]
fn module_paths_follow_file_paths() {
    let files = ["src/lib.rs", "src/a/mod.rs", "crates/b/src/main.rs", "crates/b/src/c.rs"];
    let outside = ["crates/b/tests/d.rs", "crates/b/build.rs"];
    let files: Vec<_> = files.iter().chain(&outside).map(|file| File::new(file, "")).collect();
    let shown = |module: &Module| format!("{} {}", module.tree, module.path.join("::"));
    assert_eq!(
        read_modules(&files).iter().map(shown).collect::<Vec<_>>(),
        ["src crate", "src crate::a", "crates/b/src crate", "crates/b/src crate::c"]
    );
}

#[test]
fn cfg_test_module_has_no_mentions_outside_tests() {
    let files = [
        File::new("src/http/mod.rs", "mod route;\n#[cfg(test)]\nmod world;\n"),
        File::new("src/http/world/first.rs", "a::b();"),
        File::new("src/http/world.rs", "a::b();"),
        File::new("src/http/route.rs", "a::b();\n#[cfg(test)]\nmod tests { a::b(); }"),
        File::new("crates/b/src/http/world.rs", "a::b();"),
    ];
    let mentions_outside_tests: Vec<_> =
        read_modules(&files).iter().map(|module| module.mentions_outside_tests().count()).collect();
    assert_eq!(mentions_outside_tests, [0, 0, 0, 1, 1]);
}
