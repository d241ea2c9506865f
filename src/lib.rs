//! rollcall: a service registry for Kubernetes.
//!
//! Facts come in from the Kubernetes API and over HTTP. One pure state machine ([`rollcall_core`]) turns them into
//! views, from which HTTP and DNS answer, and into duties, which are carried out against the Kubernetes API.

pub mod auth;
pub mod buckets;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controller;
#[cfg(feature = "dev")]
pub mod dev;
pub mod dns;
pub mod engine;
pub mod heartbeat;
pub mod http;
pub mod kubernetes;
pub mod serve;
pub mod telemetry;
