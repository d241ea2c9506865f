//! The rules of CONTRIBUTING.md that concern the structure of the code: which modules may import
//! which, that no modules import each other in a cycle, what the pure parts may use, and upkeep.
//!
//! These tests read files only; nothing is compiled or started.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod arrows;
mod cycles;
mod links;
mod manifests;
mod mentions;
mod modules;
mod purity;
mod tree;
mod upkeep;
