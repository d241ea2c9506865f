//! What holds where a manifest or a registration says nothing: each default once.
//!
//! Owns: the defaults that are no first word of a vocabulary (`vocabulary`).

use crate::vocabulary::OnExpiry;

/// An instance's share of the calls within its priority.
pub const WEIGHT: u16 = 100;

/// An instance's priority.
pub const PRIORITY: u16 = 0;

/// How long a heartbeat is good for.
pub const DURATION_SECONDS: u32 = 30;

/// How long an expired object stays that is to be evicted.
pub const EVICT_AFTER_SECONDS: u32 = 60;

/// What becomes of an object that was made from a manifest: its author would miss it, and makes no other.
pub const ON_EXPIRY_OF_MANIFEST: OnExpiry = OnExpiry::Retain;

/// What becomes of an object that was made by a registration over HTTP: the instance that comes back registers
/// again, and the objects of those that do not would pile up.
pub const ON_EXPIRY_OF_REGISTRATION: OnExpiry = OnExpiry::Evict;
