//! Every write to Kubernetes, each with a deadline, a precondition where one exists, and the
//! answer as a record.
//!
//! Owns: how long and how many writes are under way. Does not own: the bodies (`body`), when
//! to write, and whether it is worth trying (`breaker`).

use std::{sync::Arc, time::Duration};

use hyper::StatusCode;
use kube::{
    Client, Resource as _,
    api::{DeleteParams, GetParams, Patch, PatchParams, Preconditions},
    core::{Request, Status},
};
use rollcall_api::patch::ServiceInstancePatch;
use rollcall_api::{FIELD_MANAGER, STATE_MANAGER, ServiceInstance};
use rollcall_core::{fact::Version, status::Desired};
use rollcall_model::{
    installation::Installation,
    instance::{Instance, InstanceKey},
    lease::{Lease, Wall},
    registration::Registration,
};
use serde_json::Value;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::clock;
use crate::kubernetes::{
    answer::{Answer, ask},
    body::{self, Change, Precondition, StoredHeartbeat, readable_as_yaml},
    breaker::Breaker,
    call::Guarded,
    convert::{Converter, Lean},
    election::Tenure,
    failure::Failure,
};
use crate::telemetry::metrics::ApiMetrics;

/// A write, with the time that it waits for its turn.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// A self-beat: a later one is worth more than this one late.
const SELF_BEAT_TIMEOUT: Duration = Duration::from_secs(2);

/// Writes under way at once. Each holds a connection of its own (the client speaks HTTP/1.1), and
/// an API server does a write in 5 to 20 ms: 32 at once are some 2,000 a second.
const MAX_WRITES: usize = 32;

/// Reads under way at once, each of a name that is not known here. On their own, so that questions
/// for names that do not exist never hold up a registration.
const MAX_READS: usize = 8;

/// Writes instances.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    converter: Arc<Converter>,
    turns: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    calls: Guarded,
    status_calls: Guarded,
}

/// What came of a deletion.
#[derive(Debug)]
pub enum Removed {
    /// The object is gone.
    Gone,
    /// Finalizers hold it, as it is stored now; none when that cannot be read.
    Held(Option<Arc<Instance>>),
}

/// An object that a registration has applied.
#[derive(Debug)]
pub struct Applied {
    /// As it is stored now.
    pub instance: Arc<Instance>,
    /// Whether this apply created it.
    pub created: bool,
}

/// What a patch is for.
#[derive(Clone, Copy)]
enum Kind<'a> {
    Object,
    /// Written by the leader alone.
    Status(&'a Tenure),
    SelfBeat,
}

impl Writer {
    /// A writer that uses `client` for nothing but writes.
    #[must_use]
    pub fn new(
        client: Client,
        converter: Arc<Converter>,
        metrics: &ApiMetrics,
        breaker: &Breaker,
    ) -> Self {
        let turns = Arc::new(Semaphore::new(MAX_WRITES));
        let reads = Arc::new(Semaphore::new(MAX_READS));
        let guarded = |metrics| Guarded { metrics, breaker: breaker.clone() };
        let calls = guarded(metrics.on("serviceinstances", &["get", "apply", "patch", "delete"]));
        let status_calls = guarded(metrics.on("serviceinstances/status", &["patch"]));
        Self { client, converter, turns, reads, calls, status_calls }
    }

    /// The object as it is stored now.
    ///
    /// # Errors
    /// [`Failure::NotFound`], or why it could not be asked for.
    pub async fn get(&self, key: &InstanceKey) -> Result<Arc<Instance>, Failure> {
        let request = request(key).get(&key.name, &GetParams::default());
        let request = request.map_err(kube::Error::BuildRequest)?;
        let _turn = turn(&self.reads).await?;
        let answer = self.client.request::<Lean>(request);
        self.record(self.calls.call("get", WRITE_TIMEOUT, answer).await)
    }

    /// The replica's own object as it is stored now, before a self-beat overwrites it. Like that it waits for no other call, and
    /// finds out whether the API server answers again.
    ///
    /// # Errors
    /// As [`Writer::get`].
    pub async fn get_own(&self, key: &InstanceKey) -> Result<Arc<Instance>, Failure> {
        let request = request(key).get(&key.name, &GetParams::default());
        let request = request.map_err(kube::Error::BuildRequest)?;
        let answer = self.client.request::<Lean>(request);
        self.record(self.calls.always("get", SELF_BEAT_TIMEOUT, answer).await)
    }

    /// Registers by a forced server-side apply: all facts, the lease given, a beat, never `state`; on one incarnation
    /// or version only, where these are given.
    ///
    /// # Errors
    /// [`Failure::Invalid`] with the fields that the API server refuses, [`Failure::Conflict`] when another incarnation
    /// or version, or none, bears the name, among others.
    pub async fn register(
        &self,
        key: &InstanceKey,
        uid: Option<&str>,
        version: Option<u64>,
        registration: &Registration,
        lease: Lease,
        beat: &str,
    ) -> Result<Applied, Failure> {
        let body = Patch::Apply(body::registration(key, uid, version, registration, lease, beat));
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let applied = self.send(key, Kind::Object, &parameters, &body).await.map_err(moved_on)?;
        let created = applied.status == StatusCode::CREATED;
        Ok(Applied { instance: self.record(Ok(applied.value))?, created })
    }

    /// Registers over a record that has facts which the registration has not: server-side apply
    /// leaves those alone that another manager set, so here each is taken away by name. On one version only, if it is given.
    ///
    /// # Errors
    /// As [`Writer::register`]; [`Failure::Conflict`] when another incarnation bears the name.
    pub async fn replace(
        &self,
        record: &Instance,
        version: Option<u64>,
        registration: &Registration,
        lease: Lease,
        beat: &str,
    ) -> Result<Arc<Instance>, Failure> {
        let body = body::replacement(record, version, registration, lease, beat);
        self.merge(&record.key, Kind::Object, body).await.map_err(moved_on)
    }

    /// Changes a part of an object, if the precondition holds.
    ///
    /// # Errors
    /// [`Failure::Conflict`] when it does not; [`Failure::Invalid`] with the fields that are refused.
    pub async fn change(
        &self,
        key: &InstanceKey,
        on: Precondition<'_>,
        change: &Change,
    ) -> Result<Arc<Instance>, Failure> {
        // A registration is an apply and owns facts; the operator's word has an owner of its own.
        let manager = match change {
            Change::Attributes(_) => FIELD_MANAGER,
            Change::State(_) => STATE_MANAGER,
        };
        let parameters =
            PatchParams { field_manager: Some(manager.into()), ..PatchParams::default() };
        let body = Patch::Merge(body::change(on, change));
        self.patch(key, Kind::Object, &parameters, &body).await.map_err(moved_on)
    }

    /// Stores a beat, if this incarnation still bears the name.
    ///
    /// # Errors
    /// [`Failure::Conflict`] when another does.
    pub async fn beat(
        &self,
        key: &InstanceKey,
        uid: &str,
        beat: &StoredHeartbeat,
    ) -> Result<Arc<Instance>, Failure> {
        self.merge(key, Kind::Object, body::beat(uid, beat)).await.map_err(moved_on)
    }

    /// Writes a self-beat: the replica's own heartbeat annotation. Answers the object's resourceVersion.
    ///
    /// # Errors
    /// [`Failure::NotFound`] when the replica's own object is missing.
    pub async fn self_beat(
        &self,
        key: &InstanceKey,
        value: &str,
        installation: Option<&Installation>,
    ) -> Result<u64, Failure> {
        let body = body::self_beat(value, installation);
        let stored = self.merge(key, Kind::SelfBeat, body).await?;
        Ok(stored.resource_version)
    }

    /// Writes a status, if the object is still the version that it was decided on.
    ///
    /// # Errors
    /// [`Failure::Conflict`] when it is not; [`Failure::NotLeading`].
    pub async fn status(
        &self,
        tenure: &Tenure,
        on: &Version,
        desired: &Desired,
        now: Wall,
    ) -> Result<Arc<Instance>, Failure> {
        let status = body::status(on, desired, now);
        self.merge(&on.key, Kind::Status(tenure), status).await
    }

    /// Refreshes the checkpoint of the last beat, if the object is still that version.
    ///
    /// # Errors
    /// [`Failure::Conflict`] when it is not; [`Failure::NotLeading`].
    pub async fn checkpoint(
        &self,
        tenure: &Tenure,
        on: &Version,
        beat: Wall,
    ) -> Result<Arc<Instance>, Failure> {
        let status = body::checkpoint(on, beat);
        self.merge(&on.key, Kind::Status(tenure), status).await
    }

    /// Evicts an object: this incarnation in this version. Answers whether it is gone.
    ///
    /// # Errors
    /// As [`Writer::delete`]; [`Failure::NotLeading`].
    pub async fn evict(&self, tenure: &Tenure, on: &Version) -> Result<bool, Failure> {
        let version = Some(on.resource_version);
        let removed = self.remove(&on.key, Precondition { uid: &on.uid, version }, Some(tenure));
        Ok(matches!(removed.await?, Removed::Gone))
    }

    /// Deletes an object, if the precondition holds.
    ///
    /// # Errors
    /// [`Failure::Conflict`] when it has changed, [`Failure::NotFound`] when it is gone.
    pub async fn delete(
        &self,
        key: &InstanceKey,
        on: Precondition<'_>,
    ) -> Result<Removed, Failure> {
        self.remove(key, on, None).await
    }

    async fn remove(
        &self,
        key: &InstanceKey,
        on: Precondition<'_>,
        tenure: Option<&Tenure>,
    ) -> Result<Removed, Failure> {
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(on.uid.to_owned()),
                resource_version: on.version.map(|version| version.to_string()),
            }),
            ..DeleteParams::default()
        };
        let request = request(key).delete(&key.name, &parameters);
        let request = request.map_err(kube::Error::BuildRequest)?;
        let _turn = turn(&self.turns).await?;
        still_leads(tenure)?;
        let answer = self.client.request::<Value>(request);
        let answer = self.calls.call("delete", WRITE_TIMEOUT, answer).await?;
        match serde_json::from_value::<Status>(answer.clone()) {
            Ok(status) if status.is_failure() => return Err(status.into()),
            // It says nothing of the version in which the object went.
            Ok(status) if status.is_success() => return Ok(Removed::Gone),
            // The object itself is the answer while a finalizer still holds it.
            Ok(_) | Err(_) => {}
        }
        let stored = serde_json::from_value::<Lean>(answer).ok();
        Ok(Removed::Held(stored.and_then(|stored| self.converter.convert(&stored).ok())))
    }

    async fn merge(
        &self,
        key: &InstanceKey,
        kind: Kind<'_>,
        body: ServiceInstancePatch,
    ) -> Result<Arc<Instance>, Failure> {
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        self.patch(key, kind, &parameters, &Patch::Merge(body)).await
    }

    async fn patch(
        &self,
        key: &InstanceKey,
        kind: Kind<'_>,
        parameters: &PatchParams,
        body: &Patch<ServiceInstancePatch>,
    ) -> Result<Arc<Instance>, Failure> {
        self.record(self.send(key, kind, parameters, body).await.map(|answer| answer.value))
    }

    async fn send(
        &self,
        key: &InstanceKey,
        kind: Kind<'_>,
        parameters: &PatchParams,
        body: &Patch<ServiceInstancePatch>,
    ) -> Result<Answer<Lean>, Failure> {
        let request = match kind {
            Kind::Object | Kind::SelfBeat => request(key).patch(&key.name, parameters, body),
            Kind::Status(_) => {
                request(key).patch_subresource("status", &key.name, parameters, body)
            }
        };
        let request = request.map_err(kube::Error::BuildRequest)?;
        let (verb, request) = match body {
            Patch::Apply(_) => ("apply", request.map(readable_as_yaml)),
            _ => ("patch", request),
        };
        let (limit, _turn) = match kind {
            // Never behind a storm of other writes.
            Kind::SelfBeat => (SELF_BEAT_TIMEOUT, None),
            Kind::Object | Kind::Status(_) => (WRITE_TIMEOUT, Some(turn(&self.turns).await?)),
        };
        still_leads(if let Kind::Status(tenure) = kind { Some(tenure) } else { None })?;
        let sent = ask::<Lean>(&self.client, request);
        match kind {
            Kind::Object => self.calls.call(verb, limit, sent).await,
            // The horizon rests on it, and it finds out whether the API answers again.
            Kind::SelfBeat => self.calls.always(verb, limit, sent).await,
            Kind::Status(_) => self.status_calls.call(verb, limit, sent).await,
        }
    }

    fn record(&self, answer: Result<Lean, Failure>) -> Result<Arc<Instance>, Failure> {
        let object = answer?;
        self.converter.convert(&object).map_err(|poison| Failure::Unreadable(poison.to_string()))
    }
}

/// Waits for a turn.
async fn turn(turns: &Semaphore) -> Result<SemaphorePermit<'_>, Failure> {
    let busy = || Failure::Away("too many calls to the API server are under way".to_owned());
    let waited = timeout(WRITE_TIMEOUT, turns.acquire()).await;
    waited.map_err(|_| busy())?.map_err(|_| busy())
}

/// The last look before a write of the leader is sent: it may have waited for its turn.
fn still_leads(tenure: Option<&Tenure>) -> Result<(), Failure> {
    let leads = tenure.is_none_or(|tenure| tenure.holds(clock::moment()));
    if leads { Ok(()) } else { Err(Failure::NotLeading) }
}

fn request(key: &InstanceKey) -> Request {
    Request::new(ServiceInstance::url_path(&(), Some(&key.namespace)))
}

/// The API server calls a uid that does not match an invalid field. It validates the whole object, so that other fields
/// may be named beside it.
fn moved_on(failure: Failure) -> Failure {
    match failure {
        Failure::Invalid { message, faults }
            if faults.iter().any(|fault| fault.field == "metadata.uid") =>
        {
            Failure::Conflict(message)
        }
        other => other,
    }
}
