//! Takes heartbeats and registrations, and writes this replica's self-beat and ledger.
//!
//! Owns: whether a heartbeat over HTTP needs a write (a revival, a changed health) or none, and that every change is
//! stored before it is answered. Does not own: verdicts on leases (`rollcall-core`), the HTTP API (`http`).

mod change;
pub mod flush;
pub mod intake;
pub mod refusal;
pub mod self_beat;
mod target;
#[cfg(test)]
pub mod testing;

pub use crate::kubernetes::body::Change;
pub use intake::{AcceptedHeartbeat, Deregistered, Intake, Registered};
pub use refusal::{Fault, Refusal};
pub use target::Target;
