//! DNS: queries to answers, over UDP and TCP.
//!
//! ```text
//! octets → [udp, tcp] → query → respond ─┬─ answer (name, subset, service, member, reverse, records) → fit, wire → octets
//!          (datagram)   (edns)  (cookie, └─ transfer ─────────────────────────────────────────────────────▲
//!                                limit)
//! ```
//!
//! Owns: the names of the zone, what each of them answers, how long an answer may be believed, how much of
//! it fits, and to whom nothing is said. Everything but the sockets is pure: the directory, the moment and
//! a seed are arguments. Does not own: who is discoverable (`registry`). Of hickory there are names, records and
//! the reading of both; messages are written by `wire`.

pub mod answer;
pub mod context;
pub mod cookie;
pub mod ede;
pub mod edns;
pub mod fit;
pub mod limit;
pub mod metrics;
pub mod name;
pub mod name_servers;
pub mod notify;
pub mod query;
pub mod querylog;
pub mod realm;
pub mod respond;
pub mod reverse;
pub mod server;
pub mod subset;
pub mod transfer;
pub mod wire;
pub mod zone;

mod connections;
mod datagram;
mod member;
mod records;
mod service;
mod socket;
mod state;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;
mod walk;

pub use metrics::Metrics;
pub use realm::{Realm, RealmError};
pub use server::{DnsError, DnsServer, bind};
