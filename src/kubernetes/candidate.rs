//! One replica's part in the election: the next step, given what it observed and when.
//!
//! Pure, so that tests can simulate pauses, lost answers and rivals without a clock. The rules
//! are those of client-go's leader election, made stricter where the text says so:
//!
//! - The record changes only by compare-and-swap (resourceVersion), so when two candidates write at
//!   the same time, one wins.
//! - No stored time is trusted. A rival's tenure is over when its record has not changed for a
//!   whole lease, counted on this replica's clock from when it observed the last change.
//! - A replica's own tenure counts from the *sending* of a write that succeeded, and is shorter than
//!   the lease. So it ends before any rival may take over, whatever either clock shows, as long as
//!   the clocks run at rates within a third of each other.
//! - A record that vanished (a person deleted it) is treated as held for a whole lease: its holder
//!   may have renewed it after this replica last read it. That makes two leaders unlikely, but
//!   nothing can exclude them then: no version connects the old record with the new one. The
//!   precondition of each write remains.
//!
//! Source of the record's fields: <https://kubernetes.io/docs/concepts/architecture/leases/>. Does not own:
//! sending (`election`).

use std::{sync::Arc, time::Duration};

use rollcall_model::lease::Moment;

/// How long rivals wait for a change of the record before they take over.
pub const LEASE: Duration = Duration::from_secs(15);

/// How long the leader may send writes after a renewal: with the 5 s that a write may take, no longer than [`LEASE`].
pub const TENURE: Duration = Duration::from_secs(10);

/// Between two renewals, and between two reads of a rival's record.
pub const RETRY: Duration = Duration::from_secs(2);

/// The content of the Lease object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The process that leads; none after a release.
    pub holder: Option<Arc<str>>,
    /// How long the record is valid without a change.
    pub lease: Duration,
    /// How often the holder has changed.
    pub transitions: i32,
    /// The resourceVersion, for compare-and-swap.
    pub version: String,
}

/// The API server's answer to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAnswer {
    /// The record as it is stored: read, or written by this step.
    Stored(Record),
    /// There is no record.
    Absent,
    /// The record has another version than this step requires.
    Conflict,
    /// The API server refused, or did not answer: the step may have been carried out.
    Failed,
}

/// What a candidate does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ElectionStep {
    /// Read the record.
    Read,
    /// Create the record, with this many transitions.
    Create {
        /// For `leaseTransitions`.
        transitions: i32,
    },
    /// Write this candidate as the holder into this version of the record.
    Hold {
        /// The precondition.
        version: String,
        /// For `leaseTransitions`.
        transitions: i32,
        /// Whether this candidate already holds the record. If so, the time of acquisition stays the same.
        renews: bool,
    },
}

/// The last version of the record that was observed.
#[derive(Clone, Debug)]
struct ObservedRecord {
    record: Record,
    /// When this version, or the absence of the record, was first observed.
    at: Moment,
    /// Whether the record still exists.
    exists: bool,
}

/// One process that can become the leader.
#[derive(Clone, Debug)]
pub struct Candidate {
    name: Arc<str>,
    observed: Option<ObservedRecord>,
    /// Whether the record may have changed since then. If so, it is read before it is written.
    must_read: bool,
    tenure: Moment,
}

impl Candidate {
    /// A candidate that has observed nothing yet. `name` must differ from the name of every other process, earlier
    /// processes of the same replica included.
    #[must_use]
    pub fn new(name: Arc<str>) -> Self {
        Self { name, observed: None, must_read: true, tenure: Moment::default() }
    }

    /// The candidate's name in the record.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The moment up to which this candidate leads.
    #[must_use]
    pub fn tenure(&self) -> Moment {
        self.tenure
    }

    /// The process that leads, as far as is known; none once its lease has ended.
    #[must_use]
    pub fn leader(&self, now: Moment) -> Option<&Arc<str>> {
        let observed = self.observed.as_ref().filter(|observed| !self.has_lapsed(observed, now))?;
        observed.record.holder.as_ref()
    }

    /// The number of leadership changes in the record.
    #[must_use]
    pub fn transitions(&self) -> i32 {
        self.observed.as_ref().map_or(0, |observed| observed.record.transitions)
    }

    /// The step to take now.
    #[must_use]
    pub fn next(&self, now: Moment) -> ElectionStep {
        let Some(observed) = self.observed.as_ref().filter(|_| !self.must_read) else {
            return ElectionStep::Read;
        };
        let renews = self.holds(&observed.record);
        if !renews && !self.has_lapsed(observed, now) {
            return ElectionStep::Read;
        }
        let transitions = observed.record.transitions.saturating_add(i32::from(!renews));
        if observed.exists {
            ElectionStep::Hold { version: observed.record.version.clone(), transitions, renews }
        } else {
            ElectionStep::Create { transitions }
        }
    }

    /// Processes the answer to a step that was sent at `sent` and answered by `now`.
    pub fn process_answer(
        &mut self,
        step: &ElectionStep,
        sent: Moment,
        now: Moment,
        answer: StoreAnswer,
    ) {
        self.must_read = matches!(answer, StoreAnswer::Conflict | StoreAnswer::Failed);
        match answer {
            StoreAnswer::Stored(record) => {
                if *step != ElectionStep::Read {
                    self.tenure = sent.after(TENURE);
                } else if !self.holds(&record) {
                    // Another process holds the record, so this candidate's tenure is over.
                    self.tenure = Moment::default();
                }
                self.observe(record, now);
            }
            StoreAnswer::Absent => self.observe_absence(now),
            StoreAnswer::Conflict | StoreAnswer::Failed => {}
        }
    }

    /// Ends the tenure: from now on this candidate does not lead. Returns the record to release, if this candidate
    /// holds it.
    pub fn resign(&mut self) -> Option<Record> {
        self.tenure = Moment::default();
        let observed = self
            .observed
            .as_ref()
            .filter(|observed| observed.exists && self.holds(&observed.record))?;
        Some(observed.record.clone())
    }

    fn holds(&self, record: &Record) -> bool {
        record.holder.as_ref() == Some(&self.name)
    }

    fn has_lapsed(&self, observed: &ObservedRecord, now: Moment) -> bool {
        // An extreme duration in the record must neither block every candidate nor let one take over early.
        let lease = observed.record.lease.clamp(LEASE, LEASE * 4);
        observed.exists && observed.record.holder.is_none() || now.since(observed.at) > lease
    }

    fn observe(&mut self, record: Record, now: Moment) {
        match &mut self.observed {
            Some(observed) if observed.record.version == record.version => observed.exists = true,
            _ => self.observed = Some(ObservedRecord { record, at: now, exists: true }),
        }
    }

    fn observe_absence(&mut self, now: Moment) {
        match &mut self.observed {
            Some(observed) if observed.exists => {
                observed.exists = false;
                observed.at = now;
            }
            Some(_) => {}
            None => {
                let record =
                    Record { holder: None, lease: LEASE, transitions: -1, version: String::new() };
                self.observed =
                    Some(ObservedRecord { record, at: Moment::default(), exists: false });
            }
        }
    }
}
