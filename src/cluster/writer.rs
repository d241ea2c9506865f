//! Every write to Kubernetes, each with a deadline, a precondition where one exists, and the
//! answer as a record.
//!
//! Owns: the bodies of patches, and how many writes are under way. Does not own: when to write.

use std::{sync::Arc, time::Duration};

use kube::{
    Client, Resource as _,
    api::{DeleteParams, GetParams, Patch, PatchParams, Preconditions},
    core::{Request, Status},
};
use serde_json::{Value, json};
use tokio::{sync::Semaphore, time::timeout};

use crate::api::{
    API_VERSION, FIELD_MANAGER, HEALTH_ANNOTATION, HEARTBEAT_ANNOTATION, READY_CONDITION,
    ServiceInstance,
};
use crate::cluster::{
    convert::{Converter, Lean},
    failure::Failure,
};
use crate::registry::{
    fact::Version,
    instance::{Address, Health, Instance, InstanceKey, Port},
    lease::{Lease, Mode, OnExpiry, Wall},
    registration::Registration,
    status::{Desired, is_ready},
};
use crate::telemetry::metrics::ApiMetrics;

/// A write, with the time that it waits for its turn.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// A self-beat: a later one is worth more than this one late.
const SELF_BEAT_TIMEOUT: Duration = Duration::from_secs(2);

/// Writes under way at once. Each holds a connection of its own (the client speaks HTTP/1.1), and
/// an API server does a write in 5 to 20 ms: 32 at once are some 2,000 a second.
const MAX_WRITES: usize = 32;

/// Writes instances.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    converter: Arc<Converter>,
    turns: Arc<Semaphore>,
    metrics: ApiMetrics,
    /// Writes a wall time (RFC 3339).
    show: fn(Wall) -> String,
}

/// Which part of an object a patch is for.
#[derive(Clone, Copy)]
enum Part {
    Whole,
    Status,
}

/// A beat to be stored.
#[derive(Clone, Debug, Default)]
pub struct StoredBeat {
    /// The annotation's new value.
    pub value: String,
    /// The health reported with it.
    pub health: Option<Health>,
    /// Another length of the lease.
    pub duration: Option<Duration>,
}

impl Writer {
    /// A writer that uses `client` for nothing but writes.
    #[must_use]
    pub fn new(
        client: Client,
        converter: Arc<Converter>,
        metrics: ApiMetrics,
        show: fn(Wall) -> String,
    ) -> Self {
        Self { client, converter, turns: Arc::new(Semaphore::new(MAX_WRITES)), metrics, show }
    }

    /// The object as it is stored now.
    ///
    /// # Errors
    /// [`Failure::NotFound`], or why it could not be asked for.
    pub async fn get(&self, key: &InstanceKey) -> Result<Arc<Instance>, Failure> {
        let request = request(key).get(&key.name, &GetParams::default());
        let request = request.map_err(kube::Error::BuildRequest)?;
        self.record("get", WRITE_TIMEOUT, self.client.request::<Lean>(request)).await
    }

    /// Registers by a forced server-side apply: all facts, the lease given, a beat, never `state`.
    ///
    /// # Errors
    /// [`Failure::Invalid`] with the fields that the API server refuses, among others.
    pub async fn register(
        &self,
        key: &InstanceKey,
        registration: &Registration,
        lease: Lease,
        beat: &str,
    ) -> Result<Arc<Instance>, Failure> {
        let body = Patch::Apply(applied(key, registration, lease, beat));
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        self.patch(key, Part::Whole, &parameters, &body, WRITE_TIMEOUT).await
    }

    /// Stores a beat, if this incarnation still bears the name.
    ///
    /// # Errors
    /// [`Failure::Conflict`] when another does.
    pub async fn beat(
        &self,
        key: &InstanceKey,
        uid: &str,
        beat: &StoredBeat,
    ) -> Result<Arc<Instance>, Failure> {
        let mut body = json!({"metadata": {
            "uid": uid,
            "annotations": {HEARTBEAT_ANNOTATION: beat.value},
        }});
        if let Some(health) = beat.health {
            body["metadata"]["annotations"][HEALTH_ANNOTATION] = health.as_str().into();
        }
        if let Some(duration) = beat.duration {
            body["spec"] = json!({"lease": {"durationSeconds": duration.as_secs()}});
        }
        let written = self.merge(key, Part::Whole, body, WRITE_TIMEOUT).await;
        written.map_err(moved_on)
    }

    /// Writes a self-beat: the replica's own heartbeat annotation.
    ///
    /// # Errors
    /// [`Failure::NotFound`] when the replica's own object is missing.
    pub async fn self_beat(&self, key: &InstanceKey, value: &str) -> Result<(), Failure> {
        let body = json!({"metadata": {"annotations": {HEARTBEAT_ANNOTATION: value}}});
        self.merge(key, Part::Whole, body, SELF_BEAT_TIMEOUT).await.map(|_| ())
    }

    /// Writes a status, if the object is still the version that it was decided on.
    ///
    /// # Errors
    /// [`Failure::Conflict`] when it is not.
    pub async fn status(
        &self,
        on: &Version,
        desired: &Desired,
        now: Wall,
    ) -> Result<Arc<Instance>, Failure> {
        let transition = desired.transition.as_deref().map(str::to_owned);
        let transition = transition.unwrap_or_else(|| (self.show)(now));
        let status = json!({
            "phase": desired.phase.as_str(),
            "observedGeneration": desired.observed_generation,
            "observedHeartbeat": desired.observed_heartbeat,
            "lastHeartbeatTime": desired.last_heartbeat.map(self.show),
            "dnsName": desired.dns_name,
            "conditions": [{
                "type": READY_CONDITION,
                "status": if is_ready(desired.phase) { "True" } else { "False" },
                "reason": desired.reason,
                "message": desired.message,
                "lastTransitionTime": transition,
                "observedGeneration": desired.observed_generation,
            }],
        });
        self.merge(&on.key, Part::Status, decided_on(on, status), WRITE_TIMEOUT).await
    }

    /// Refreshes the checkpoint of the last beat, if the object is still that version.
    ///
    /// # Errors
    /// [`Failure::Conflict`] when it is not.
    pub async fn checkpoint(&self, on: &Version, beat: Wall) -> Result<Arc<Instance>, Failure> {
        let status = json!({"lastHeartbeatTime": (self.show)(beat)});
        self.merge(&on.key, Part::Status, decided_on(on, status), WRITE_TIMEOUT).await
    }

    /// Deletes an object: this incarnation, and this version where one is given.
    ///
    /// # Errors
    /// [`Failure::Conflict`] when it has changed, [`Failure::NotFound`] when it is gone.
    pub async fn delete(
        &self,
        key: &InstanceKey,
        uid: &str,
        resource_version: Option<u64>,
    ) -> Result<(), Failure> {
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: resource_version.map(|version| version.to_string()),
            }),
            ..DeleteParams::default()
        };
        let request = request(key).delete(&key.name, &parameters);
        let request = request.map_err(kube::Error::BuildRequest)?;
        let _turn = self.turn().await?;
        let answer = self.client.request::<Value>(request);
        let answer = self.measured("delete", WRITE_TIMEOUT, answer).await?;
        match serde_json::from_value::<Status>(answer) {
            Ok(status) if status.is_failure() => Err(status.into()),
            _ => Ok(()),
        }
    }

    async fn merge(
        &self,
        key: &InstanceKey,
        part: Part,
        body: Value,
        limit: Duration,
    ) -> Result<Arc<Instance>, Failure> {
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        self.patch(key, part, &parameters, &Patch::Merge(body), limit).await
    }

    async fn patch(
        &self,
        key: &InstanceKey,
        part: Part,
        parameters: &PatchParams,
        body: &Patch<Value>,
        limit: Duration,
    ) -> Result<Arc<Instance>, Failure> {
        let request = match part {
            Part::Whole => request(key).patch(&key.name, parameters, body),
            Part::Status => request(key).patch_subresource("status", &key.name, parameters, body),
        };
        let request = request.map_err(kube::Error::BuildRequest)?;
        let verb = match body {
            Patch::Apply(_) => "apply",
            _ => "patch",
        };
        // A self-beat never waits behind a storm of other writes.
        let _turn = if limit < WRITE_TIMEOUT { None } else { Some(self.turn().await?) };
        self.record(verb, limit, self.client.request::<Lean>(request)).await
    }

    async fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Failure> {
        let waited = timeout(WRITE_TIMEOUT, self.turns.acquire()).await;
        let busy = || Failure::Away(format!("{MAX_WRITES} writes are under way already"));
        waited.map_err(|_| busy())?.map_err(|_| busy())
    }

    async fn record(
        &self,
        verb: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<Lean, kube::Error>>,
    ) -> Result<Arc<Instance>, Failure> {
        let object = self.measured(verb, limit, call).await?;
        self.converter.convert(&object).map_err(|poison| Failure::Unreadable(poison.to_string()))
    }

    async fn measured<T>(
        &self,
        verb: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Failure> {
        let clock = self.metrics.begin(verb);
        let answer = match timeout(limit, call).await {
            Ok(answer) => answer.map_err(Failure::from),
            Err(_) => Err(Failure::Away(format!("no answer within {} s", limit.as_secs()))),
        };
        clock.end(answer.as_ref().err().map_or(200, Failure::code));
        answer
    }
}

fn request(key: &InstanceKey) -> Request {
    Request::new(ServiceInstance::url_path(&(), Some(&key.namespace)))
}

/// A status patch with the version it was decided on: the API server refuses it for any other.
fn decided_on(on: &Version, status: Value) -> Value {
    let version = on.resource_version.to_string();
    json!({"metadata": {"uid": &*on.uid, "resourceVersion": version}, "status": status})
}

/// The API server calls a uid that does not match an invalid field.
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

/// The object that a registration applies.
fn applied(key: &InstanceKey, registration: &Registration, lease: Lease, beat: &str) -> Value {
    let mut spec = json!({
        "service": registration.service,
        "ports": registration.ports.iter().map(port).collect::<Vec<_>>(),
        "weight": registration.weight,
        "priority": registration.priority,
        "lease": {
            "mode": match lease.mode {
                Mode::Heartbeat => "Heartbeat",
                Mode::Permanent => "Permanent",
            },
            "durationSeconds": lease.duration.as_secs(),
            "onExpiry": match lease.on_expiry {
                OnExpiry::Retain => "Retain",
                OnExpiry::Evict => "Evict",
            },
            "evictAfterSeconds": lease.evict_after.as_secs(),
        },
    });
    // What is empty must be left out: server-side apply makes null of an empty map or set where a
    // former registration had some, and null is no object.
    if !registration.tags.is_empty() {
        spec["tags"] = json!(registration.tags);
    }
    if !registration.attributes.is_empty() {
        spec["attributes"] = json!(registration.attributes);
    }
    match &registration.address {
        Address::Ips(ips) => spec["addresses"] = json!(ips),
        Address::Hostname(hostname) => spec["hostname"] = json!(&**hostname),
    }
    if let Some(version) = &registration.version {
        spec["version"] = json!(version);
    }
    if let Some(zone) = &registration.zone {
        spec["zone"] = json!(zone);
    }
    let mut annotations = json!({HEARTBEAT_ANNOTATION: beat});
    if let Some(health) = registration.health {
        annotations[HEALTH_ANNOTATION] = json!(health.as_str());
    }
    let mut metadata = json!({
        "name": &*key.name,
        "namespace": &*key.namespace,
        "annotations": annotations,
    });
    if !registration.labels.is_empty() {
        metadata["labels"] = json!(registration.labels);
    }
    json!({
        "apiVersion": API_VERSION,
        "kind": "ServiceInstance",
        "metadata": metadata,
        "spec": spec,
    })
}

fn port(port: &Port) -> Value {
    let mut value =
        json!({"name": &*port.name, "port": port.port, "protocol": port.protocol.as_str()});
    if let Some(protocol) = &port.app_protocol {
        value["appProtocol"] = json!(&**protocol);
    }
    value
}
