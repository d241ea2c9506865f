//! Converts stored objects into records. No other module uses the CRD types of stored instances.
//!
//! Decoding allocates little: managedFields make up more than half of an object's bytes, and only the keys of labels are
//! kept of them. It is also tolerant: a spec that cannot be decoded affects only its own object, not the list that contains
//! the object.

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

/// An object as it comes over the wire, without the fields that rollcall does not use.
#[derive(Clone, Debug, Deserialize)]
pub struct SlimInstance {
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

/// An owner: Kubernetes deletes this object with it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Owner {
    api_version: String,
    kind: String,
    uid: String,
    controller: bool,
}

/// A part of an object, which can be missing or unreadable.
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

/// An object that this version of rollcall cannot read.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("cannot read the ServiceInstance {key}: {reason}")]
pub struct UnreadableObject {
    /// Namespace and name.
    pub key: InstanceKey,
    /// What is wrong with it.
    pub reason: String,
}

impl SlimInstance {
    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> InstanceKey {
        InstanceKey::new(&self.metadata.namespace, &self.metadata.name)
    }

    /// The uid.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.metadata.uid
    }

    /// The resourceVersion; 0 when it is not a number.
    #[must_use]
    pub fn resource_version(&self) -> u64 {
        self.metadata.resource_version.parse().unwrap_or(0)
    }
}

/// Turns objects into records. Strings and lists that many records have in common are stored once.
#[derive(Debug, Default)]
pub struct Converter {
    shared: Mutex<Interners>,
}

/// The interner of strings sweeps out unused ones when it holds more than this many. Most are short, the longest a few
/// KiB.
const STRINGS: usize = 1024;

/// The same for lists. Each keeps its strings: 32 pairs of the longest are 128 KiB, so 64 such lists are 8 MiB in the
/// worst case.
const LISTS: usize = 64;

/// Longer lists are not shared, because hardly any two of them are equal.
const MAX_SHARED: usize = 32;

#[derive(Debug)]
struct Interners {
    strings: Interner<str>,
    pairs: Interner<[(Arc<str>, Arc<str>)]>,
    ports: Interner<[Port]>,
    lists: Interner<[Arc<str>]>,
}

impl Default for Interners {
    fn default() -> Self {
        Self {
            strings: Interner::new(STRINGS),
            pairs: Interner::new(LISTS),
            ports: Interner::new(LISTS),
            lists: Interner::new(LISTS),
        }
    }
}

impl Interners {
    fn text(&mut self, text: &str) -> Arc<str> {
        self.strings.get(text)
    }

    fn list(&mut self, list: &[Arc<str>]) -> Arc<[Arc<str>]> {
        if list.len() > MAX_SHARED { list.into() } else { self.lists.get(list) }
    }

    fn pairs(&mut self, map: &BTreeMap<String, String>) -> Pairs {
        let mut text = |text: &String| self.strings.get(text);
        let pairs: Vec<_> = map.iter().map(|(key, value)| (text(key), text(value))).collect();
        if pairs.len() > MAX_SHARED { pairs.into() } else { self.pairs.get(&pairs) }
    }
}

impl Converter {
    /// The record of an object.
    ///
    /// # Errors
    /// Which field cannot be read.
    pub fn convert(&self, object: &SlimInstance) -> Result<Arc<Instance>, UnreadableObject> {
        let unreadable = |reason: String| UnreadableObject { key: object.key(), reason };
        let spec = match &object.spec {
            Decoded::Good(spec) => spec,
            Decoded::Bad(reason) => return Err(unreadable(format!("spec: {reason}"))),
            Decoded::Absent => return Err(unreadable("spec: missing".to_owned())),
        };
        let status = match &object.status {
            Decoded::Good(status) => Some(status),
            // Only rollcall writes the status, and its next write replaces this one.
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
        let reported = ReportedHealth::from_annotations(annotations);
        let mut interners = self.shared.lock();
        let facts = facts(&object.metadata, spec, &reported, &mut interners).map_err(unreadable)?;
        // A label that a webhook removed is still in the managed fields.
        let registered_labels = managed_fields
            .labels_of_registrations()
            .filter(|key| object.metadata.labels.contains_key(*key));
        let registered_labels: Vec<_> = registered_labels.map(|key| interners.text(key)).collect();
        let heartbeat = annotations.get(HEARTBEAT_ANNOTATION);
        let installation = annotations.get(INSTALLATION_ANNOTATION);
        Ok(Arc::new(Instance {
            facts: Arc::new(facts),
            resource_version: object.resource_version(),
            generation: *generation,
            registered_labels: interners.list(&registered_labels),
            owner_pod: owner_pod(owner_references),
            registered_by: annotations.get(POD_ANNOTATION).map(|uid| uid.as_str().into()),
            unknown_health: reported.unknown_health,
            terminating: deletion_timestamp
                .is_some()
                .then(|| finalizers.iter().map(|finalizer| interners.text(finalizer)).collect()),
            heartbeat: heartbeat.map(|value| observed_heartbeat(value).into()),
            installation: installation.and_then(|it| Installation::parse(&interners.text(it))),
            stored: status.map(|status| stored(status, &mut interners)).unwrap_or_default(),
        }))
    }
}

fn facts(
    metadata: &Metadata,
    spec: &ServiceInstanceSpec,
    reported: &ReportedHealth,
    interners: &mut Interners,
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
    let mut tags: Vec<_> = tags.iter().map(|tag| interners.text(tag)).collect();
    tags.sort_unstable();
    let ports: Vec<_> = ports.iter().map(|port| convert_port(port, interners)).collect();
    Ok(Facts {
        key: InstanceKey {
            namespace: interners.text(&metadata.namespace),
            name: metadata.name.as_str().into(),
        },
        uid: metadata.uid.as_str().into(),
        created: Wall(metadata.creation_timestamp.as_ref().map_or(0, millis)),
        service: interners.text(service),
        address: address(addresses, hostname.as_deref())?,
        ports: interners.ports.get(&ports),
        version: version.as_deref().map(|version| interners.text(version)),
        tags: interners.list(&tags),
        zone: zone.as_deref().map(|zone| interners.text(zone)),
        weight: *weight,
        priority: *priority,
        attributes: interners.pairs(attributes),
        labels: interners.pairs(&metadata.labels),
        state: *state,
        health: reported.health,
        stopping: reported.stopping,
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
                    .map_err(|_| format!("spec.addresses: {text} is not an IP address"))
            };
            Ok(Address::Ips(addresses.iter().map(ip).collect::<Result<_, _>>()?))
        }
    }
}

/// The uid of the pod that owns an object. When there are several, it is the one that controls the object, or else the
/// first.
fn owner_pod(owners: &[Owner]) -> Option<Arc<str>> {
    let pods = || owners.iter().filter(|owner| owner.api_version == "v1" && owner.kind == "Pod");
    let pod = pods().find(|owner| owner.controller).or_else(|| pods().next())?;
    (!pod.uid.is_empty()).then(|| pod.uid.as_str().into())
}

/// The health that an instance reports in annotations.
struct ReportedHealth {
    health: Health,
    stopping: bool,
    unknown_health: Option<Arc<str>>,
}

impl ReportedHealth {
    fn from_annotations(annotations: &BTreeMap<String, String>) -> Self {
        let is_marked = annotations.contains_key(STOPPING_ANNOTATION);
        let report =
            annotations.get(HEALTH_ANNOTATION).map(|word| HealthReport::of_annotation(word));
        let with = |health, stopping| Self { health, stopping, unknown_health: None };
        match report {
            None => with(Health::default(), is_marked),
            Some(Ok(report)) => {
                let health = report.health();
                with(health.unwrap_or_default(), is_marked || health.is_none())
            }
            Some(Err(UnknownHealth(word))) => {
                Self { unknown_health: Some(word), ..with(Health::Warning, is_marked) }
            }
        }
    }
}

fn convert_port(port: &rollcall_api::Port, interners: &mut Interners) -> Port {
    let rollcall_api::Port { name, port, protocol, app_protocol } = port;
    Port {
        name: interners.text(name),
        port: *port,
        protocol: protocol.unwrap_or_default(),
        app_protocol: app_protocol.as_deref().map(|protocol| interners.text(protocol)),
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

fn stored(status: &ServiceInstanceStatus, interners: &mut Interners) -> StoredStatus {
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
            .map(|condition| stored_condition(condition, interners))
            .collect(),
        observed_generation: observed_generation.unwrap_or(0),
        observed_heartbeat: observed_heartbeat.as_deref().map(Into::into),
        last_heartbeat: last_heartbeat_time.as_ref().map(|time| Wall(millis(time))),
        dns_name: dns_name.as_deref().map(Into::into),
        addresses: addresses.as_deref().map(Into::into),
        ports: ports.as_deref().map(|ports| interners.text(ports)),
        installation: installation
            .as_deref()
            .and_then(|it| Installation::parse(&interners.text(it))),
        health: *health,
    }
}

fn stored_condition(condition: &KubeCondition, interners: &mut Interners) -> Condition {
    let KubeCondition { type_, status, reason, message, last_transition_time, observed_generation } =
        condition;
    // Long messages contain times or names, so hardly any two are equal.
    let is_shared = message.len() <= 64;
    Condition {
        type_: interners.text(type_),
        status: interners.text(status),
        reason: interners.text(reason),
        message: if is_shared { interners.text(message) } else { message.as_str().into() },
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

    fn object(spec: &serde_json::Value) -> SlimInstance {
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
    fn unreadable_spec_is_an_error_that_names_the_value() {
        let error = Converter::default()
            .convert(&object(&json!({"service": "s", "lease": {"mode": "Sometimes"}})))
            .unwrap_err();
        assert_eq!(error.key, InstanceKey::new("shop", "a"));
        assert!(error.reason.contains("Sometimes"), "{error}");
    }

    #[test]
    fn unknown_health_counts_as_warning_and_is_kept() {
        let spec = json!({"service": "s", "addresses": ["::1"], "lease": {"mode": "Permanent"}});
        let instance = Converter::default().convert(&object(&spec)).unwrap();
        assert_eq!(instance.health, Health::Warning);
        assert_eq!(instance.unknown_health.as_deref(), Some("Fine"));
        assert!(!instance.stopping);
        assert_eq!((instance.resource_version, instance.weight), (7, 100));
        assert_eq!(instance.heartbeat.as_deref(), Some("x"));
    }

    #[test]
    fn instance_is_stopping_by_its_health_or_by_the_stopping_annotation() {
        for (annotations, health, stopping) in [
            (json!({}), Health::Passing, false),
            (json!({HEALTH_ANNOTATION: "stopping"}), Health::Passing, true),
            (json!({STOPPING_ANNOTATION: "now"}), Health::Passing, true),
            (json!({STOPPING_ANNOTATION: "", HEALTH_ANNOTATION: "DOWN"}), Health::Critical, true),
            (json!({HEALTH_ANNOTATION: "warning"}), Health::Warning, false),
        ] {
            let reported = ReportedHealth::from_annotations(
                &serde_json::from_value(annotations.clone()).unwrap(),
            );
            assert_eq!((reported.health, reported.stopping), (health, stopping), "{annotations}");
        }
    }

    #[test]
    fn controlling_pod_is_preferred_among_the_owners() {
        let owner = |owners: serde_json::Value| {
            owner_pod(&serde_json::from_value::<Vec<_>>(owners).unwrap())
        };
        let pod = |uid: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid});
        let mut controller = pod("c");
        controller["controller"] = json!(true);
        let other = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "p", "uid": "r"});
        let foreign = json!({"apiVersion": "x.dev/v1", "kind": "Pod", "name": "p", "uid": "x"});
        assert_eq!(owner(json!([])), None);
        assert_eq!(owner(json!([other, foreign])), None);
        assert_eq!(owner(json!([other, pod("a"), pod("b")])).as_deref(), Some("a"));
        assert_eq!(owner(json!([pod("a"), controller])).as_deref(), Some("c"));
        assert_eq!(owner(json!([pod("")])), None);
    }
}
