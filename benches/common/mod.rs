//! What the benchmarks share: a registry of their own, and asking it. Each takes this in as a module.

#![allow(dead_code, reason = "not every benchmark uses all of it")]

pub mod ask;
pub mod bare;
pub mod compare;
pub mod dev;
pub mod kubernetes;
pub mod process;
