//! The registry, fact by fact: what it shows, whom it judges, what it asks to be done.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod address_index;
mod columns;
mod duplicates;
mod evictions;
mod guard;
mod history;
mod installations;
mod leadership;
mod leases;
mod ledgers;
mod order;
mod race;
mod revisions;
mod rig;
mod serials;
mod shared_addresses;
mod stopping;
mod terminating;
mod told;
mod versions;
mod writes;
