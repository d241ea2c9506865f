//! The report: what a replica publishes about itself, along with its answers.
//!
//! Owns: its fields, and the sentences about the cause of a standstill. The report is published with the
//! views, for operators. No decision depends on it.

use std::{sync::Arc, time::Duration};

use rollcall_model::{
    installation::Installation,
    instance::ServiceKey,
    lease::{Moment, Now},
};

/// Maximum number of services with a hold that a report lists.
pub const MAX_LISTED: usize = 100;

/// What a replica publishes about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Distinguishes this process from an earlier one of the same name.
    pub boot: Arc<str>,
    /// When this replica started; `None` before that.
    pub started: Option<Moment>,
    /// Why the horizon does not move, if it does not.
    pub standstill: Option<Standstill>,
    /// How many leases have ended and wait for the horizon to pass their end.
    pub due: usize,
    /// How often grace was given to all instances.
    pub gaps: u64,
    pub last_gap: Option<LastGap>,
    /// The other replicas, according to their ledgers.
    pub replicas: Vec<Peer>,
    /// The instances that are held past their lease; `None` if there are none.
    pub held: Option<Arc<Held>>,
    /// How many objects this replica cannot decode; they are not discoverable.
    pub unreadable: usize,
    /// How often the store has gone back, as far as this replica and those that ran at the same time know.
    pub epoch: u64,
    /// The last step back while this replica ran.
    pub step_back: Option<StepBack>,
    /// Identities under which two processes run.
    pub duplicates: Vec<Duplicate>,
    /// Whether this process is the younger of two and yields to the older one.
    pub yields: bool,
    /// Other installations that manage the same objects.
    pub overlap: Option<Overlap>,
}

impl Duplicate {
    /// A sentence for operators, with the fix.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { replica, older, younger } = self;
        format!(
            "two processes run under the identity {replica}: {older}, which continues, and {younger}, which started later \
             and yields: it answers heartbeats 202 and is not ready. Stop one of them, or give it its own name \
             (--identity)"
        )
    }
}

/// Two processes of one identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    pub replica: Arc<str>,
    /// The boot of the process that continues.
    pub older: Arc<str>,
    /// The boot of the process that yields.
    pub younger: Arc<str>,
}

/// The store went back: etcd was restored from a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepBack {
    /// When this replica learned of it.
    pub at: Moment,
    /// The proof, as a sentence.
    pub reason: Arc<str>,
}

/// Other installations that manage the same objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    pub own: Installation,
    /// The others, oldest first.
    pub others: Vec<Installation>,
}

impl Overlap {
    /// A sentence for operators, with the fix.
    #[must_use]
    pub fn sentence(&self) -> String {
        let others: Vec<&str> = self.others.iter().map(Installation::as_str).collect();
        let is_oldest = self.others.iter().all(|other| self.own < *other);
        let role = if is_oldest {
            "this one is the oldest and writes status and Events"
        } else {
            "an older one writes status and Events; this one writes a status only after it has been wrong for 5 minutes"
        };
        format!(
            "another installation of rollcall manages the same instances: {role}, and neither evicts instances that both \
             manage. Neither knows the heartbeats that the other takes. Remove one of them, or give each its own namespace \
             (--watch-namespace). Installations, by creation time and uid of the Lease rollcall: this one {}, \
             also {}",
            self.own,
            others.join(", ")
        )
    }
}

/// The instances that are held past their lease after mass expiries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// How many instances are held in total.
    pub instances: usize,
    /// The cluster-wide hold, if there is one.
    pub cluster: Option<Hold>,
    /// The holds of services, by name; [`MAX_LISTED`] at most.
    pub services: Vec<(ServiceKey, Hold)>,
    /// How many more services have a hold.
    pub more: usize,
}

/// A hold after a mass expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// When the first of the leases ended.
    pub since: Moment,
    /// When the last of the instances that are held now is released.
    pub until: Moment,
    /// How many instances are held now.
    pub held: usize,
    /// When the last lease of the same mass expiry ends: the hold lasts at least until then.
    pub over: Moment,
    /// How many instances had fallen silent when it began.
    pub silent: usize,
    /// How many there were in total: discoverable ones in the service, or leased ones in the cluster.
    pub of: usize,
}

/// Another replica, according to its newest ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub replica: Arc<str>,
    /// Distinguishes its process from an earlier one of the same name.
    pub boot: Arc<str>,
    /// When that ledger was received.
    pub seen: Moment,
    /// The highest resourceVersion of instances that it had received when it wrote the ledger.
    pub index: u64,
    /// How far its horizon was behind at that time; `None` if it had none.
    pub behind: Option<Duration>,
    pub presence: Presence,
}

/// Whether another replica takes part in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The horizon waits for its ledger.
    Live,
    /// It is silent, or its ledger was deleted: it delays deadlines.
    Gone,
    /// It has reported that it leaves.
    Left,
}

/// A horizon that does not move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standstill {
    /// When the oldest self-beat was sent that the watch has not delivered; before the first list, when
    /// this replica started.
    pub since: Moment,
    pub cause: Cause,
}

/// What holds a horizon back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The first list of all instances has not arrived; with the error of the watch, if it failed.
    NotListed(Option<Arc<str>>),
    /// The self-beat could not be written, for this reason.
    Unwritten(Arc<str>),
    /// The self-beat was written, or is being written, and the watch has not delivered it; with the error
    /// of the watch, if it failed.
    NotBack(Option<Arc<str>>),
    /// The newest ledger of the replica with this name is old. It can be the reporting replica itself.
    Silent(Arc<str>),
}

/// A time in which heartbeats may have been missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastGap {
    /// When its end was noticed.
    pub ended: Moment,
    /// How long it lasted; `None` if that is not known, in which case every instance gets a whole lease.
    pub lost: Option<Duration>,
}

impl Standstill {
    /// A sentence for operators, with wall times.
    #[must_use]
    pub fn sentence(&self, now: Now) -> String {
        let since = now.wall_of(self.since);
        match &self.cause {
            Cause::NotListed(None) => {
                format!(
                    "this replica started at {since} and has not received the first list of instances yet"
                )
            }
            Cause::NotListed(Some(reason)) => {
                format!("this replica started at {since} and cannot list the instances: {reason}")
            }
            Cause::Unwritten(reason) => {
                format!(
                    "this replica's writes to the Kubernetes API have failed since {since}: {reason}"
                )
            }
            Cause::Silent(replica) => {
                format!("replica {replica} has reported nothing since {since}")
            }
            Cause::NotBack(None) => {
                format!("the self-beat that was sent at {since} has not arrived through the watch")
            }
            Cause::NotBack(Some(reason)) => format!(
                "the self-beat that was sent at {since} has not arrived through the watch, which fails: {reason}"
            ),
        }
    }
}
