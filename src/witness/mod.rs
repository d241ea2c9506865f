//! Taking beats and registrations, and telling the other side of it: the own self-beat.
//!
//! Owns: what a beat means at the door (ordinary, revival, change), and that whatever changes
//! something is stored before it is answered. Does not own: verdicts (`registry`) and the wire (`http`).

mod change;
pub mod flush;
pub mod inbox;
pub mod refusal;
pub mod self_beat;
#[cfg(test)]
pub mod testing;

pub use crate::cluster::body::Change;
pub use inbox::{Beaten, Deregistered, Inbox, Registered, Target};
pub use refusal::{Fault, Refusal};
