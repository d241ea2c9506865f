//! Taking beats and registrations, and telling the other side of it: the own self-beat.
//!
//! Owns: what a beat means at the door (ordinary, revival, change), and that whatever changes
//! something is stored before it is answered. Does not own: verdicts (`registry`) and the wire (`http`).

mod change;
pub mod flush;
pub mod intake;
pub mod refusal;
pub mod self_beat;
#[cfg(test)]
pub mod testing;

pub use crate::kubernetes::body::Change;
pub use intake::{AcceptedHeartbeat, Deregistered, Intake, Registered, Target};
pub use refusal::{Fault, Refusal};
