//! Code that the benchmarks share: a registry of their own, and clients for it. Each benchmark includes this as a
//! module.

#![allow(dead_code, reason = "not every benchmark uses all of it")]

pub mod ask;
pub mod bare;
pub mod compare;
pub mod dev;
pub mod kubernetes;
pub mod process;
