//! What the crates `core` and `model` may use: no I/O, no async, no clock. This makes a deterministic
//! simulation possible.

use crate::{
    manifests,
    modules::{self, Module},
    tree::{self, File},
};

/// The folders of the pure crates.
const PURE: &[&str] = &["crates/model/", "crates/core/"];

/// The dependencies that they may use, as code names them.
const CRATES: &[&str] = &[
    "ahash",
    "arc_swap",
    "fastrand",
    "ipnet",
    "jiff",
    "papaya",
    "parking_lot",
    "rollcall_model",
    "schemars",
    "serde",
    "thiserror",
    "xxhash_rust",
];

/// Parts of std with I/O, threads or a clock, and the keywords of asynchronous code.
const IMPURE: &[&str] = &[
    "async",
    "await",
    "std::env",
    "std::fs",
    "std::io",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::*",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::UNIX_EPOCH",
];

fn is_pure(file: &str) -> bool {
    PURE.iter().any(|folder| file.starts_with(folder))
}

/// The dependencies of a crate that are not pure, as code names them, with their lines.
fn impure_crates(manifest: &str) -> Vec<(usize, String)> {
    manifests::dependencies(manifest)
        .filter(|entry| entry.section != "dev-dependencies")
        .map(|entry| (entry.line, entry.name().replace('-', "_")))
        .filter(|(_, name)| !CRATES.contains(&name.as_str()))
        .collect()
}

fn impure_dependencies(manifest: &File) -> Vec<String> {
    let found = impure_crates(&manifest.text).into_iter();
    found.map(|(line, name)| format!("{}:{line}: {name}", manifest.path)).collect()
}

/// The mentions of `crates` and of impure parts of std in a module.
fn impure_mentions(module: &Module, crates: &[(usize, String)]) -> Vec<String> {
    let found = module.mentions_outside_tests().filter_map(|mention| {
        let path = mention.path.join("::");
        let is_prefix = |part: &&str| {
            path.strip_prefix(*part).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        let is_foreign = crates.iter().any(|(_, name)| *name == mention.path[0]);
        (is_foreign || IMPURE.iter().any(is_prefix))
            .then(|| format!("{}:{}: {path}", module.file, mention.line))
    });
    found.collect()
}

#[test]
fn core_and_model_use_no_io_no_async_and_no_clock() {
    let manifests = manifests::all();
    // A crate can use only its own dependencies; a module in `src` can use all of the server's.
    let crates = impure_crates(&manifests[0].text);
    assert!(crates.iter().any(|(_, name)| name == "tokio"), "the dependencies were not found");
    let modules: Vec<_> = modules::all().iter().filter(|module| is_pure(&module.file)).collect();
    assert!(modules.len() > 10, "the pure modules were not found");
    let manifests = manifests.iter().filter(|manifest| is_pure(&manifest.path));
    let wrong: Vec<_> = manifests
        .flat_map(impure_dependencies)
        .chain(modules.into_iter().flat_map(|module| impure_mentions(module, &crates)))
        .collect();
    tree::assert_none(
        "the crates core and model must stay pure (no I/O, no async, no clock) and may not use these",
        &wrong,
    );
}

#[test]
fn impure_use_outside_tests_is_found() {
    let text = "use std::{time::{self, Duration, Instant}, fs, io as disk};\nuse papaya::HashMap;\n\
                async fn f() {\n  kube::x(time::SystemTime::now()).await; disk::stdin() }\n\
                #[cfg(test)]\nmod tests { use tokio::time; }\n";
    let module = &modules::read_modules(&[File::new("crates/core/src/a.rs", text)])[0];
    let crates = [(1, "kube".to_owned()), (2, "tokio".to_owned())];
    let expected = [
        "1: std::time::Instant",
        "1: std::fs",
        "1: std::io",
        "3: async",
        "4: kube::x",
        "4: std::time::SystemTime::now",
        "4: await",
        "4: std::io::stdin",
    ];
    assert_eq!(
        impure_mentions(module, &crates),
        expected.map(|end| format!("crates/core/src/a.rs:{end}"))
    );
}

#[test]
fn impure_dependency_is_found() {
    let text = "[dependencies]\narc-swap.workspace = true\nkube = { workspace = true }\n\
                [dev-dependencies]\nproptest = { workspace = true }\n\
                [target.'cfg(unix)'.dependencies]\nnix.workspace = true\n";
    let manifest = File::new("crates/core/Cargo.toml", text);
    assert_eq!(
        impure_dependencies(&manifest),
        ["crates/core/Cargo.toml:3: kube", "crates/core/Cargo.toml:7: nix"]
    );
}
