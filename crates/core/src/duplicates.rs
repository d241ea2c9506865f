//! Duplicates: two processes that run under one identity, each of which believes itself alone.
//!
//! Both write the same ledger and the same instance. Boots have an order: a ledger says which boot its process replaced,
//! so that one is younger. A process that was replaced is dead as a rule, and one late write of it may still arrive; two
//! different ones prove that it runs. Then the younger yields: it promises, judges and writes nothing until the older has
//! been silent for as long as a replica that is gone.
//!
//! Owns: what this process knows of another one of its own identity. Does not own: what other replicas make of both
//! (`peers`), and the fence (`ledgers`).

use std::{sync::Arc, time::Duration};

use rollcall_model::lease::Moment;

use crate::{
    bounds::Bounds,
    ledger::Ledger,
    peers::{SILENCE, Sighting, news},
    report::Duplicate,
};

/// Another process of this identity is spoken of for so long after its last ledger: it may be fenced, and silent.
const REPORTED: Duration = Duration::from_secs(300);

/// Another process of this identity.
#[derive(Debug)]
struct Other {
    boot: Arc<str>,
    /// Its newest ledger.
    sequence: u64,
    seen: Moment,
    /// Up to when it may promise what it never reports.
    end: Moment,
    bounds: Bounds,
    /// How many different ledgers of it were seen beside this process's own.
    writes: u32,
    /// It was there before.
    is_older: bool,
}

/// What this process knows of another one of its own identity.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    /// The boot that this process replaced.
    replaced: Option<Arc<str>>,
    other: Option<Other>,
    /// This process yields to an older one.
    yields: bool,
}

impl Duplicates {
    /// A ledger of another process stood under this identity when this one began.
    pub(super) fn replace(&mut self, boot: &Arc<str>) {
        self.replaced = Some(boot.clone());
    }

    /// The boot that this process replaced.
    pub(super) fn replaced(&self) -> Option<Arc<str>> {
        self.replaced.clone()
    }

    /// A ledger under this identity of another process than this one, `boot`. `began`: this one has seen its own ledger
    /// before. What the other one has taken counts here as well, and what it may not have reported is waited for.
    pub(super) fn see(
        &mut self,
        ledger: &Ledger,
        boot: &Arc<str>,
        began: bool,
        now: Moment,
    ) -> Sighting {
        let is_older = self.is_older(ledger, boot);
        let other = self.other.take_if(|other| other.boot == ledger.boot);
        let mut other = other.unwrap_or_else(|| Other {
            boot: ledger.boot.clone(),
            sequence: 0,
            seen: now,
            end: now,
            bounds: Bounds::new(1),
            writes: 0,
            is_older,
        });
        let mut sighting = Sighting::default();
        if ledger.sequence > other.sequence {
            sighting = news(ledger, &mut other.bounds, other.sequence, now);
            (other.sequence, other.seen) = (ledger.sequence, now);
            other.end = other.bounds.latest(ledger.stamp.after(SILENCE)).unwrap_or(now);
            other.writes += u32::from(began);
        }
        if other.is_older && other.writes >= 2 {
            self.yields = true;
        }
        self.other = Some(other);
        sighting
    }

    /// From when on every instance has a whole lease because of the other one.
    pub(super) fn not_before(&self) -> Option<Moment> {
        self.other.as_ref().map(|other| other.end)
    }

    /// Whether the process of this ledger was there before this one. Where neither knows of the other, their boots decide,
    /// in both alike.
    fn is_older(&self, ledger: &Ledger, boot: &Arc<str>) -> bool {
        if ledger.replaced.as_ref() == Some(boot) {
            return false;
        }
        self.replaced.as_ref() == Some(&ledger.boot) || ledger.boot < *boot
    }

    /// Notices that the older one is gone. Should it come back, two more of its ledgers have to be seen.
    pub(super) fn follow(&mut self, now: Moment) {
        let moves = self.other.as_ref().is_some_and(|other| now.since(other.seen) <= SILENCE);
        if self.is_yielding() && !moves {
            *self = Self { replaced: self.replaced.take(), ..Self::default() };
        }
    }

    /// Whether this process yields to an older one.
    pub(super) fn is_yielding(&self) -> bool {
        self.yields
    }

    /// For people: the other one, once it is proved to run beside this one.
    pub(super) fn report(
        &self,
        name: &Arc<str>,
        boot: &Arc<str>,
        now: Moment,
    ) -> Option<Duplicate> {
        let other = self.other.as_ref()?;
        let is_proved = other.writes >= if other.is_older { 2 } else { 1 };
        if !is_proved || now.since(other.seen) > REPORTED {
            return None;
        }
        let (older, younger) = match other.is_older {
            true => (other.boot.clone(), boot.clone()),
            false => (boot.clone(), other.boot.clone()),
        };
        Some(Duplicate { replica: name.clone(), older, younger })
    }
}
