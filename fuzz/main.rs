//! The way from libFuzzer to what must hold (`tests/fuzz/invariants`).
//!
//! Owns: which target is meant, by the variable `TARGET`. Does not own: what must hold.

#![no_main]

#[path = "../tests/fuzz/invariants/mod.rs"]
mod invariants;

use std::sync::LazyLock;

use invariants::{ledger, name, query};

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| match std::env::var("TARGET").as_deref() {
    Ok("query") => query::check,
    Ok("name") => name::check,
    Ok("ledger") => ledger::check,
    other => panic!("TARGET is query, name or ledger, not {other:?}"),
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| TARGET(input));
