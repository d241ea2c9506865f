//! Connects libFuzzer to the invariants (`tests/fuzz/invariants`).
//!
//! Owns: selecting the target by the environment variable `TARGET`. Does not own: the invariants.

#![no_main]

#[path = "../tests/fuzz/invariants/mod.rs"]
mod invariants;

use std::sync::LazyLock;

use invariants::{ledger, name, query};

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| match std::env::var("TARGET").as_deref() {
    Ok("query") => query::check,
    Ok("name") => name::check,
    Ok("ledger") => ledger::check,
    other => panic!("set TARGET to query, name or ledger; it is {other:?}"),
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| TARGET(input));
