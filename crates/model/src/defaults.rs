//! Defaults for manifests and registrations, each defined once.
//!
//! Owns: the defaults that are not the default variant of a vocabulary (`vocabulary`).

use crate::vocabulary::OnExpiry;

/// An instance's share of the traffic within its priority.
pub const WEIGHT: u16 = 100;

/// An instance's priority.
pub const PRIORITY: u16 = 0;

/// How long a heartbeat keeps an instance live.
pub const DURATION_SECONDS: u32 = 30;

/// How long an expired object stays before it is evicted.
pub const EVICT_AFTER_SECONDS: u32 = 60;

/// What happens to an expired object that was created from a manifest: it stays, because it would surprise
/// its author if it disappeared, and nothing creates it again.
pub const ON_EXPIRY_OF_MANIFEST: OnExpiry = OnExpiry::Retain;

/// What happens to an expired object that was created by a registration over HTTP: it is evicted. An
/// instance that comes back registers again, and the objects of all other instances would accumulate.
pub const ON_EXPIRY_OF_REGISTRATION: OnExpiry = OnExpiry::Evict;
