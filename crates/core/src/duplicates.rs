//! Duplicates: two processes that run under the same identity by mistake.
//!
//! Both write the same ledger and the same instance. Their boots have an order: a ledger says which boot
//! its process replaced, so the process that wrote that ledger is the younger one. A replaced process has
//! usually ended, but one late write of it can still arrive. Two different writes prove that it still
//! runs. Then the younger process yields: it confirms, judges and writes nothing until the older process
//! has been silent long enough to count as gone.
//!
//! Owns: what this process knows about another process with its identity. Does not own: what other replicas
//! conclude about both (`peers`), and the fence (`ledgers`).

use std::{sync::Arc, time::Duration};

use rollcall_model::lease::Moment;

use crate::{
    bounds::Bounds,
    ledger::Ledger,
    peers::{LedgerNews, SILENCE, ledger_news},
    report::Duplicate,
};

/// For how long another process with this identity is reported after its last ledger. A fenced process is
/// silent although it still runs.
const REPORTED: Duration = Duration::from_secs(300);

#[derive(Debug)]
struct Other {
    boot: Arc<str>,
    /// The sequence of its newest ledger.
    sequence: u64,
    seen: Moment,
    /// Until when it may confirm heartbeats that it never reports.
    end: Moment,
    bounds: Bounds,
    /// How many different ledgers of it were received since this process wrote its own.
    writes: u32,
    /// Whether it started before this process.
    is_older: bool,
}

#[derive(Debug, Default)]
pub(super) struct Duplicates {
    replaced: Option<Arc<str>>,
    other: Option<Other>,
    yields: bool,
}

impl Duplicates {
    /// Another process's ledger existed under this identity when this process started.
    pub(super) fn set_replaced(&mut self, boot: &Arc<str>) {
        self.replaced = Some(boot.clone());
    }

    pub(super) fn replaced(&self) -> Option<Arc<str>> {
        self.replaced.clone()
    }

    /// Applies a ledger that another process wrote under this identity. `boot` is the boot of this
    /// process, and `began` says whether this process has already received its own ledger. Heartbeats that
    /// the other process took count here. Grace covers those that it may not have reported.
    pub(super) fn apply(
        &mut self,
        ledger: &Ledger,
        boot: &Arc<str>,
        began: bool,
        now: Moment,
    ) -> LedgerNews {
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
        let mut news = LedgerNews::default();
        if ledger.sequence > other.sequence {
            news = ledger_news(ledger, &mut other.bounds, other.sequence, now);
            (other.sequence, other.seen) = (ledger.sequence, now);
            other.end = other.bounds.latest(ledger.stamp.after(SILENCE)).unwrap_or(now);
            other.writes += u32::from(began);
        }
        if other.is_older && other.writes >= 2 {
            self.yields = true;
        }
        self.other = Some(other);
        news
    }

    /// The moment from which every instance has a whole lease because of the other process.
    pub(super) fn not_before(&self) -> Option<Moment> {
        self.other.as_ref().map(|other| other.end)
    }

    /// Whether the process of this ledger is older than this one. If neither knows the other, the smaller
    /// boot is the older one, so both decide alike.
    fn is_older(&self, ledger: &Ledger, boot: &Arc<str>) -> bool {
        if ledger.replaced.as_ref() == Some(boot) {
            return false;
        }
        self.replaced.as_ref() == Some(&ledger.boot) || ledger.boot < *boot
    }

    /// Stops yielding once the older process is gone. If that process comes back, two more of its ledgers
    /// must arrive before this process yields again.
    pub(super) fn update(&mut self, now: Moment) {
        let moves = self.other.as_ref().is_some_and(|other| now.since(other.seen) <= SILENCE);
        if self.is_yielding() && !moves {
            *self = Self { replaced: self.replaced.take(), ..Self::default() };
        }
    }

    pub(super) fn is_yielding(&self) -> bool {
        self.yields
    }

    /// The pair of processes, for reports, once the other one is proved to run at the same time.
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
