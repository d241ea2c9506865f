//! DNS: queries to answers, over UDP and TCP.
//!
//! ```text
//! octets → [server, hickory] → gate → name (subset) → answer (service, member, records) → fit → octets
//! ```
//!
//! Owns: the names of the zone, what each of them answers, how long an answer may be believed, and
//! how much of it fits. Everything but [`server`] is pure: the directory, the moment and a seed are
//! arguments. Does not own: who is offered (`registry`), and the wire format (hickory-proto).

pub mod answer;
pub mod fit;
pub mod gate;
pub mod metrics;
pub mod name;
pub mod server;
pub mod subset;
pub mod zone;

mod handler;
mod member;
mod records;
mod service;
mod socket;
#[cfg(test)]
mod tests;

pub use metrics::Metrics;
pub use server::{DnsConfig, DnsError, DnsServer, bind};
