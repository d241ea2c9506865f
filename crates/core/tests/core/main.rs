//! The state machine, fact by fact: what it publishes, which leases it ends, which duties it asks for.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod address_index;
mod announcements;
mod duplicates;
mod duties;
mod evictions;
mod guard;
mod heartbeat_race;
mod installations;
mod leadership;
mod leases;
mod ledgers;
mod object_versions;
mod revisions;
mod rig;
mod selection;
mod shared_addresses;
mod status_columns;
mod step_back;
mod stopping;
mod terminating;
mod zone_serial;
