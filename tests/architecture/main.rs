//! The house as it is drawn, held against the house as it is: which rooms may import which, what
//! the heart may know, and the small rules of upkeep (CONTRIBUTING.md).
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
mod code;
mod heart;
mod links;
mod paths;
mod tree;
mod upkeep;
