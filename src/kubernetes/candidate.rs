//! One replica's part in the election: what to do next, given what was seen and when.
//!
//! Pure, so that pauses, lost answers and rivals can be played through without a clock. The rules
//! are those of client-go's leader election, made stricter where the text says so:
//!
//! - The record is changed by compare-and-swap alone (resourceVersion), so of two that grasp for
//!   it one wins.
//! - No stored time is believed. A rival's tenure is over when its record has not changed for a
//!   whole lease, counted on our own clock from when we saw it change.
//! - Our own tenure counts from the *sending* of a write that succeeded, and is shorter than the
//!   lease; so it is over before a rival's patience is, whatever either clock says, as long as
//!   they run at rates within a third of each other.
//! - A record that vanished (a person deleted it) is treated as held for a whole lease: somebody
//!   may have renewed it since we last looked. That makes two leaders unlikely then, but nothing
//!   can exclude them: no version connects the old record with the new. The precondition of each
//!   write remains.
//!
//! Source of the shape: <https://kubernetes.io/docs/concepts/architecture/leases/>. Does not own:
//! sending (`election`).

use std::{sync::Arc, time::Duration};

use rollcall_model::lease::Moment;

/// How long a record is good for in the eyes of rivals.
pub const LEASE: Duration = Duration::from_secs(15);

/// How long a renewal lets us write: with the 5 s that a write may take, no longer than [`LEASE`].
pub const TENURE: Duration = Duration::from_secs(10);

/// Between two renewals, and between two looks at a rival.
pub const RETRY: Duration = Duration::from_secs(2);

/// What the Lease object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who leads; none when the last one released it.
    pub holder: Option<Arc<str>>,
    /// How long it is good for without a change.
    pub lease: Duration,
    /// How often it went from one to another.
    pub transitions: i32,
    /// The version, for compare-and-swap.
    pub version: String,
}

/// What the API server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This is stored (read, or just written).
    Stored(Record),
    /// There is no record.
    Absent,
    /// It has another version by now.
    Conflict,
    /// Refused, or no answer: it may or may not have been done.
    Failed,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read the record.
    Read,
    /// Make the record, with this many transitions.
    Create {
        /// For `leaseTransitions`.
        transitions: i32,
    },
    /// Put ourselves into this version of it.
    Hold {
        /// The precondition.
        version: String,
        /// For `leaseTransitions`.
        transitions: i32,
        /// Whether it was ours already: then the time of acquisition stays.
        renews: bool,
    },
}

/// The last version of the record that was seen.
#[derive(Clone, Debug)]
struct Seen {
    record: Record,
    /// When it was first seen so, or seen to be gone.
    at: Moment,
    /// Whether it is still there.
    exists: bool,
}

/// One candidate.
#[derive(Clone, Debug)]
pub struct Candidate {
    me: Arc<str>,
    seen: Option<Seen>,
    /// Whether the store may have moved on since: then it is read before it is written.
    doubtful: bool,
    tenure: Moment,
}

impl Candidate {
    /// A candidate who has seen nothing yet. `me` has to differ from every other process, also
    /// from an earlier one of the same replica.
    #[must_use]
    pub fn new(me: Arc<str>) -> Self {
        Self { me, seen: None, doubtful: true, tenure: Moment::default() }
    }

    /// What it calls itself in the record.
    #[must_use]
    pub fn me(&self) -> &str {
        &self.me
    }

    /// Up to when this candidate leads.
    #[must_use]
    pub fn tenure(&self) -> Moment {
        self.tenure
    }

    /// Who leads, as far as is known: none once its lease is over.
    #[must_use]
    pub fn leader(&self, now: Moment) -> Option<&Arc<str>> {
        let seen = self.seen.as_ref().filter(|seen| !self.is_over(seen, now))?;
        seen.record.holder.as_ref()
    }

    /// How often leadership has changed, as the record says.
    #[must_use]
    pub fn transitions(&self) -> i32 {
        self.seen.as_ref().map_or(0, |seen| seen.record.transitions)
    }

    /// What to do now.
    #[must_use]
    pub fn next(&self, now: Moment) -> Step {
        let Some(seen) = self.seen.as_ref().filter(|_| !self.doubtful) else { return Step::Read };
        let renews = self.holds(&seen.record);
        if !renews && !self.is_over(seen, now) {
            return Step::Read;
        }
        let transitions = seen.record.transitions.saturating_add(i32::from(!renews));
        if seen.exists {
            Step::Hold { version: seen.record.version.clone(), transitions, renews }
        } else {
            Step::Create { transitions }
        }
    }

    /// Takes in the answer to a step that was sent at `sent` and answered by `now`.
    pub fn answered(&mut self, step: &Step, sent: Moment, now: Moment, answer: Answer) {
        self.doubtful = matches!(answer, Answer::Conflict | Answer::Failed);
        match answer {
            Answer::Stored(record) => {
                if *step != Step::Read {
                    self.tenure = sent.after(TENURE);
                } else if !self.holds(&record) {
                    // Somebody else has it, so ours is over, however it came about.
                    self.tenure = Moment::default();
                }
                self.saw(record, now);
            }
            Answer::Absent => self.saw_nothing(now),
            Answer::Conflict | Answer::Failed => {}
        }
    }

    /// Gives up: nothing may be written from now on. Answers the version to be released, if the
    /// record is ours.
    pub fn resign(&mut self) -> Option<Record> {
        self.tenure = Moment::default();
        let seen = self.seen.as_ref().filter(|seen| seen.exists && self.holds(&seen.record))?;
        Some(seen.record.clone())
    }

    fn holds(&self, record: &Record) -> bool {
        record.holder.as_ref() == Some(&self.me)
    }

    fn is_over(&self, seen: &Seen, now: Moment) -> bool {
        // A strange duration in the record must not lock everybody out, nor let anybody in early.
        let lease = seen.record.lease.clamp(LEASE, LEASE * 4);
        seen.exists && seen.record.holder.is_none() || now.since(seen.at) > lease
    }

    fn saw(&mut self, record: Record, now: Moment) {
        match &mut self.seen {
            Some(seen) if seen.record.version == record.version => seen.exists = true,
            _ => self.seen = Some(Seen { record, at: now, exists: true }),
        }
    }

    fn saw_nothing(&mut self, now: Moment) {
        match &mut self.seen {
            Some(seen) if seen.exists => {
                seen.exists = false;
                seen.at = now;
            }
            Some(_) => {}
            None => {
                let record =
                    Record { holder: None, lease: LEASE, transitions: -1, version: String::new() };
                self.seen = Some(Seen { record, at: Moment::default(), exists: false });
            }
        }
    }
}
