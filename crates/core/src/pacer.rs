//! The pace of a replica's self-beats and ledgers: two per second on average, in bursts of at most three,
//! at least 200 ms apart.

use std::time::Duration;

use rollcall_model::lease::{Moment, millis};

/// The pause between two writes when nothing is due.
pub(super) const PERIOD: Duration = Duration::from_secs(5);

/// A write that the watch has not delivered after this time is repeated if a deadline waits for it.
pub(super) const REPEAT_AFTER: Duration = Duration::from_secs(1);

/// The shortest pause between two writes.
pub(super) const SPACING: Duration = Duration::from_millis(200);

/// The cost of a write, and the maximum credit that accumulates.
const COST: Duration = Duration::from_millis(500);
const MAX_CREDIT: Duration = Duration::from_millis(1500);

/// Decides when the next write may go out.
#[derive(Debug)]
pub(super) struct Pacer {
    last: Option<Moment>,
    credit: Duration,
    credited: Moment,
}

impl Default for Pacer {
    fn default() -> Self {
        Self { last: None, credit: MAX_CREDIT, credited: Moment::default() }
    }
}

impl Pacer {
    pub(super) fn last(&self) -> Option<Moment> {
        self.last
    }

    /// How long ago the last write was; `None` before the first.
    pub(super) fn since_last(&self, now: Moment) -> Option<Duration> {
        self.last.map(|last| now.since(last))
    }

    /// Whether a waiting deadline requires a write now.
    pub(super) fn is_due(&self, due: Option<Moment>, now: Moment) -> bool {
        let (Some(due), Some(last)) = (due, self.last) else { return due.is_some() };
        now.since(last) >= if last > due { REPEAT_AFTER } else { SPACING }
    }

    /// Charges the budget for one write, if it has enough credit.
    pub(super) fn try_charge(&mut self, now: Moment) -> bool {
        let earned = Duration::from_millis(millis(now.since(self.credited)));
        self.credit = MAX_CREDIT.min(self.credit + earned);
        self.credited = now;
        let enough = self.credit >= COST;
        if enough {
            self.credit -= COST;
            self.last = Some(now);
        }
        enough
    }
}
