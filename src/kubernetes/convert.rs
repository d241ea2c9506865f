//! From stored object to slim record. CRD types stop here.
//!
//! An object is decoded leanly (of managedFields, more than half of its octets, nothing is built but the keys of labels) and
//! tolerantly: a spec that cannot be read spoils that object, not the list it comes in.

use std::{collections::BTreeMap, net::IpAddr, str::FromStr as _, sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition as KubeCondition, Time};
use parking_lot::Mutex;
use rollcall_api::{
    HEALTH_ANNOTATION, HEARTBEAT_ANNOTATION, HealthReport, INSTALLATION_ANNOTATION, POD_ANNOTATION,
    STOPPING_ANNOTATION, ServiceInstanceSpec, ServiceInstanceStatus, UnknownHealth,
    observed_heartbeat,
};
use rollcall_model::{
    condition::Condition,
    installation::Installation,
    instance::{Address, Facts, Health, Instance, InstanceKey, Pairs, Port, StoredStatus},
    lease::{Lease, Wall},
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::kubernetes::{interner::Interner, managed_fields::ManagedFields};

/// An object as it comes over the wire, without what nobody reads.
#[derive(Clone, Debug, Deserialize)]
pub struct Lean {
    metadata: Metadata,
    #[serde(default)]
    spec: Decoded<ServiceInstanceSpec>,
    #[serde(default)]
    status: Decoded<ServiceInstanceStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    generation: i64,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    #[serde(default)]
    finalizers: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    owner_references: Vec<Owner>,
    #[serde(default)]
    managed_fields: ManagedFields,
}

/// One owner: an object with which this one goes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Owner {
    api_version: String,
    kind: String,
    uid: String,
    controller: bool,
}

/// A part of an object that may not be readable.
#[derive(Clone, Debug, Default)]
enum Decoded<T> {
    #[default]
    Absent,
    Good(T),
    Bad(String),
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Decoded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(match serde_json::from_str(raw.get()) {
            Ok(value) => Self::Good(value),
            Err(error) => Self::Bad(error.to_string()),
        })
    }
}

/// Why an object cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{key} is skipped: {reason}")]
pub struct UnreadableObject {
    /// Namespace and name.
    pub key: InstanceKey,
    /// What is wrong with it.
    pub reason: String,
}

impl Lean {
    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> InstanceKey {
        InstanceKey::new(&self.metadata.namespace, &self.metadata.name)
    }

    /// Which incarnation.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.metadata.uid
    }

    /// Its version; 0 when it is not a number.
    #[must_use]
    pub fn resource_version(&self) -> u64 {
        self.metadata.resource_version.parse().unwrap_or(0)
    }
}

/// Turns objects into records, and keeps one copy of what many of them share.
#[derive(Debug, Default)]
pub struct Converter {
    shared: Mutex<Shared>,
}

/// Strings that nobody uses and that are kept nevertheless: most are short, the longest some KiB.
const STRINGS: usize = 1024;

/// Such lists. Each keeps its strings: 32 pairs of the longest are 128 KiB, so 64 such lists 8 MiB, if somebody is out for
/// that.
const LISTS: usize = 64;

/// Longer lists are not shared: hardly any two of them are equal.
const SHARED: usize = 32;

#[derive(Debug)]
struct Shared {
    strings: Interner<str>,
    pairs: Interner<[(Arc<str>, Arc<str>)]>,
    ports: Interner<[Port]>,
    words: Interner<[Arc<str>]>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            strings: Interner::new(STRINGS),
            pairs: Interner::new(LISTS),
            ports: Interner::new(LISTS),
            words: Interner::new(LISTS),
        }
    }
}

impl Shared {
    fn text(&mut self, text: &str) -> Arc<str> {
        self.strings.get(text)
    }

    fn words(&mut self, words: &[Arc<str>]) -> Arc<[Arc<str>]> {
        if words.len() > SHARED { words.into() } else { self.words.get(words) }
    }

    fn pairs(&mut self, map: &BTreeMap<String, String>) -> Pairs {
        let mut text = |text: &String| self.strings.get(text);
        let pairs: Vec<_> = map.iter().map(|(key, value)| (text(key), text(value))).collect();
        if pairs.len() > SHARED { pairs.into() } else { self.pairs.get(&pairs) }
    }
}

impl Converter {
    /// The record of an object.
    ///
    /// # Errors
    /// Says what cannot be used about it.
    pub fn convert(&self, object: &Lean) -> Result<Arc<Instance>, UnreadableObject> {
        let poison = |reason: String| UnreadableObject { key: object.key(), reason };
        let spec = match &object.spec {
            Decoded::Good(spec) => spec,
            Decoded::Bad(reason) => return Err(poison(format!("spec: {reason}"))),
            Decoded::Absent => return Err(poison("spec: missing".to_owned())),
        };
        let status = match &object.status {
            Decoded::Good(status) => Some(status),
            // Ours to write: the next write mends it.
            Decoded::Bad(_) | Decoded::Absent => None,
        };
        let Metadata {
            // In `facts`.
            name: _,
            namespace: _,
            uid: _,
            creation_timestamp: _,
            labels: _,
            // In `resource_version`.
            resource_version: _,
            generation,
            deletion_timestamp,
            finalizers,
            annotations,
            owner_references,
            managed_fields,
        } = &object.metadata;
        let said = Said::of(annotations);
        let mut shared = self.shared.lock();
        let facts = facts(&object.metadata, spec, &said, &mut shared).map_err(poison)?;
        // One that a webhook has taken away is still in the managed fields.
        let registered_labels = managed_fields
            .labels_of_registrations()
            .filter(|key| object.metadata.labels.contains_key(*key));
        let registered_labels: Vec<_> = registered_labels.map(|key| shared.text(key)).collect();
        let heartbeat = annotations.get(HEARTBEAT_ANNOTATION);
        let installation = annotations.get(INSTALLATION_ANNOTATION);
        Ok(Arc::new(Instance {
            facts: Arc::new(facts),
            resource_version: object.resource_version(),
            generation: *generation,
            registered_labels: shared.words(&registered_labels),
            owner_pod: owner_pod(owner_references),
            registered_by: annotations.get(POD_ANNOTATION).map(|uid| uid.as_str().into()),
            unknown_health: said.unknown_health,
            terminating: deletion_timestamp
                .is_some()
                .then(|| finalizers.iter().map(|finalizer| shared.text(finalizer)).collect()),
            heartbeat: heartbeat.map(|value| observed_heartbeat(value).into()),
            installation: installation.and_then(|it| Installation::parse(&shared.text(it))),
            stored: status.map(|status| stored(status, &mut shared)).unwrap_or_default(),
        }))
    }
}

/// What an object shows.
fn facts(
    metadata: &Metadata,
    spec: &ServiceInstanceSpec,
    said: &Said,
    shared: &mut Shared,
) -> Result<Facts, String> {
    let ServiceInstanceSpec {
        service,
        addresses,
        hostname,
        ports,
        version,
        tags,
        zone,
        weight,
        priority,
        attributes,
        state,
        lease,
    } = spec;
    let mut tags: Vec<_> = tags.iter().map(|tag| shared.text(tag)).collect();
    tags.sort_unstable();
    let ports: Vec<_> = ports.iter().map(|port| convert_port(port, shared)).collect();
    Ok(Facts {
        key: InstanceKey {
            namespace: shared.text(&metadata.namespace),
            name: metadata.name.as_str().into(),
        },
        uid: metadata.uid.as_str().into(),
        created: Wall(metadata.creation_timestamp.as_ref().map_or(0, millis)),
        service: shared.text(service),
        address: address(addresses, hostname.as_deref())?,
        ports: shared.ports.get(&ports),
        version: version.as_deref().map(|version| shared.text(version)),
        tags: shared.words(&tags),
        zone: zone.as_deref().map(|zone| shared.text(zone)),
        weight: *weight,
        priority: *priority,
        attributes: shared.pairs(attributes),
        labels: shared.pairs(&metadata.labels),
        state: *state,
        health: said.health,
        stopping: said.stopping,
        lease: convert_lease(lease),
    })
}

fn address(addresses: &[String], hostname: Option<&str>) -> Result<Address, String> {
    match hostname {
        Some(hostname) => Ok(Address::Hostname(hostname.into())),
        None if addresses.is_empty() => Err("spec: neither addresses nor hostname".to_owned()),
        None => {
            let ip = |text: &String| {
                IpAddr::from_str(text)
                    .map_err(|_| format!("spec.addresses: {text} is no IP address"))
            };
            Ok(Address::Ips(addresses.iter().map(ip).collect::<Result<_, _>>()?))
        }
    }
}

/// The pod that owns an object: of several the one that controls it, else the first.
fn owner_pod(owners: &[Owner]) -> Option<Arc<str>> {
    let pods = || owners.iter().filter(|owner| owner.api_version == "v1" && owner.kind == "Pod");
    let pod = pods().find(|owner| owner.controller).or_else(|| pods().next())?;
    (!pod.uid.is_empty()).then(|| pod.uid.as_str().into())
}

/// What an instance says of itself in annotations.
struct Said {
    health: Health,
    stopping: bool,
    unknown_health: Option<Arc<str>>,
}

impl Said {
    fn of(annotations: &BTreeMap<String, String>) -> Self {
        let is_marked = annotations.contains_key(STOPPING_ANNOTATION);
        let report =
            annotations.get(HEALTH_ANNOTATION).map(|word| HealthReport::of_annotation(word));
        let known = |health, stopping| Self { health, stopping, unknown_health: None };
        match report {
            None => known(Health::default(), is_marked),
            Some(Ok(report)) => {
                let health = report.health();
                known(health.unwrap_or_default(), is_marked || health.is_none())
            }
            Some(Err(UnknownHealth(word))) => {
                Self { unknown_health: Some(word), ..known(Health::Warning, is_marked) }
            }
        }
    }
}

fn convert_port(port: &rollcall_api::Port, shared: &mut Shared) -> Port {
    let rollcall_api::Port { name, port, protocol, app_protocol } = port;
    Port {
        name: shared.text(name),
        port: *port,
        protocol: protocol.unwrap_or_default(),
        app_protocol: app_protocol.as_deref().map(|protocol| shared.text(protocol)),
    }
}

fn convert_lease(lease: &rollcall_api::Lease) -> Lease {
    let rollcall_api::Lease { mode, duration_seconds, on_expiry, evict_after_seconds } = lease;
    Lease {
        mode: *mode,
        duration: Duration::from_secs((*duration_seconds).into()),
        on_expiry: *on_expiry,
        evict_after: Duration::from_secs((*evict_after_seconds).into()),
    }
}

fn stored(status: &ServiceInstanceStatus, shared: &mut Shared) -> StoredStatus {
    let ServiceInstanceStatus {
        phase,
        conditions,
        observed_generation,
        observed_heartbeat,
        last_heartbeat_time,
        dns_name,
        addresses,
        ports,
        installation,
        health,
    } = status;
    StoredStatus {
        phase: *phase,
        conditions: conditions
            .iter()
            .map(|condition| stored_condition(condition, shared))
            .collect(),
        observed_generation: observed_generation.unwrap_or(0),
        observed_heartbeat: observed_heartbeat.as_deref().map(Into::into),
        last_heartbeat: last_heartbeat_time.as_ref().map(|time| Wall(millis(time))),
        dns_name: dns_name.as_deref().map(Into::into),
        addresses: addresses.as_deref().map(Into::into),
        ports: ports.as_deref().map(|ports| shared.text(ports)),
        installation: installation.as_deref().and_then(|it| Installation::parse(&shared.text(it))),
        health: *health,
    }
}

fn stored_condition(condition: &KubeCondition, shared: &mut Shared) -> Condition {
    let KubeCondition { type_, status, reason, message, last_transition_time, observed_generation } =
        condition;
    // Long messages have times or words of their own in them.
    let is_shared = message.len() <= 64;
    Condition {
        type_: shared.text(type_),
        status: shared.text(status),
        reason: shared.text(reason),
        message: if is_shared { shared.text(message) } else { message.as_str().into() },
        transition: last_transition_time.0.to_string().into(),
        observed_generation: *observed_generation,
    }
}

fn millis(time: &Time) -> i64 {
    time.0.as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lean(spec: &serde_json::Value) -> Lean {
        serde_json::from_value(json!({
            "apiVersion": "rollcall.dev/v1alpha1", "kind": "ServiceInstance",
            "metadata": {
                "name": "a", "namespace": "shop", "uid": "u", "resourceVersion": "7",
                "creationTimestamp": "2026-01-02T03:04:05Z",
                "annotations": {"rollcall.dev/health": "Fine", "rollcall.dev/heartbeat": "x"},
                "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
            },
            "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn a_spec_that_cannot_be_read_is_named_and_spoils_nothing_else() {
        let error = Converter::default()
            .convert(&lean(&json!({"service": "s", "lease": {"mode": "Sometimes"}})))
            .unwrap_err();
        assert_eq!(error.key, InstanceKey::new("shop", "a"));
        assert!(error.reason.contains("Sometimes"), "{error}");
    }

    #[test]
    fn an_unknown_health_is_a_warning_and_is_kept_to_be_shown() {
        let spec = json!({"service": "s", "addresses": ["::1"], "lease": {"mode": "Permanent"}});
        let instance = Converter::default().convert(&lean(&spec)).unwrap();
        assert_eq!(instance.health, Health::Warning);
        assert_eq!(instance.unknown_health.as_deref(), Some("Fine"));
        assert!(!instance.stopping);
        assert_eq!((instance.resource_version, instance.weight), (7, 100));
        assert_eq!(instance.heartbeat.as_deref(), Some("x"));
    }

    #[test]
    fn an_instance_is_leaving_by_its_health_or_by_a_mark_beside_it() {
        for (annotations, health, stopping) in [
            (json!({}), Health::Passing, false),
            (json!({HEALTH_ANNOTATION: "stopping"}), Health::Passing, true),
            (json!({STOPPING_ANNOTATION: "now"}), Health::Passing, true),
            (json!({STOPPING_ANNOTATION: "", HEALTH_ANNOTATION: "DOWN"}), Health::Critical, true),
            (json!({HEALTH_ANNOTATION: "warning"}), Health::Warning, false),
        ] {
            let said = Said::of(&serde_json::from_value(annotations.clone()).unwrap());
            assert_eq!((said.health, said.stopping), (health, stopping), "{annotations}");
        }
    }

    #[test]
    fn of_its_owners_the_pod_is_known_before_all_the_one_that_controls_it() {
        let owned = |owners: serde_json::Value| {
            owner_pod(&serde_json::from_value::<Vec<_>>(owners).unwrap())
        };
        let pod = |uid: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid});
        let mut controller = pod("c");
        controller["controller"] = json!(true);
        let other = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "p", "uid": "r"});
        let strange = json!({"apiVersion": "x.dev/v1", "kind": "Pod", "name": "p", "uid": "x"});
        assert_eq!(owned(json!([])), None);
        assert_eq!(owned(json!([other, strange])), None);
        assert_eq!(owned(json!([other, pod("a"), pod("b")])).as_deref(), Some("a"));
        assert_eq!(owned(json!([pod("a"), controller])).as_deref(), Some("c"));
        assert_eq!(owned(json!([pod("")])), None);
    }
}
