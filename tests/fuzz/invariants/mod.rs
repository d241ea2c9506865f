//! Invariants that hold for every input, shared by the fuzzer (`fuzz/`) and the replay of its corpus.
//!
//! Owns: one function for each target, which panics if an invariant is broken. Does not own: the source of the input.

pub(crate) mod ledger;
pub(crate) mod name;
pub(crate) mod query;
mod wire;
pub(crate) mod world;
