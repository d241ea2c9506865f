//! What the benchmarks share: their own registry, and clients for it. Each benchmark includes this as a module.

#![allow(dead_code, reason = "not every benchmark uses all of it")]

pub mod ask;
pub mod bare;
pub mod compare;
pub mod dev;
pub mod kubernetes;
pub mod process;
