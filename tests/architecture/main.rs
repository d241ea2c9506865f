//! The rules of CONTRIBUTING.md about the structure of the code: which modules may import which, no import
//! cycles, what the pure crates may use, and file conventions.
//!
//! These tests read files only; nothing is compiled or started.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod cycles;
mod imports;
mod links;
mod manifests;
mod mentions;
mod modules;
mod purity;
mod tree;
mod upkeep;
