//! What a stranger may send, without the fuzzer: what clients send, and what the fuzzer has found.
//!
//! The promises are in `invariants`, which the fuzzer includes too (`fuzz/`, CONTRIBUTING.md).

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
