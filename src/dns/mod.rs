//! DNS: from queries to answers, over UDP and TCP.
//!
//! ```text
//! bytes → [udp, tcp] → query → respond ─┬─ answer (name, subset, service, member, reverse, records) → fit, wire → bytes
//!          (datagram)   (edns)  (cookie, └─ transfer ─────────────────────────────────────────────────────▲
//!                                limit)
//! ```
//!
//! Owns: the names of the zone, the answer at each name, its TTL, its size, and which clients are refused. Everything
//! except the sockets is pure: the directory, the time and a seed are arguments. Does not own: which instances are
//! discoverable (`rollcall_core`). The types of names and records, and their parsers, come from hickory; `wire` encodes
//! messages.

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
pub mod respond;
pub mod reverse;
pub mod server;
pub mod subset;
pub mod transfer;
pub mod wire;
pub mod zone;
pub mod zones;

mod connections;
mod datagram;
mod member;
mod reader;
mod records;
mod service;
mod socket;
mod state;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

pub use metrics::Metrics;
pub use server::{DnsError, DnsServer, bind};
pub use zones::{ZoneError, Zones};
