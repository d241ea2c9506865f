//! What the benchmarks share: a registry of their own, and asking it. Each takes this in as a module.

pub mod ask;
pub mod dev;
pub mod kubernetes;
