//! Facts and duties: the inputs of the catalog, and its outputs besides views.

use std::{fmt, sync::Arc};

use rollcall_model::{
    instance::{Instance, InstanceKey, Phase},
    lease::{Lease, Moment, Reading, Wall},
};

use crate::{leadership::Leadership, ledger::Ledger, slot::Source, status::DesiredStatus};

/// An input of the state machine.
#[derive(Clone, Debug)]
pub enum Fact {
    /// The instance watch started with a full list, as of `index`.
    Listed { instances: Vec<Arc<Instance>>, index: u64 },
    /// The instance watch delivered a new or changed object.
    Upserted(Arc<Instance>),
    /// The instance watch delivered a deletion.
    Removed {
        key: InstanceKey,
        uid: Arc<str>,
        /// resourceVersion of the removal.
        index: u64,
    },
    /// The instance watch sent a bookmark: everything up to `index` was delivered.
    Progress { index: u64 },
    /// The API server answered a write of this replica. The answer is correct, but it can be ahead of the
    /// watch or behind it.
    Written {
        instance: Arc<Instance>,
        /// How its heartbeat annotation got its value, if the write changed it.
        by: Source,
        sent: StorePosition,
    },
    /// The API server answered a delete of this replica.
    Deleted { key: InstanceKey, uid: Arc<str> },
    /// A heartbeat was recorded on this replica only, because the API server did not answer the write.
    RecordedHere { key: InstanceKey, uid: Arc<str>, at: Moment },
    /// The instance watch delivered an object that cannot be decoded.
    Unreadable { on: Version, reason: Arc<str> },
    /// The instance watch failed, and will be retried.
    Interrupted { reason: Arc<str> },
    /// The write of a self-beat was answered or abandoned.
    SelfBeatWritten {
        /// resourceVersion of the replica's own instance after the write, or a sentence that says why the
        /// write failed.
        answer: Result<u64, Arc<str>>,
    },
    /// The replica's own instance was read, because [`SelfBeat::reads`] asked for it.
    OwnRead {
        /// Its resourceVersion; `None` if the object does not exist.
        version: Option<u64>,
    },
    /// The ledger watch delivered a new or changed ledger, with its parts already joined.
    LedgerUpserted(Arc<Ledger>),
    /// The ledger watch started with a full list. The segments of the first list are ignored.
    LedgersListed(Vec<Arc<Ledger>>),
    /// The ledger watch delivered the deletion of a ledger.
    LedgerRemoved {
        replica: Arc<str>,
        /// resourceVersion of the removal.
        version: u64,
    },
    /// The write of a ledger was answered or abandoned.
    LedgerWritten {
        sequence: u64,
        /// resourceVersion of the ledger, or a sentence that says why the write failed.
        answer: Result<u64, Arc<str>>,
    },
    /// This replica is shutting down: it confirms no more heartbeats, and its last ledger says so.
    Leaving,
    /// The election reported which replica leads and, if it is this replica, until when.
    Leadership(Leadership),
    /// A duty on an instance succeeded or failed.
    Attempted { key: InstanceKey, uid: Arc<str>, outcome: WriteOutcome },
}

/// A self-beat to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfBeat {
    pub value: String,
    /// Whether the replica's own instance must be read first and reported with [`Fact::OwnRead`].
    pub reads: bool,
}

/// What was known of the store when a call was sent. The answer cannot be older than that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorePosition {
    pub epoch: u64,
    /// The lowest resourceVersion that the answer can have. For a write that changes something, it is one
    /// above the highest known version. For a read, it is the version of the object that was known. 0 if
    /// nothing was known.
    pub least: u64,
}

impl StorePosition {
    /// For a call that only reads an object, or that may change nothing: `version` is the version known when
    /// it was sent.
    #[must_use]
    pub fn of(self, version: u64) -> Self {
        Self { least: version, ..self }
    }
}

/// The result of a duty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    Done,
    /// The object has changed or is gone. The watch will deliver the change, and the duty is decided
    /// again.
    Conflict,
    /// It failed; try again soon.
    Failed,
    /// The API server refused it: try again much later.
    Refused,
    Evicted,
    /// The API server accepted the deletion, but finalizers keep the object. The watch will report when it is
    /// gone.
    Deleting,
}

/// An output of the state machine: a write, decided on one version of one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Duty {
    /// Write a self-beat into the heartbeat annotation of the replica's own instance.
    SelfBeat(SelfBeat),
    /// List instances and ledgers again from the API server's most recent state, instead of resuming the
    /// watches.
    Relist,
    /// Write this replica's ledger, within 2 s. At most one such write is under way.
    WriteLedger(Ledger),
    /// Deletes the ledger of a replica that is gone; `version` is the precondition.
    DeleteLedger {
        replica: Arc<str>,
        version: u64,
    },
    WriteStatus {
        on: Version,
        desired: DesiredStatus,
        /// The Event to publish once the status is written.
        announce: Option<Announcement>,
    },
    /// Refresh the checkpoint of the last heartbeat.
    Checkpoint {
        on: Version,
        last_heartbeat: Wall,
    },
    Evict {
        on: Version,
        reason: Arc<str>,
    },
    /// Publish an Event.
    Announce {
        on: Version,
        what: Announcement,
    },
}

/// One version of one incarnation of an object, as the precondition of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub key: InstanceKey,
    pub uid: Arc<str>,
    pub resource_version: u64,
}

impl Version {
    #[must_use]
    pub fn of(instance: &Instance) -> Self {
        Self {
            key: instance.key.clone(),
            uid: instance.uid.clone(),
            resource_version: instance.resource_version,
        }
    }
}

/// The content of a Kubernetes Event: something that an operator may want to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    Expired {
        lease: Lease,
    },
    /// The object was deleted, and is gone.
    Evicted {
        reason: Arc<str>,
    },
    /// A heartbeat came after expiry.
    Revived {
        lease: Lease,
        /// The phase after the revival, which says whether the instance is discoverable again.
        phase: Phase,
    },
    /// A discoverable instance reported itself as Critical.
    Critical,
    /// A Critical instance reported itself as Passing or Warning.
    Recovered,
    /// The object cannot be decoded.
    Unreadable {
        reason: Arc<str>,
    },
    /// All discoverable instances of its service fell silent together and are held for one more lease.
    Held {
        service: Arc<str>,
        /// How many discoverable instances the service has.
        of: usize,
    },
    /// More than half of the leased instances of the cluster fell silent together.
    HeldAll {
        silent: usize,
        /// How many leased instances there are.
        of: usize,
    },
    /// Two processes run under the same identity, that of the replica that this instance represents.
    Duplicates {
        /// A sentence that names both processes and the fix.
        sentence: Arc<str>,
    },
    /// The store went back: etcd was restored from a backup.
    StoreWentBack {
        /// The proof, as a sentence.
        reason: Arc<str>,
    },
    /// Another installation manages the same objects.
    OtherInstallation {
        /// A sentence that names the installations and the fix.
        sentence: Arc<str>,
    },
    /// The health annotation has a value outside the vocabulary, which counts as Warning.
    UnknownHealth {
        word: Arc<str>,
    },
}

/// A fact on its way to the engine, with a callback for the moment when readers can see its effect.
pub struct Delivery {
    pub fact: Fact,
    /// When this process received the message that the fact was derived from.
    pub received: Reading,
    /// Called once the fact is applied and the views that it changes are published.
    pub applied: Option<Box<dyn FnOnce() + Send>>,
}

impl Delivery {
    /// A delivery without a callback.
    #[must_use]
    pub fn new(fact: Fact, received: Reading) -> Self {
        Self { fact, received, applied: None }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fact.fmt(f)
    }
}
