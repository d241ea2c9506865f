//! The bodies of writes: what is sent to the API server, field by field.
//!
//! Owns: their shape. Pure. Does not own: sending (`writer`).

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};

use crate::api::{API_VERSION, HEALTH_ANNOTATION, HEARTBEAT_ANNOTATION, READY_CONDITION};
use crate::registry::{
    fact::Version,
    instance::{Address, Health, Instance, InstanceKey, Port, State},
    lease::{Lease, Wall},
    registration::Registration,
    status::{Desired, is_ready},
};

/// Which stored object a write is meant for: the API server refuses it for any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precondition<'a> {
    /// The incarnation.
    pub uid: &'a str,
    /// Its version (resourceVersion); any, if none is given.
    pub version: Option<u64>,
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
    /// Only on this version of the object.
    pub version: Option<u64>,
}

/// A change to a part of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These attributes, each with its value, or none to take it away (RFC 7396).
    Attributes(BTreeMap<String, Option<String>>),
    /// The operator's word.
    State(State),
}

/// A merge patch of a change, if the precondition holds.
pub(super) fn change(on: Precondition<'_>, change: &Change) -> Value {
    let spec = match change {
        Change::Attributes(attributes) => json!({"attributes": attributes}),
        Change::State(state) => json!({"state": state.as_str()}),
    };
    let mut metadata = json!({"uid": on.uid});
    only_on(&mut metadata, on.version);
    json!({"metadata": metadata, "spec": spec})
}

/// Only on this version, if one is given.
fn only_on(metadata: &mut Value, version: Option<u64>) {
    if let (Some(version), Some(metadata)) = (version, metadata.as_object_mut()) {
        metadata.insert("resourceVersion".to_owned(), version.to_string().into());
    }
}

/// A merge patch that stores a beat on this incarnation and no other.
pub(super) fn beat(uid: &str, beat: &StoredBeat) -> Value {
    let annotations = annotations(&beat.value, beat.health);
    let mut body = Map::new();
    let mut metadata = json!({"uid": uid, "annotations": annotations});
    only_on(&mut metadata, beat.version);
    body.insert("metadata".to_owned(), metadata);
    if let Some(duration) = beat.duration {
        let lease = json!({"lease": {"durationSeconds": duration.as_secs()}});
        body.insert("spec".to_owned(), lease);
    }
    body.into()
}

/// A merge patch of the replica's own heartbeat annotation.
pub(super) fn self_beat(value: &str) -> Value {
    json!({"metadata": {"annotations": annotations(value, None)}})
}

/// A merge patch of the whole status.
pub(super) fn status(on: &Version, desired: &Desired, now: Wall) -> Value {
    let transition = desired.transition.as_deref().map_or_else(|| now.to_string(), str::to_owned);
    let status = json!({
        "phase": desired.phase.as_str(),
        "observedGeneration": desired.observed_generation,
        "observedHeartbeat": desired.observed_heartbeat,
        "lastHeartbeatTime": desired.last_heartbeat.map(|wall| wall.to_string()),
        "dnsName": desired.dns_name,
        "addresses": desired.addresses,
        "ports": desired.ports,
        "conditions": [{
            "type": READY_CONDITION,
            "status": if is_ready(desired.phase) { "True" } else { "False" },
            "reason": desired.reason,
            "message": desired.message,
            "lastTransitionTime": transition,
            "observedGeneration": desired.observed_generation,
        }],
    });
    decided_on(on, &status)
}

/// A merge patch of the checkpoint alone.
pub(super) fn checkpoint(on: &Version, beat: Wall) -> Value {
    decided_on(on, &json!({"lastHeartbeatTime": beat.to_string()}))
}

/// A status patch with the version it was decided on: the API server refuses it for any other.
fn decided_on(on: &Version, status: &Value) -> Value {
    let mut metadata = json!({"uid": &*on.uid});
    only_on(&mut metadata, Some(on.resource_version));
    json!({"metadata": metadata, "status": status})
}

/// The object that a registration applies: facts, lease and a beat, never `state`.
///
/// What is empty is left out: server-side apply makes null of an empty map or set of which a former
/// registration had entries, and null is no object.
pub(super) fn registration(
    key: &InstanceKey,
    version: Option<u64>,
    registration: &Registration,
    terms: Lease,
    beat: &str,
) -> Value {
    let mut metadata = Map::new();
    let mut say = |field: &str, value: Value| metadata.insert(field.to_owned(), value);
    say("name", json!(&*key.name));
    say("namespace", json!(&*key.namespace));
    say("annotations", annotations(beat, registration.health).into());
    if !registration.labels.is_empty() {
        say("labels", json!(registration.labels));
    }
    let mut metadata = Value::from(metadata);
    only_on(&mut metadata, version);
    json!({
        "apiVersion": API_VERSION,
        "kind": "ServiceInstance",
        "metadata": metadata,
        "spec": spec(registration, terms),
    })
}

/// The bytes of an apply, which the API server reads as YAML: what JSON may have as it is, and YAML reads as a line
/// break or not at all (YAML 1.2 §5.1, §5.4), is escaped. It stands in strings only.
pub(super) fn readable_as_yaml(json: Vec<u8>) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(&json) else { return json };
    if !text.contains(is_no_yaml) {
        return json;
    }
    let mut out = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        if is_no_yaml(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out.into_bytes()
}

fn is_no_yaml(c: char) -> bool {
    matches!(
        c,
        '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
    )
}

/// A merge patch to the same end, which also takes away what `record` has beyond it.
pub(super) fn replacement(
    record: &Instance,
    registration: &Registration,
    terms: Lease,
    beat: &str,
) -> Value {
    let mut spec = spec(registration, terms);
    for field in ["addresses", "hostname", "version", "zone", "tags"] {
        spec.entry(field).or_insert(Value::Null);
    }
    let gone =
        record.attributes.iter().filter(|(key, _)| !registration.attributes.contains_key(&**key));
    let gone = gone.map(|(key, _)| (key.to_string(), Value::Null));
    let kept = registration.attributes.iter().map(|(key, value)| (key.clone(), json!(value)));
    spec.insert("attributes".to_owned(), Value::Object(kept.chain(gone).collect()));
    json!({
        "metadata": {
            "uid": &*record.uid,
            "labels": registration.labels,
            "annotations": annotations(beat, registration.health),
        },
        "spec": spec,
    })
}

fn spec(registration: &Registration, terms: Lease) -> Map<String, Value> {
    let mut spec = Map::new();
    let mut say = |field: &str, value: Value| spec.insert(field.to_owned(), value);
    say("service", json!(registration.service));
    match &registration.address {
        Address::Ips(ips) => say("addresses", json!(ips)),
        Address::Hostname(hostname) => say("hostname", json!(&**hostname)),
    };
    say("ports", registration.ports.iter().map(port).collect());
    if let Some(version) = &registration.version {
        say("version", json!(version));
    }
    if !registration.tags.is_empty() {
        say("tags", json!(registration.tags));
    }
    if let Some(zone) = &registration.zone {
        say("zone", json!(zone));
    }
    say("weight", json!(registration.weight));
    say("priority", json!(registration.priority));
    if !registration.attributes.is_empty() {
        say("attributes", json!(registration.attributes));
    }
    say("lease", lease(terms));
    spec
}

fn lease(terms: Lease) -> Value {
    json!({
        "mode": terms.mode,
        "durationSeconds": terms.duration.as_secs(),
        "onExpiry": terms.on_expiry,
        "evictAfterSeconds": terms.evict_after.as_secs(),
    })
}

fn port(port: &Port) -> Value {
    let mut value = Map::new();
    value.insert("name".to_owned(), json!(&*port.name));
    value.insert("port".to_owned(), json!(port.port));
    value.insert("protocol".to_owned(), json!(port.protocol.as_str()));
    if let Some(protocol) = &port.app_protocol {
        value.insert("appProtocol".to_owned(), json!(&**protocol));
    }
    value.into()
}

fn annotations(beat: &str, health: Option<Health>) -> Map<String, Value> {
    let mut annotations = Map::new();
    annotations.insert(HEARTBEAT_ANNOTATION.to_owned(), json!(beat));
    if let Some(health) = health {
        annotations.insert(HEALTH_ANNOTATION.to_owned(), json!(health.as_str()));
    }
    annotations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_yaml_would_not_read_is_escaped_and_the_rest_stays() {
        for (given, written) in [
            ("plain \u{e9} \u{1f600}", "\"plain \u{e9} \u{1f600}\""),
            ("\u{87}\u{7f}", "\"\\u0087\\u007f\""),
            ("a\u{85}b\u{2028}c", "\"a\\u0085b\\u2028c\""),
            ("\u{ffff}\n", "\"\\uffff\\n\""),
        ] {
            let bytes = readable_as_yaml(serde_json::to_vec(given).unwrap());
            assert_eq!(std::str::from_utf8(&bytes).unwrap(), written);
            assert_eq!(serde_json::from_slice::<String>(&bytes).unwrap(), given);
        }
    }
}
