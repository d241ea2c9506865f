//! The report: what a replica tells of itself, beside its answers.
//!
//! Owns: its shape, and the words for what holds a horizon back. Published with the views, for people. Decides
//! nothing.

use std::{sync::Arc, time::Duration};

use rollcall_model::{
    installation::Installation,
    instance::ServiceKey,
    lease::{Moment, Now},
};

/// Services of which a report says that they are held.
pub const SHOWN: usize = 100;

/// What a replica tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Tells this process from an earlier one of the same name.
    pub boot: Arc<str>,
    /// When it began to work; none before.
    pub started: Option<Moment>,
    /// Why the horizon stands still, if it does.
    pub standstill: Option<Standstill>,
    /// Leases that have ended and wait for the horizon to pass their end.
    pub due: usize,
    /// Times that everybody was given back time.
    pub gaps: u64,
    /// The last of them.
    pub last_gap: Option<LastGap>,
    /// The other replicas, as their ledgers show them.
    pub replicas: Vec<Peer>,
    /// Who is kept past the lease; none when nobody is.
    pub held: Option<Arc<Held>>,
    /// Objects that this replica cannot read, and so does not offer.
    pub unreadable: usize,
    /// How often the store has gone back, as far as the replicas that ran together know.
    pub epoch: u64,
    /// The last time that it did while this replica ran.
    pub step_back: Option<StepBack>,
    /// Identities under which two processes run.
    pub duplicates: Vec<Duplicate>,
    /// This process is the younger of two, and yields to the older one.
    pub yields: bool,
    /// Other installations that look after the same objects, if there are any.
    pub overlap: Option<Overlap>,
}

impl Duplicate {
    /// The same for a person in a hurry, with what to do.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { replica, older, younger } = self;
        format!(
            "two processes run under the identity {replica}: {older}, which goes on, and {younger}, which was started later \
             and yields: it answers heartbeats 202, and is not ready. Stop one of them, or give it a name of its own \
             (--identity)"
        )
    }
}

/// Two processes of one identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// The identity.
    pub replica: Arc<str>,
    /// The boot of the one that goes on.
    pub older: Arc<str>,
    /// The boot of the one that yields.
    pub younger: Arc<str>,
}

/// The store went back: etcd was restored from a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepBack {
    /// When this replica learned of it.
    pub at: Moment,
    /// What proves it, as a sentence.
    pub reason: Arc<str>,
}

/// Other installations that look after the same objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// This installation.
    pub own: Installation,
    /// The others, oldest first.
    pub others: Vec<Installation>,
}

impl Overlap {
    /// The same for a person in a hurry, with what to do.
    #[must_use]
    pub fn sentence(&self) -> String {
        let others: Vec<&str> = self.others.iter().map(Installation::as_str).collect();
        let is_oldest = self.others.iter().all(|other| self.own < *other);
        let role = if is_oldest {
            "this one is the oldest and writes status and Events"
        } else {
            "an older one writes status and Events, and this one only where that has been wrong for 5 minutes"
        };
        format!(
            "another installation of rollcall looks after the same instances: {role}, and neither evicts what both look \
             after. Heartbeats that one takes are not known to the other. Remove one of them, or give them namespaces of \
             their own (--watch-namespace); installations, by the creation and the uid of Lease rollcall: this one {}, \
             also {}",
            self.own,
            others.join(", ")
        )
    }
}

/// Who is kept past the lease, since too many came due at a stroke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// How many in all.
    pub instances: usize,
    /// Of the greater part of the cluster.
    pub everybody: Option<Hold>,
    /// Of services, by name; [`SHOWN`] at most.
    pub services: Vec<(ServiceKey, Hold)>,
    /// Services beyond those.
    pub more: usize,
}

/// Many that came due at a stroke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The end of the first lease.
    pub since: Moment,
    /// When the last of those who are held now is given up.
    pub until: Moment,
    /// How many are held now.
    pub held: usize,
    /// Up to when others of the same stroke come due: before that it does not end.
    pub over: Moment,
    /// How many had fallen silent when it began.
    pub silent: usize,
    /// And of how many: that the service discoverable, or that had a lease in the cluster.
    pub of: usize,
}

/// Another replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub replica: Arc<str>,
    /// Tells its process from an earlier one of the same name.
    pub boot: Arc<str>,
    /// When its newest ledger was seen.
    pub seen: Moment,
    /// The highest resourceVersion of instances that it had seen by then.
    pub index: u64,
    /// How far its horizon was behind by then; none when that was not known.
    pub behind: Option<Duration>,
    /// Whether it counts.
    pub presence: Presence,
}

/// Whether another replica counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Its ledger is waited for.
    Live,
    /// It is silent, or its ledger was deleted: it holds deadlines.
    Gone,
    /// It has said that it leaves.
    Left,
}

/// A horizon that stands still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standstill {
    /// The sending of the first self-beat that did not come back; before the first list, the start.
    pub since: Moment,
    /// Why.
    pub cause: Cause,
}

/// What holds a horizon back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The first list of all instances has not come; what the watch says, if it failed.
    NotListed(Option<Arc<str>>),
    /// The self-beat could not be written: why.
    Unwritten(Arc<str>),
    /// It was written, or is being written, and has not come back; what the watch says, if it
    /// failed.
    NotBack(Option<Arc<str>>),
    /// The newest ledger of this replica is old: another one, or this one itself.
    Silent(Arc<str>),
}

/// Time in which beats could not be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastGap {
    /// When it was noticed to be over.
    pub ended: Moment,
    /// How long it had been; none when nobody knows, so that everybody has a whole lease.
    pub lost: Option<Duration>,
}

impl Standstill {
    /// The same for a person in a hurry, in wall time.
    #[must_use]
    pub fn sentence(&self, now: Now) -> String {
        let since = now.wall_of(self.since);
        match &self.cause {
            Cause::NotListed(None) => {
                format!("started at {since}, and the first list has not come yet")
            }
            Cause::NotListed(Some(reason)) => {
                format!("started at {since}, and the first list has not come: {reason}")
            }
            Cause::Unwritten(reason) => {
                format!("the self-beat of {since}, and all since, failed: {reason}")
            }
            Cause::Silent(replica) => {
                format!("the newest ledger of {replica} was seen at {since}, and none since")
            }
            Cause::NotBack(None) => {
                format!("the self-beat sent at {since} has not come back through the watch")
            }
            Cause::NotBack(Some(reason)) => format!(
                "the self-beat sent at {since} has not come back, since the watch fails: {reason}"
            ),
        }
    }
}
