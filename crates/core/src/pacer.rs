//! The pace of what a replica writes for its own sake: two a second, three at once, 200 ms apart.

use std::time::Duration;

use rollcall_model::lease::{Moment, millis};

/// A sign of life when nothing is due.
pub(super) const PERIOD: Duration = Duration::from_secs(5);

/// What is not back after this long is sent again, when something waits for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Shortest distance of two.
pub(super) const SPACING: Duration = Duration::from_millis(200);

/// What one costs, and the most that can be saved up.
const COST: Duration = Duration::from_millis(500);
const SAVINGS: Duration = Duration::from_millis(1500);

/// Says when the next may go.
#[derive(Debug)]
pub(super) struct Pacer {
    last: Option<Moment>,
    credit: Duration,
    credited: Moment,
}

impl Default for Pacer {
    fn default() -> Self {
        Self { last: None, credit: SAVINGS, credited: Moment::default() }
    }
}

impl Pacer {
    /// When the last one went.
    pub(super) fn last(&self) -> Option<Moment> {
        self.last
    }

    /// How long ago that was; none before the first.
    pub(super) fn quiet(&self, now: Moment) -> Option<Duration> {
        self.last.map(|last| now.since(last))
    }

    /// Whether a waiting deadline calls for one now.
    pub(super) fn is_due(&self, due: Option<Moment>, now: Moment) -> bool {
        let (Some(due), Some(last)) = (due, self.last) else { return due.is_some() };
        now.since(last) >= if last > due { PATIENCE } else { SPACING }
    }

    /// Takes the price of one, if it can be paid.
    pub(super) fn pay(&mut self, now: Moment) -> bool {
        let earned = Duration::from_millis(millis(now.since(self.credited)));
        self.credit = SAVINGS.min(self.credit + earned);
        self.credited = now;
        let enough = self.credit >= COST;
        if enough {
            self.credit -= COST;
            self.last = Some(now);
        }
        enough
    }
}
