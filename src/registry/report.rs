//! The report: what a replica tells of itself, beside its answers.
//!
//! Owns: its shape, and what holds a horizon back. Published with the views, for people. Decides
//! nothing.

use std::{sync::Arc, time::Duration};

use crate::registry::{catalog::Catalog, lease::Moment};

/// What a replica tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Tells this process from an earlier one of the same name.
    pub boot: Arc<str>,
    /// When it began to work; none before.
    pub started: Option<Moment>,
    /// Why the horizon stands still, if it does.
    pub standstill: Option<Standstill>,
    /// Leases that have ended and wait for the horizon to pass their end.
    pub due: usize,
    /// Times that everybody was given back time.
    pub gaps: u64,
    /// The last of them.
    pub last_gap: Option<LastGap>,
    /// Objects that this replica cannot read, and so does not offer.
    pub unreadable: usize,
}

/// A horizon that stands still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standstill {
    /// The sending of the first self-beat that did not come back; before the first list, the start.
    pub since: Moment,
    /// Why.
    pub cause: Cause,
}

/// What holds a horizon back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The first list of all instances has not come; what the watch says, if it failed.
    NotListed(Option<Arc<str>>),
    /// The self-beat could not be written: why.
    Unwritten(Arc<str>),
    /// It was written, or is being written, and has not come back; what the watch says, if it
    /// failed.
    NotBack(Option<Arc<str>>),
}

/// Time in which beats could not be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastGap {
    /// When it was noticed to be over.
    pub ended: Moment,
    /// How long it had been.
    pub lost: Duration,
}

impl Catalog {
    pub(super) fn report(&self, now: Moment) -> Report {
        let started = self.started;
        let standstill = if self.synced {
            self.horizon.standstill(now, &self.interrupted)
        } else {
            let cause = Cause::NotListed(self.interrupted.clone());
            started.map(|since| Standstill { since, cause })
        };
        Report {
            boot: self.boot.clone(),
            started,
            standstill,
            due: self.waiting.len(),
            gaps: self.counts().gaps,
            last_gap: self.last_gap,
            unreadable: self.unreadable.len(),
        }
    }
}
