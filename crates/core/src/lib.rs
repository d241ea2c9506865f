//! The state machine of rollcall: which instances are registered, which are alive, and what readers may be shown.
//!
//! Owns: leases and the horizon behind which they are judged, the catalog (facts in, views and duties out), and the
//! directory that readers look into.
//!
//! Does not own: any I/O, task or clock. Time is an argument, randomness is a seed. So every
//! promise made here is provable by a seeded simulation (`tests/sim`), and by a model
//! whose ways are all walked (`tests/model`).

pub mod catalog;
pub mod codec;
pub mod columns;
pub mod conditions;
pub mod directory;
pub mod fact;
pub mod horizon;
pub mod identity;
pub mod leadership;
pub mod ledger;
pub mod report;
pub mod rules;
pub mod slot;
pub mod sockets;
pub mod status;

mod address_index;
mod announce;
mod bounds;
mod duplicates;
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
mod task;
mod timers;
mod touched;
mod unreadable;
