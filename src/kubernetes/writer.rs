//! All writes of instances, each with a deadline and, where possible, a precondition. Every write returns the stored
//! record.
//!
//! Owns: the deadlines, and how many writes are under way. Does not own: the bodies (`body`), when
//! to write, and whether a write is tried at all (`breaker`).

use std::{sync::Arc, time::Duration};

use hyper::StatusCode;
use kube::{
    Client, Resource as _,
    api::{DeleteParams, GetParams, Patch, PatchParams, Preconditions},
    core::{Request, Status},
};
use rollcall_api::patch::ServiceInstancePatch;
use rollcall_api::{FIELD_MANAGER, STATE_MANAGER, ServiceInstance};
use rollcall_core::{fact::Version, status::DesiredStatus};
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
    answer::{ApiAnswer, send_request},
    body::{self, Change, Precondition, StoredHeartbeat, escape_for_yaml},
    breaker::Breaker,
    call::GuardedCalls,
    convert::{Converter, SlimInstance},
    election::Tenure,
    failure::Failure,
};
use crate::telemetry::metrics::ApiMetrics;

/// The deadline of a write, and separately of the wait for its turn.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// The deadline of a self-beat. After that, writing the next self-beat is more useful.
const SELF_BEAT_TIMEOUT: Duration = Duration::from_secs(2);

/// Writes under way at once. Each uses its own connection (the client speaks HTTP/1.1), and
/// an API server needs 5 to 20 ms for a write: 32 at once are about 2,000 a second.
const MAX_WRITES: usize = 32;

/// Reads under way at once, each of an unknown name. They are limited separately, so that reads of names that do not
/// exist never delay a registration.
const MAX_READS: usize = 8;

/// Reads and writes instances.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    converter: Arc<Converter>,
    turns: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    calls: GuardedCalls,
    status_calls: GuardedCalls,
}

/// The result of a deletion.
#[derive(Debug)]
pub enum Deletion {
    /// The object is gone.
    Gone,
    /// Finalizers keep the object, which is now stored like this; `None` when the answer cannot be read.
    Held(Option<Arc<Instance>>),
}

/// An object that a registration has applied.
#[derive(Debug)]
pub struct Applied {
    /// The object as it is stored now.
    pub instance: Arc<Instance>,
    /// Whether this apply created it.
    pub created: bool,
}

/// The kind of a patch.
#[derive(Clone, Copy)]
enum WriteKind<'a> {
    Object,
    /// Sent only while this tenure lasts.
    Status(&'a Tenure),
    SelfBeat,
}

impl Writer {
    /// A writer that uses `client`, and turns answers into records with `converter`.
    #[must_use]
    pub fn new(
        client: Client,
        converter: Arc<Converter>,
        metrics: &ApiMetrics,
        breaker: &Breaker,
    ) -> Self {
        let turns = Arc::new(Semaphore::new(MAX_WRITES));
        let reads = Arc::new(Semaphore::new(MAX_READS));
        let guarded = |metrics| GuardedCalls { metrics, breaker: breaker.clone() };
        let calls =
            guarded(metrics.for_resource("serviceinstances", &["get", "apply", "patch", "delete"]));
        let status_calls = guarded(metrics.for_resource("serviceinstances/status", &["patch"]));
        Self { client, converter, turns, reads, calls, status_calls }
    }

    /// The object as it is stored now.
    ///
    /// # Errors
    /// [`Failure::NotFound`] when there is none, or why the read failed.
    pub async fn get(&self, key: &InstanceKey) -> Result<Arc<Instance>, Failure> {
        let request = request(key).get(&key.name, &GetParams::default());
        let request = request.map_err(kube::Error::BuildRequest)?;
        let _turn = acquire_turn(&self.reads).await?;
        let answer = self.client.request::<SlimInstance>(request);
        self.record(self.calls.call("get", WRITE_TIMEOUT, answer).await)
    }

    /// The replica's own object as it is stored now, before a self-beat overwrites it. Like the self-beat, this read
    /// waits for no other call, and is sent even when the breaker is open.
    ///
    /// # Errors
    /// As [`Writer::get`].
    pub async fn get_own(&self, key: &InstanceKey) -> Result<Arc<Instance>, Failure> {
        let request = request(key).get(&key.name, &GetParams::default());
        let request = request.map_err(kube::Error::BuildRequest)?;
        let answer = self.client.request::<SlimInstance>(request);
        self.record(self.calls.call_always("get", SELF_BEAT_TIMEOUT, answer).await)
    }

    /// Registers by a forced server-side apply: all facts, the given lease, and a heartbeat, never `state`. A uid or a
    /// version, where given, is a precondition.
    ///
    /// # Errors
    /// Among others [`Failure::Invalid`] with the fields that the API server refuses, and [`Failure::Conflict`] when the
    /// precondition does not hold.
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
        let applied = self
            .send(key, WriteKind::Object, &parameters, &body)
            .await
            .map_err(uid_mismatch_to_conflict)?;
        let created = applied.status == StatusCode::CREATED;
        Ok(Applied { instance: self.record(Ok(applied.value))?, created })
    }

    /// Registers over a record that has facts which the registration lacks. Server-side apply keeps facts that another
    /// manager set, so this removes each by name. The version, where given, is a precondition.
    ///
    /// # Errors
    /// As [`Writer::register`]; [`Failure::Conflict`] when another object has the name now.
    pub async fn replace(
        &self,
        record: &Instance,
        version: Option<u64>,
        registration: &Registration,
        lease: Lease,
        beat: &str,
    ) -> Result<Arc<Instance>, Failure> {
        let body = body::replacement(record, version, registration, lease, beat);
        self.merge(&record.key, WriteKind::Object, body).await.map_err(uid_mismatch_to_conflict)
    }

    /// Changes a part of an object, if the precondition holds.
    ///
    /// # Errors
    /// [`Failure::Conflict`] when it does not hold; [`Failure::Invalid`] with the fields that the API server refuses.
    pub async fn change(
        &self,
        key: &InstanceKey,
        on: Precondition<'_>,
        change: &Change,
    ) -> Result<Arc<Instance>, Failure> {
        // A registration is an apply and owns the facts; the operator state has its own field manager.
        let manager = match change {
            Change::Attributes(_) => FIELD_MANAGER,
            Change::State(_) => STATE_MANAGER,
        };
        let parameters =
            PatchParams { field_manager: Some(manager.into()), ..PatchParams::default() };
        let body = Patch::Merge(body::change(on, change));
        self.patch(key, WriteKind::Object, &parameters, &body)
            .await
            .map_err(uid_mismatch_to_conflict)
    }

    /// Stores a heartbeat, if the object with this uid still has the name.
    ///
    /// # Errors
    /// [`Failure::Conflict`] when another object has the name now.
    pub async fn store_heartbeat(
        &self,
        key: &InstanceKey,
        uid: &str,
        beat: &StoredHeartbeat,
    ) -> Result<Arc<Instance>, Failure> {
        self.merge(key, WriteKind::Object, body::heartbeat(uid, beat))
            .await
            .map_err(uid_mismatch_to_conflict)
    }

    /// Writes a self-beat: the replica's own heartbeat annotation. Returns the object's resourceVersion.
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
        let stored = self.merge(key, WriteKind::SelfBeat, body).await?;
        Ok(stored.resource_version)
    }

    /// Writes a status, if the object still has the version that the status was decided on.
    ///
    /// # Errors
    /// [`Failure::Conflict`] when it does not; [`Failure::NotLeading`] when the tenure has ended.
    pub async fn status(
        &self,
        tenure: &Tenure,
        on: &Version,
        desired: &DesiredStatus,
        now: Wall,
    ) -> Result<Arc<Instance>, Failure> {
        let status = body::status(on, desired, now);
        self.merge(&on.key, WriteKind::Status(tenure), status).await
    }

    /// Writes the time of the last heartbeat alone, if the object still has that version.
    ///
    /// # Errors
    /// As [`Writer::status`].
    pub async fn checkpoint(
        &self,
        tenure: &Tenure,
        on: &Version,
        beat: Wall,
    ) -> Result<Arc<Instance>, Failure> {
        let status = body::checkpoint(on, beat);
        self.merge(&on.key, WriteKind::Status(tenure), status).await
    }

    /// Evicts an object, if it still has this uid and version. Returns whether it is gone.
    ///
    /// # Errors
    /// As [`Writer::delete`]; [`Failure::NotLeading`] when the tenure has ended.
    pub async fn evict(&self, tenure: &Tenure, on: &Version) -> Result<bool, Failure> {
        let version = Some(on.resource_version);
        let removed = self.remove(&on.key, Precondition { uid: &on.uid, version }, Some(tenure));
        Ok(matches!(removed.await?, Deletion::Gone))
    }

    /// Deletes an object, if the precondition holds.
    ///
    /// # Errors
    /// [`Failure::Conflict`] when the precondition does not hold, [`Failure::NotFound`] when there is no object.
    pub async fn delete(
        &self,
        key: &InstanceKey,
        on: Precondition<'_>,
    ) -> Result<Deletion, Failure> {
        self.remove(key, on, None).await
    }

    async fn remove(
        &self,
        key: &InstanceKey,
        on: Precondition<'_>,
        tenure: Option<&Tenure>,
    ) -> Result<Deletion, Failure> {
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(on.uid.to_owned()),
                resource_version: on.version.map(|version| version.to_string()),
            }),
            ..DeleteParams::default()
        };
        let request = request(key).delete(&key.name, &parameters);
        let request = request.map_err(kube::Error::BuildRequest)?;
        let _turn = acquire_turn(&self.turns).await?;
        check_tenure(tenure)?;
        let answer = self.client.request::<Value>(request);
        let answer = self.calls.call("delete", WRITE_TIMEOUT, answer).await?;
        match serde_json::from_value::<Status>(answer.clone()) {
            Ok(status) if status.is_failure() => return Err(status.into()),
            // The Status does not contain the version of the deletion.
            Ok(status) if status.is_success() => return Ok(Deletion::Gone),
            // While a finalizer keeps the object, the answer is the object itself.
            Ok(_) | Err(_) => {}
        }
        let stored = serde_json::from_value::<SlimInstance>(answer).ok();
        Ok(Deletion::Held(stored.and_then(|stored| self.converter.convert(&stored).ok())))
    }

    async fn merge(
        &self,
        key: &InstanceKey,
        kind: WriteKind<'_>,
        body: ServiceInstancePatch,
    ) -> Result<Arc<Instance>, Failure> {
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        self.patch(key, kind, &parameters, &Patch::Merge(body)).await
    }

    async fn patch(
        &self,
        key: &InstanceKey,
        kind: WriteKind<'_>,
        parameters: &PatchParams,
        body: &Patch<ServiceInstancePatch>,
    ) -> Result<Arc<Instance>, Failure> {
        self.record(self.send(key, kind, parameters, body).await.map(|answer| answer.value))
    }

    async fn send(
        &self,
        key: &InstanceKey,
        kind: WriteKind<'_>,
        parameters: &PatchParams,
        body: &Patch<ServiceInstancePatch>,
    ) -> Result<ApiAnswer<SlimInstance>, Failure> {
        let request = match kind {
            WriteKind::Object | WriteKind::SelfBeat => {
                request(key).patch(&key.name, parameters, body)
            }
            WriteKind::Status(_) => {
                request(key).patch_subresource("status", &key.name, parameters, body)
            }
        };
        let request = request.map_err(kube::Error::BuildRequest)?;
        let (verb, request) = match body {
            Patch::Apply(_) => ("apply", request.map(escape_for_yaml)),
            _ => ("patch", request),
        };
        let (limit, _turn) = match kind {
            // A self-beat never waits for other writes.
            WriteKind::SelfBeat => (SELF_BEAT_TIMEOUT, None),
            WriteKind::Object | WriteKind::Status(_) => {
                (WRITE_TIMEOUT, Some(acquire_turn(&self.turns).await?))
            }
        };
        check_tenure(if let WriteKind::Status(tenure) = kind { Some(tenure) } else { None })?;
        let sent = send_request::<SlimInstance>(&self.client, request);
        match kind {
            WriteKind::Object => self.calls.call(verb, limit, sent).await,
            // The horizon depends on self-beats, and their answers close an open breaker.
            WriteKind::SelfBeat => self.calls.call_always(verb, limit, sent).await,
            WriteKind::Status(_) => self.status_calls.call(verb, limit, sent).await,
        }
    }

    fn record(&self, answer: Result<SlimInstance, Failure>) -> Result<Arc<Instance>, Failure> {
        let object = answer?;
        self.converter
            .convert(&object)
            .map_err(|unreadable| Failure::Unreadable(unreadable.to_string()))
    }
}

/// Waits until fewer calls of this kind are under way.
async fn acquire_turn(turns: &Semaphore) -> Result<SemaphorePermit<'_>, Failure> {
    let busy = || Failure::Unavailable("too many calls to the API server are under way".to_owned());
    let waited = timeout(WRITE_TIMEOUT, turns.acquire()).await;
    waited.map_err(|_| busy())?.map_err(|_| busy())
}

/// Checks the tenure immediately before a write of the leader is sent, because the write may have waited for its turn.
fn check_tenure(tenure: Option<&Tenure>) -> Result<(), Failure> {
    let leads = tenure.is_none_or(|tenure| tenure.holds(clock::moment()));
    if leads { Ok(()) } else { Err(Failure::NotLeading) }
}

fn request(key: &InstanceKey) -> Request {
    Request::new(ServiceInstance::url_path(&(), Some(&key.namespace)))
}

/// A conflict when the uid does not match, which the API server reports as an invalid field. Other invalid fields may be
/// reported along with it, because the API server validates the whole object.
fn uid_mismatch_to_conflict(failure: Failure) -> Failure {
    match failure {
        Failure::Invalid { message, faults }
            if faults.iter().any(|fault| fault.field == "metadata.uid") =>
        {
            Failure::Conflict(message)
        }
        other => other,
    }
}
