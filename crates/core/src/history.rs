//! History: whether the store has gone back, for example because etcd was restored from a backup.
//!
//! A store that went back assigns resourceVersions a second time, to other contents. A watch that resumes
//! from a version that the store has not reached again receives nothing, and everything known by version
//! is invalid.
//!
//! Owns: what proves a step back, the epoch that rises with it, and the list that must replace everything
//! known. Does not own: what follows for instances and ledgers (`catalog`).
//!
//! A proof is a version that cannot occur in one history: the version after a write is not above the
//! version that was known before the write, or a consistent read returns a list or object that is older
//! than what is known. Writes that change nothing, deletions, Leases, Events and lists from a cache prove
//! nothing: they can be old, or come from another etcd.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use rollcall_model::{instance::InstanceKey, lease::Moment};

use crate::{report::StepBack, rules::Rules};

/// A process that was stopped for this long may have missed a restore: stopping the API servers, restoring
/// etcd and starting them again takes longer. A process that kept running would have noticed failures of
/// its writes or its watch.
const LONG_STALL: Duration = Duration::from_secs(5);

/// After an outage everything is listed again, but not more often than this, because the API server must
/// send all instances for each list.
const LIST_EVERY: Duration = Duration::from_secs(30);

/// An observation that is impossible within one history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// A write was stored as `version`, although `position` was known before it was sent.
    Write { version: u64, position: u64 },
    /// A ledger that was stored as `version` says that its replica knew `index` before.
    Ledger { replica: Arc<str>, version: u64, index: u64 },
    /// A list is as of `index`, although `position` was known before.
    List { index: u64, position: u64 },
    /// A list contains an object in `version`, although a later version `known` was known before; or it
    /// contains the same version with other contents.
    Object { key: InstanceKey, version: u64, known: u64 },
    /// The replica's own instance is older than a self-beat that was answered.
    Own { version: u64, acknowledged: u64 },
    /// Another replica has found a proof.
    Reported { replica: Arc<str> },
}

#[derive(Debug)]
pub(super) struct History<R: Rules> {
    rules: PhantomData<R>,
    epoch: u64,
    /// The next list replaces everything that is known.
    replaces_all: bool,
    /// The index of the instance watch when the self-beat under way was requested.
    position_at_request: Option<u64>,
    /// resourceVersion of the replica's own instance after the newest self-beat that was answered.
    acknowledged: Option<u64>,
    /// Whether the store may have gone back, because the API server did not answer or this process was
    /// stopped.
    had_outage: bool,
    /// Whether a list must be requested.
    list_wanted: bool,
    /// Until the list has arrived, everything known by version may belong to a store that went back.
    versions_in_doubt: bool,
    /// When a list was last requested.
    list_requested_at: Option<Moment>,
    last: Option<StepBack>,
    steps: u64,
}

impl<R: Rules> Default for History<R> {
    fn default() -> Self {
        Self {
            rules: PhantomData,
            epoch: 0,
            replaces_all: false,
            position_at_request: None,
            acknowledged: None,
            had_outage: false,
            list_wanted: false,
            versions_in_doubt: false,
            list_requested_at: None,
            last: None,
            steps: 0,
        }
    }
}

impl<R: Rules> History<R> {
    /// Rises with each step back. All replicas that know of the step back have the same epoch.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the next list replaces everything that is known.
    pub(super) fn is_renewing(&self) -> bool {
        self.replaces_all
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// The last step back.
    pub(super) fn last(&self) -> Option<StepBack> {
        self.last.clone()
    }

    /// The highest resourceVersion known to be assigned in this epoch. The watch has reached `index`, which
    /// belongs to an earlier epoch until a new list has arrived.
    pub(super) fn position(&self, index: u64) -> u64 {
        if self.replaces_all { self.acknowledged.unwrap_or(0) } else { index }
    }

    /// A self-beat is requested while the watch is at `index`. Returns whether the replica's own instance
    /// must be read before the write.
    pub(super) fn request_self_beat(&mut self, index: u64) -> bool {
        self.position_at_request = Some(self.position(index));
        self.had_outage && R::OWN_IS_READ_AFTER_OUTAGE
    }

    /// The write of a self-beat was answered or abandoned.
    pub(super) fn self_beat_answered(&mut self, answer: &Result<u64, Arc<str>>) -> Option<Proof> {
        let asked = self.position_at_request.take();
        let Ok(version) = answer.as_ref().copied() else {
            (self.had_outage, self.versions_in_doubt) = (true, true);
            return None;
        };
        self.acknowledged = Some(version);
        self.list_wanted |= std::mem::take(&mut self.had_outage) && R::OUTAGE_RELISTS;
        let position = asked.filter(|position| version <= *position)?;
        Some(Proof::Write { version, position })
    }

    /// The replica's own instance was read after every earlier write was answered or abandoned. An
    /// instance that does not exist proves nothing: it may have been deleted, for example after a long
    /// stall.
    pub(super) fn own_read(&self, version: Option<u64>) -> Option<Proof> {
        let (version, acknowledged) = version.zip(self.acknowledged)?;
        (version < acknowledged).then_some(Proof::Own { version, acknowledged })
    }

    /// This process was stopped for `stalled`.
    pub(super) fn stalled(&mut self, stalled: Duration) {
        if stalled >= LONG_STALL {
            (self.had_outage, self.versions_in_doubt) = (true, true);
            self.list_wanted |= R::OUTAGE_RELISTS;
        }
    }

    /// Whether a proof found in `epoch` is new: it is, unless this replica has already stepped back to a
    /// later epoch.
    pub(super) fn is_new_step_back(&self, epoch: u64) -> bool {
        R::STEPS_BACK_ARE_NOTICED && epoch >= self.epoch
    }

    /// The store went back: everything known by version is invalid, and a list is needed at once.
    pub(super) fn step_back(&mut self, epoch: u64, proof: &Proof, now: Moment) {
        self.epoch = epoch;
        self.replaces_all = true;
        (self.position_at_request, self.had_outage) = (None, false);
        self.acknowledged = None;
        (self.list_wanted, self.list_requested_at) = (true, None);
        self.steps += 1;
        self.last = Some(StepBack { at: now, reason: proof.to_string().into() });
    }

    /// A replica that has just started adopts the epoch of the others.
    pub(super) fn adopt_epoch(&mut self, epoch: u64) {
        self.epoch = self.epoch.max(epoch);
    }

    /// Whether versions may be invalid, in which case nothing is deleted on their basis.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.versions_in_doubt && R::DOUBT_STOPS_EVICTIONS
    }

    /// A list was applied. Returns whether it replaces everything that was known.
    pub(super) fn listed(&mut self) -> bool {
        // Only a list that was requested after the API server answered again ends the doubt.
        self.versions_in_doubt &= self.had_outage || self.list_wanted;
        std::mem::take(&mut self.replaces_all)
    }

    /// Whether everything must be listed again now.
    pub(super) fn wants_list(&mut self, now: Moment) -> bool {
        let is_early = self.list_requested_at.is_some_and(|listed| now.since(listed) < LIST_EVERY);
        if !self.list_wanted || is_early {
            return false;
        }
        (self.list_wanted, self.list_requested_at) = (false, Some(now));
        true
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { version, position } => write!(
                f,
                "a write of this replica was stored as resourceVersion {version} although {position} was known before"
            ),
            Self::Ledger { replica, version, index } => write!(
                f,
                "the ledger of {replica} has resourceVersion {version}, but says that {index} was known before"
            ),
            Self::List { index, position } => {
                write!(
                    f,
                    "a list has resourceVersion {index}, although {position} was known before"
                )
            }
            Self::Object { key, version, known } if version == known => {
                write!(f, "{key} changed without a new resourceVersion: it still has {version}")
            }
            Self::Object { key, version, known } => {
                write!(f, "{key} has resourceVersion {version}, and had {known} before")
            }
            Self::Own { version, acknowledged } => write!(
                f,
                "this replica's own instance has resourceVersion {version}, and had {acknowledged} before"
            ),
            Self::Reported { replica } => write!(f, "replica {replica} reported it"),
        }
    }
}
