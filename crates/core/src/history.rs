//! History: whether the store has gone back, as after a restore of etcd from a backup.
//!
//! A store that went back gives out resourceVersions a second time, for other contents. A watch that goes on from a
//! version of the future hears nothing, and what is known here by version is worth nothing any more.
//!
//! Owns: what proves a step back, the epoch that rises with it, and until when everything is to be taken in anew. Does
//! not own: what follows for instances and ledgers (`catalog`).
//!
//! A proof is a version that one history cannot have: the answer to a write that is not above what was known before
//! the write; a list or an object, read consistently, that is older than what is known. Writes that change nothing,
//! deletions, Leases, Events and lists from a cache prove nothing: they may be old, or of another etcd.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use rollcall_model::{instance::InstanceKey, lease::Moment};

use crate::{report::StepBack, rules::Rules};

/// A process that was stopped for so long may have slept through a restore: to stop the API servers, restore etcd and
/// start them again takes longer. One that was awake has seen its writes fail, or its watch.
const LONG_STALL: Duration = Duration::from_secs(5);

/// After an outage everything is listed anew, but not more often than this: a list costs the API server all instances.
const LIST_EVERY: Duration = Duration::from_secs(30);

/// What one history cannot have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// A write was stored as `version`, though `position` had been seen before it was sent.
    Write { version: u64, position: u64 },
    /// A ledger, stored as `version`, says that its replica had seen `index` before.
    Ledger { replica: Arc<str>, version: u64, index: u64 },
    /// A list is as of `index`, though `position` had been seen before.
    List { index: u64, position: u64 },
    /// A list has an object as of `version`, which was known as of `known`; or the same, with other contents.
    Object { key: InstanceKey, version: u64, known: u64 },
    /// The own instance is older than a self-beat that was answered.
    Own { version: u64, acknowledged: u64 },
    /// A replica has proved it.
    Reported { replica: Arc<str> },
}

/// What this replica knows of the store's history.
#[derive(Debug)]
pub(super) struct History<R: Rules> {
    rules: PhantomData<R>,
    epoch: u64,
    /// A list is awaited of which everything is taken in anew.
    renewing: bool,
    /// How far the instance watch had come when the self-beat under way was asked for.
    asked: Option<u64>,
    /// resourceVersion of the own instance with the newest self-beat that was answered.
    acknowledged: Option<u64>,
    /// The API server was away, or this process was stopped: it is not known whether the store went back meanwhile.
    unsure: bool,
    /// A list is wanted; and until it has come, what is known by version may be of a store that went back.
    wanted: bool,
    in_doubt: bool,
    /// When one was asked for last.
    listed: Option<Moment>,
    last: Option<StepBack>,
    steps: u64,
}

impl<R: Rules> Default for History<R> {
    fn default() -> Self {
        Self {
            rules: PhantomData,
            epoch: 0,
            renewing: false,
            asked: None,
            acknowledged: None,
            unsure: false,
            wanted: false,
            in_doubt: false,
            listed: None,
            last: None,
            steps: 0,
        }
    }
}

impl<R: Rules> History<R> {
    /// Rises with each step back; that of all replicas which know of it.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether a list is awaited of which everything is taken in anew.
    pub(super) fn is_renewing(&self) -> bool {
        self.renewing
    }

    /// How often the store went back.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// The last time that it did.
    pub(super) fn last(&self) -> Option<StepBack> {
        self.last.clone()
    }

    /// What is known to have been given out: the watch has come to `index`, which is of another epoch until a list came.
    pub(super) fn position(&self, index: u64) -> u64 {
        if self.renewing { self.acknowledged.unwrap_or(0) } else { index }
    }

    /// A self-beat is asked for; the watch has come to `index`. Answers whether the own instance is to be read before it is
    /// written.
    pub(super) fn ask(&mut self, index: u64) -> bool {
        self.asked = Some(self.position(index));
        self.unsure && R::OWN_IS_READ_AFTER_OUTAGE
    }

    /// The write of a self-beat was answered, or given up.
    pub(super) fn answered(&mut self, answer: &Result<u64, Arc<str>>) -> Option<Proof> {
        let asked = self.asked.take();
        let Ok(version) = answer.as_ref().copied() else {
            (self.unsure, self.in_doubt) = (true, true);
            return None;
        };
        self.acknowledged = Some(version);
        self.wanted |= std::mem::take(&mut self.unsure) && R::OUTAGE_LISTS_ANEW;
        let position = asked.filter(|position| version <= *position)?;
        Some(Proof::Write { version, position })
    }

    /// The own instance as the API server has it, asked for when every earlier write was answered or given up. One that is
    /// not there may have been deleted, as of a replica that stood still for long.
    pub(super) fn own_read(&self, version: Option<u64>) -> Option<Proof> {
        let (version, acknowledged) = version.zip(self.acknowledged)?;
        (version < acknowledged).then_some(Proof::Own { version, acknowledged })
    }

    /// This process was stopped for `stalled`.
    pub(super) fn stalled(&mut self, stalled: Duration) {
        if stalled >= LONG_STALL {
            (self.unsure, self.in_doubt) = (true, true);
            self.wanted |= R::OUTAGE_LISTS_ANEW;
        }
    }

    /// Whether this proof, which belongs to this epoch at least, is news.
    pub(super) fn is_news(&self, epoch: u64) -> bool {
        R::STEPS_BACK_ARE_SEEN && epoch >= self.epoch
    }

    /// The store went back: everything known by version is worth nothing, and a list is wanted at once.
    pub(super) fn step_back(&mut self, epoch: u64, proof: &Proof, now: Moment) {
        self.epoch = epoch;
        self.renewing = true;
        (self.asked, self.unsure) = (None, false);
        self.acknowledged = None;
        (self.wanted, self.listed) = (true, None);
        self.steps += 1;
        self.last = Some(StepBack { at: now, reason: proof.to_string().into() });
    }

    /// A replica that knows nothing yet begins with the epoch of the others.
    pub(super) fn begin(&mut self, epoch: u64) {
        self.epoch = self.epoch.max(epoch);
    }

    /// Whether a version may stand for another content by now: then nothing is deleted on the strength of it.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt && R::DOUBT_STOPS_EVICTIONS
    }

    /// A list was taken in. Answers whether it was one of which everything is taken in anew.
    pub(super) fn listed(&mut self) -> bool {
        // One that was asked for since the API server answers again.
        self.in_doubt &= self.unsure || self.wanted;
        std::mem::take(&mut self.renewing)
    }

    /// Whether everything is to be listed anew now.
    pub(super) fn wants_list(&mut self, now: Moment) -> bool {
        let is_early = self.listed.is_some_and(|listed| now.since(listed) < LIST_EVERY);
        if !self.wanted || is_early {
            return false;
        }
        (self.wanted, self.listed) = (false, Some(now));
        true
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { version, position } => write!(
                f,
                "a write of this replica was stored as resourceVersion {version}, after {position} had been seen"
            ),
            Self::Ledger { replica, version, index } => write!(
                f,
                "the ledger of {replica}, of resourceVersion {version}, says that {index} had been seen before"
            ),
            Self::List { index, position } => {
                write!(f, "a list is as of resourceVersion {index}, after {position} had been seen")
            }
            Self::Object { key, version, known } if version == known => {
                write!(
                    f,
                    "{key} is stored with other contents as the same resourceVersion {version}"
                )
            }
            Self::Object { key, version, known } => {
                write!(f, "{key} is stored as resourceVersion {version}, and was {known} before")
            }
            Self::Own { version, acknowledged } => write!(
                f,
                "this replica's own instance is stored as resourceVersion {version}, and was {acknowledged} before"
            ),
            Self::Reported { replica } => write!(f, "the replica {replica} has noticed it"),
        }
    }
}
