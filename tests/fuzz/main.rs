//! Checks the invariants of the fuzzer on fixed input: messages that clients send, and the corpus of the fuzzer.
//!
//! The fuzzer includes `invariants`, too (`fuzz/`, CONTRIBUTING.md).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod corpus;
mod invariants;
mod seeds;
