//! Facts and duties: all that goes into the catalog, and all that comes out beside views.

use std::{fmt, sync::Arc};

use rollcall_model::{
    instance::{Instance, InstanceKey, Phase},
    lease::{Lease, Moment, Reading, Wall},
};

use crate::{leadership::Leadership, ledger::Ledger, slot::Source, status::Desired};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Fact {
    /// The instance watch began anew with a full list, as of `index`.
    Listed {
        /// Everybody.
        instances: Vec<Arc<Instance>>,
        /// resourceVersion of the list.
        index: u64,
    },
    /// The instance watch told of a new or changed object.
    Upserted(Arc<Instance>),
    /// The instance watch told that an object is gone.
    Removed {
        /// Its name.
        key: InstanceKey,
        /// Its incarnation.
        uid: Arc<str>,
        /// resourceVersion of the removal.
        index: u64,
    },
    /// The instance watch has delivered everything up to `index`.
    Progress {
        /// resourceVersion of the bookmark.
        index: u64,
    },
    /// The answer to a call of ours: true, but perhaps ahead of the watch or behind it.
    Written {
        /// As it is stored.
        instance: Arc<Instance>,
        /// By which way its heartbeat annotation came to its value, if that is news.
        by: Source,
        /// What was known of the store when the call was sent.
        sent: Sent,
    },
    /// A delete of ours was answered.
    Deleted {
        /// Its name.
        key: InstanceKey,
        /// Its incarnation.
        uid: Arc<str>,
    },
    /// A beat that could not be written because the API server is away.
    Beat {
        /// Whose.
        key: InstanceKey,
        /// Which incarnation.
        uid: Arc<str>,
        /// When it arrived.
        at: Moment,
    },
    /// The instance watch told of an object that cannot be read.
    Unreadable {
        /// Which, and in which version.
        on: Version,
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// The instance watch failed; it will be tried again.
    Interrupted {
        /// Why, as a sentence.
        reason: Arc<str>,
    },
    /// The write of a self-beat was answered, or given up.
    SelfBeatWritten {
        /// resourceVersion of the own instance with it; or why the API server did not take it, as a sentence.
        answer: Result<u64, Arc<str>>,
    },
    /// The own instance was read, because the self-beat about to be written asked for that.
    OwnRead {
        /// Its resourceVersion; none when it is not there.
        version: Option<u64>,
    },
    /// The ledger watch told of a new or changed ledger, whole: parts are joined before.
    LedgerSeen(Arc<Ledger>),
    /// The ledger watch began anew with a full list. Of the first, segments are ignored.
    LedgersListed(Vec<Arc<Ledger>>),
    /// The ledger watch told that a ledger was deleted.
    LedgerGone {
        /// Whose.
        replica: Arc<str>,
        /// resourceVersion of the removal.
        version: u64,
    },
    /// The write of a ledger was answered, or given up.
    LedgerWritten {
        /// Which.
        sequence: u64,
        /// resourceVersion of the ledger; or why the API server did not take it, as a sentence.
        answer: Result<u64, Arc<str>>,
    },
    /// This replica is going away: it answers no beat any more, and says so in its last ledger.
    Leaving,
    /// The election, whenever it learns something: who leads, and how long this replica may.
    Leadership(Leadership),
    /// A duty on an instance was done, or could not be.
    Attempted {
        /// Whose.
        key: InstanceKey,
        /// The incarnation it was for.
        uid: Arc<str>,
        /// What came of it.
        outcome: Outcome,
    },
}

/// A self-beat that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfBeat {
    /// The annotation's value.
    pub value: String,
    /// Read the own instance first, and say so by [`Fact::OwnRead`].
    pub reads: bool,
}

/// What was known of the store when a call was sent: what it answers cannot be older.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// How often the store had gone back.
    pub epoch: u64,
    /// The lowest resourceVersion that the answer can have: of a write that changes something, one above the highest
    /// seen; of a read, that of the object as it was known. 0 when nothing was.
    pub least: u64,
}

impl Sent {
    /// The same of a call that reads an object, or may change nothing of it, which was known as of `version` then.
    #[must_use]
    pub fn of(self, version: u64) -> Self {
        Self { least: version, ..self }
    }
}

/// What came of a duty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// The object has moved on, or is gone: the watch will tell, and the duty is decided anew.
    Conflict,
    /// It failed; to be tried again later.
    Failed,
    /// The API server does not let us: to be tried again much later.
    Refused,
    /// The object is deleted, and gone.
    Evicted,
    /// The API server has taken the deletion, and finalizers hold the object: the watch will tell when it is gone.
    Deleting,
}

/// Something to be done, decided on one version of one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Duty {
    /// Write this value into the own instance's heartbeat annotation.
    SelfBeat(SelfBeat),
    /// List instances and ledgers anew, from the API server's most recent state: the watches do not go on from where
    /// they are.
    Relist,
    /// Write the own ledger: at most one is under way, within 2 s.
    Flush(Ledger),
    /// Delete the ledger of a replica that is gone.
    Sweep {
        /// Whose.
        replica: Arc<str>,
        /// The version it was decided on.
        version: u64,
    },
    /// Write the status.
    WriteStatus {
        /// The version it was decided on.
        on: Version,
        /// What to write.
        desired: Desired,
        /// What to tell people, once it is written.
        announce: Option<Announcement>,
    },
    /// Refresh the checkpoint of the last beat.
    Checkpoint {
        /// The version it was decided on.
        on: Version,
        /// When the last beat was.
        last_heartbeat: Wall,
    },
    /// Delete the object.
    Evict {
        /// The version it was decided on.
        on: Version,
        /// Why, as a sentence.
        reason: Arc<str>,
    },
    /// Tell people.
    Announce {
        /// About which object.
        on: Version,
        /// What.
        what: Announcement,
    },
}

/// One version of one incarnation of an object: the precondition of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Name.
    pub key: InstanceKey,
    /// Incarnation.
    pub uid: Arc<str>,
    /// Version.
    pub resource_version: u64,
}

impl Version {
    /// The version that a record is of.
    #[must_use]
    pub fn of(instance: &Instance) -> Self {
        Self {
            key: instance.key.clone(),
            uid: instance.uid.clone(),
            resource_version: instance.resource_version,
        }
    }
}

/// What a person would act on: becomes a Kubernetes Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// Its lease ended.
    Expired {
        /// Its terms.
        lease: Lease,
    },
    /// Its object was deleted, and is gone.
    Evicted {
        /// Why, as a sentence.
        reason: Arc<str>,
    },
    /// A beat brought it back.
    Revived {
        /// Its terms.
        lease: Lease,
        /// What it is now, and so whether it is discoverable again.
        phase: Phase,
    },
    /// It was discoverable, and reports itself as not to be used.
    Critical,
    /// It reports itself as fit again.
    Recovered,
    /// It cannot be read.
    Unreadable {
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// All that its service discoverable fell silent together: they are kept for one further lease.
    Held {
        /// The service.
        service: Arc<str>,
        /// How many there were.
        of: usize,
    },
    /// The greater part of the cluster did.
    HeldAll {
        /// How many had fallen silent.
        silent: usize,
        /// Of how many with a lease.
        of: usize,
    },
    /// Two processes run under one identity: this instance is of both.
    Duplicates {
        /// Which they are, and what to do, as a sentence.
        sentence: Arc<str>,
    },
    /// The store went back: etcd was restored from a backup.
    StoreWentBack {
        /// What proves it, as a sentence.
        reason: Arc<str>,
    },
    /// Another installation looks after the same objects.
    OtherInstallation {
        /// What is known, and what to do, as a sentence.
        sentence: Arc<str>,
    },
    /// The health annotation holds a word that is not in the vocabulary, and counts as Warning.
    UnknownHealth {
        /// The word.
        word: Arc<str>,
    },
}

/// A fact on its way to the engine, and what to do when readers can see it.
pub struct Delivery {
    /// What happened.
    pub fact: Fact,
    /// When this process received what the fact follows from.
    pub received: Reading,
    /// Called once the fact is applied and the views it changes are published.
    pub applied: Option<Box<dyn FnOnce() + Send>>,
}

impl Delivery {
    /// Of a fact that nobody waits for.
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
