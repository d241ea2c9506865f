//! The client of the Kubernetes API: no other module talks to it.
//!
//! Owns: the connections, the watches, every write, Events, and the conversion between stored objects and the records
//! that all other modules use. CRD types are not used beyond `convert`. Does not own: any decision.

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
