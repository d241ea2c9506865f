//! The only rooms that speak to Kubernetes.
//!
//! Owns: the connection, the instance watch, every write, Events, and the conversion between what
//! Kubernetes stores and the slim record that everybody else knows. CRD types stop at `convert`.
//! Does not own: any decision.

mod annotations;
mod answer;
pub mod body;
pub mod breaker;
mod call;
pub mod candidate;
pub mod client;
pub mod convert;
pub mod election;
pub mod events;
pub mod failure;
pub mod instances;
mod interner;
pub mod ledger_writer;
pub mod ledgers;
mod managed_fields;
pub mod preflight;
pub mod review;
pub mod rights;
pub mod store_version;
#[cfg(test)]
pub mod testing;
pub mod watch;
pub mod writer;

mod recorder;
