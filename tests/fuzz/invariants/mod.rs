//! What must hold whatever comes: shared by the fuzzer (`fuzz/`) and by the replay of its corpus.
//!
//! Owns: for each target, one function from octets to a panic or none. Does not own: where the
//! octets come from.

pub(crate) mod ledger;
pub(crate) mod name;
pub(crate) mod query;
mod wire;
pub(crate) mod world;
