//! The state machine of rollcall: which instances are registered, which are live, and what readers see.
//!
//! Owns: leases, the horizon up to which they are judged, the catalog (facts in, views and duties out) and
//! the directory that readers query.
//!
//! Does not own: I/O, tasks and clocks. Time is an argument and randomness is a seed, so a seeded simulation
//! (`tests/sim`) and an exhaustive model (`tests/model`) can prove every promise.

#![expect(
    missing_docs,
    reason = "only the server uses this crate: docs that repeat a name add nothing"
)]

pub mod catalog;
pub mod codec;
pub mod columns;
pub mod conditions;
pub mod directory;
pub mod endpoints;
pub mod fact;
pub mod horizon;
pub mod identity;
pub mod leadership;
pub mod ledger;
pub mod report;
pub mod rules;
pub mod slot;
pub mod status;

mod address_index;
mod announce;
mod bounds;
mod duplicates;
mod duty_state;
mod evictions;
mod flush;
mod grace;
mod guard;
mod history;
mod installations;
mod instances;
mod leases;
mod ledgers;
mod outbox;
mod pacer;
mod peers;
mod publication;
mod serial;
mod table;
mod timers;
mod unreadable;
mod unreported;
