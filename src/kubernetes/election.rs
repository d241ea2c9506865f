//! The election: there is one Lease object, and the replica that holds it leads.
//!
//! Owns: reading and writing that object, and [`Tenure`], which is checked immediately before every write of the
//! leader. Does not own: the rules (`candidate`), the leader's work (`controller`).
//!
//! Tenures of two leaders do not overlap, but the end of a tenure cannot stop a write that is already on its way.
//! So every write of the leader also carries the resourceVersion that it was decided on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use rollcall_core::{
    directory::Directory,
    fact::{Delivery, Fact},
    leadership::Leadership,
};
use rollcall_model::{
    installation::Installation,
    lease::{Moment, Wall},
};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::clock;
use crate::kubernetes::{
    call::measure,
    candidate::{Candidate, ElectionStep, LEASE, RETRY, Record, StoreAnswer},
    failure::Failure,
};
use crate::telemetry::metrics::{ApiMetrics, CallMetrics, ElectionMetrics};

/// The name of the Lease, in rollcall's own namespace.
pub const LEASE_NAME: &str = "rollcall";

/// The deadline of one call: three calls fit into a tenure.
const CALL: Duration = Duration::from_secs(3);

/// After a failure, or when another replica's write came first.
const PAUSE: Duration = Duration::from_millis(500);

/// Separates the replica's name from the boot id of its process; names cannot contain it.
const SEPARATOR: char = '_';

/// The moment up to which this replica leads. Cheap to clone; all clones share the value.
#[derive(Clone, Debug, Default)]
pub struct Tenure(Arc<AtomicU64>);

impl Tenure {
    /// Whether this replica leads now.
    #[must_use]
    pub fn holds(&self, now: Moment) -> bool {
        now.0 < self.0.load(Ordering::Acquire)
    }

    fn set(&self, until: Moment) {
        self.0.store(until.0, Ordering::Release);
    }
}

/// One replica's part in the election.
pub struct Election {
    api: Api<Lease>,
    namespace: String,
    candidate: Candidate,
    /// The object as last read: fields unknown to rollcall are preserved.
    stored: Option<Lease>,
    tenure: Tenure,
    /// Reports whether this process yields to an older process with the same identity.
    directory: Arc<Directory>,
    facts: mpsc::Sender<Delivery>,
    metrics: ElectionMetrics,
    calls: CallMetrics,
    was_leading: bool,
    failing: bool,
}

/// A process that takes part in an election.
#[derive(Clone, Copy, Debug)]
pub struct Process<'a> {
    /// The name of its replica.
    pub identity: &'a str,
    /// Distinguishes it from other processes with that name.
    pub boot: &'a str,
}

impl Process<'_> {
    /// The `holderIdentity` of this process in the Lease.
    fn holder(&self) -> String {
        format!("{}{SEPARATOR}{}", self.identity, self.boot)
    }
}

impl Election {
    /// Takes part in the election through the Lease in `namespace`.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: &str,
        process: &Process<'_>,
        directory: Arc<Directory>,
        facts: mpsc::Sender<Delivery>,
        metrics: ElectionMetrics,
        calls: &ApiMetrics,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            candidate: Candidate::new(process.holder().into()),
            stored: None,
            tenure: Tenure::default(),
            directory,
            facts,
            metrics,
            calls: calls.for_resource("leases", &["get", "create", "update"]),
            was_leading: false,
            failing: false,
        }
    }

    /// The tenure, which the leader's writes check.
    #[must_use]
    pub fn tenure(&self) -> Tenure {
        self.tenure.clone()
    }

    /// Takes part in the election until `stop`, then releases the Lease if this process holds it. Each call has a
    /// deadline.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let pause = self.step_unless_yielding().await;
            // With jitter, so that rivals do not write at the same instant.
            let pause = pause.mul_f64(1.0 + fastrand::f64() / 5.0);
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return self.release().await;
            }
        }
    }

    /// Takes one step, unless this process yields to an older process with the same identity. Returns the pause before the
    /// next one.
    async fn step_unless_yielding(&mut self) -> Duration {
        if !self.directory.report().yields {
            return self.step().await;
        }
        self.release().await;
        PAUSE
    }

    /// Takes one step. Returns the pause before the next one.
    async fn step(&mut self) -> Duration {
        let step = self.candidate.next(clock::moment());
        let sent = clock::moment();
        let answer = self.execute(&step).await;
        let pause = match (&step, &answer) {
            // The record just read may allow a write at once.
            (ElectionStep::Read, StoreAnswer::Stored(_) | StoreAnswer::Absent) => None,
            (_, StoreAnswer::Stored(_)) => Some(RETRY),
            _ => Some(PAUSE),
        };
        let now = clock::moment();
        self.candidate.process_answer(&step, sent, now, answer);
        self.publish(now).await;
        pause.unwrap_or_else(|| match self.candidate.next(now) {
            ElectionStep::Read => RETRY,
            _ => Duration::ZERO,
        })
    }

    async fn execute(&mut self, step: &ElectionStep) -> StoreAnswer {
        let parameters = PostParams::default();
        let answer = match step {
            ElectionStep::Read => measure(&self.calls, "get", CALL, self.api.get(LEASE_NAME)).await,
            ElectionStep::Create { transitions } => {
                let lease = self.own_lease(None, *transitions, false);
                let call = self.api.create(&parameters, &lease);
                measure(&self.calls, "create", CALL, call).await
            }
            ElectionStep::Hold { transitions, renews, .. } => {
                let lease = self.own_lease(self.stored.clone(), *transitions, *renews);
                self.replace(&lease).await
            }
        };
        self.interpret(step, answer)
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, Failure> {
        let parameters = PostParams::default();
        let call = self.api.replace(LEASE_NAME, &parameters, lease);
        measure(&self.calls, "update", CALL, call).await
    }

    fn interpret(&mut self, step: &ElectionStep, answer: Result<Lease, Failure>) -> StoreAnswer {
        let answer = match answer {
            Ok(lease) => {
                let record = record(&lease);
                self.stored = Some(lease);
                Ok(StoreAnswer::Stored(record))
            }
            Err(Failure::Conflict(_)) => Ok(StoreAnswer::Conflict),
            // When a create is answered 404, the namespace is missing.
            Err(Failure::NotFound(_)) if !matches!(step, ElectionStep::Create { .. }) => {
                Ok(StoreAnswer::Absent)
            }
            Err(failure) => Err(failure),
        };
        let namespace = &self.namespace;
        match &answer {
            Err(failure) if !self.failing => warn!(
                %failure, namespace,
                "cannot take part in the election; if no other replica leads, status, Events and evictions wait"
            ),
            Ok(_) if self.failing => info!("taking part in the election again"),
            _ => {}
        }
        self.failing = answer.is_err();
        answer.unwrap_or(StoreAnswer::Failed)
    }

    /// The object to store, with this process as its holder.
    fn own_lease(&self, stored: Option<Lease>, transitions: i32, renews: bool) -> Lease {
        let now = MicroTime(timestamp());
        let Lease { metadata, spec } = stored.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(LEASE_NAME.to_owned()), ..ObjectMeta::default() },
            spec: None,
        });
        let before = spec.unwrap_or_default();
        let acquired = before.acquire_time.clone().filter(|_| renews);
        let spec = LeaseSpec {
            holder_identity: Some(self.candidate.name().to_string()),
            lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..before
        };
        Lease { metadata, spec: Some(spec) }
    }

    /// Publishes the tenure, and reports it to the engine. Waits without a deadline: the engine receives facts as long as
    /// the process runs, and a tenure ends by itself.
    async fn publish(&mut self, now: Moment) {
        let tenure = self.candidate.tenure();
        self.tenure.set(tenure);
        let leads = now < tenure;
        if leads != self.was_leading {
            self.was_leading = leads;
            self.metrics.changed(leads);
            let transitions = self.candidate.transitions();
            if leads {
                info!(transitions, "this replica leads: it writes statuses and evicts");
            } else {
                warn!("this replica no longer leads");
            }
        }
        let (leader, boot) = self.candidate.leader(now).map(|holder| parse_holder(holder)).unzip();
        let since = leader.as_ref().and_then(|_| acquire_time(self.stored.as_ref()?));
        let (boot, installation) = (boot.flatten(), self.stored.as_ref().and_then(installation));
        let fact = Fact::Leadership(Leadership { leader, boot, since, tenure, installation });
        if self.facts.send(Delivery::new(fact, clock::reading())).await.is_err() {
            debug!("the engine has ended");
        }
    }

    /// Releases the Lease, so that another replica can lead at once instead of after a whole lease.
    async fn release(&mut self) {
        let held = self.candidate.resign();
        if std::mem::take(&mut self.was_leading) {
            self.metrics.changed(false);
        }
        self.publish(clock::moment()).await;
        let Some((_, mut lease)) = held.zip(self.stored.take()) else { return };
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.renew_time = Some(MicroTime(timestamp()));
        }
        match self.replace(&lease).await {
            Ok(_) => info!("released the leadership"),
            Err(failure) => warn!(
                %failure,
                "could not release the leadership; another replica takes over within {} s",
                LEASE.as_secs()
            ),
        }
    }
}

/// The name of the replica and the boot id of the process, from a `holderIdentity`.
fn parse_holder(holder: &str) -> (Arc<str>, Option<Arc<str>>) {
    match holder.rsplit_once(SEPARATOR) {
        Some((replica, boot)) => (replica.into(), Some(boot.into())),
        None => (holder.into(), None),
    }
}

/// The installation: the Lease's creation time and uid identify it.
fn installation(lease: &Lease) -> Option<Installation> {
    let created = lease.metadata.creation_timestamp.as_ref()?;
    Installation::new(Wall(created.0.as_millisecond()), lease.metadata.uid.as_deref()?)
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()).map(Into::into),
        lease: seconds.map_or(LEASE, Duration::from_secs),
        transitions: spec.lease_transitions.unwrap_or(0),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}

/// When the holder took over, by its own account.
fn acquire_time(lease: &Lease) -> Option<Wall> {
    let acquired = lease.spec.as_ref()?.acquire_time.as_ref()?;
    Some(Wall(acquired.0.as_millisecond()))
}

fn timestamp() -> Timestamp {
    Timestamp::from_millisecond(clock::wall().0).unwrap_or(Timestamp::UNIX_EPOCH)
}
