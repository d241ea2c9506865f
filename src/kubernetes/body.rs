//! The bodies of writes to the API server, field by field.
//!
//! Owns: their content. Pure. Does not own: sending (`writer`).

use std::{collections::BTreeMap, time::Duration};

use kube::core::TypeMeta;
use rollcall_api::{
    INSTALLATION_ANNOTATION, ServiceInstance,
    patch::{
        Edit, LeasePatch, MetadataPatch, ServiceInstancePatch, SpecPatch, StatusPatch,
        WrittenCondition,
    },
};
use rollcall_core::{conditions::DesiredCondition, fact::Version, status::DesiredStatus};
use rollcall_model::{
    installation::Installation,
    instance::{Address, HealthReport, Instance, InstanceKey, Port, Protocol, State},
    lease::{Lease, Wall},
    registration::Registration,
};

use crate::kubernetes::annotations::{
    applied_annotations, replaced_annotations, report_annotations, with_heartbeat,
};

/// The object that a write is meant for: the API server refuses the write for any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precondition<'a> {
    /// The object with this uid.
    pub uid: &'a str,
    /// In this version (resourceVersion), if one is given.
    pub version: Option<u64>,
}

/// A heartbeat that is written to the object.
#[derive(Clone, Debug, Default)]
pub struct StoredHeartbeat {
    /// The new value of the heartbeat annotation.
    pub value: String,
    /// The health reported with it.
    pub health: Option<HealthReport>,
    /// Whether the instance is known to be stopping.
    pub stopping: bool,
    /// A new length of the lease.
    pub duration: Option<Duration>,
    /// The version of the object that the write requires.
    pub version: Option<u64>,
}

/// A change to a part of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These attributes, each with its value; `None` removes it (RFC 7396).
    Attributes(BTreeMap<String, Option<String>>),
    /// The operator state.
    State(State),
}

/// A merge patch with a change, under a precondition.
pub(super) fn change(on: Precondition<'_>, change: &Change) -> ServiceInstancePatch {
    let spec = match change {
        Change::Attributes(attributes) => {
            SpecPatch { attributes: attributes.clone(), ..SpecPatch::default() }
        }
        Change::State(state) => SpecPatch { state: Edit::Set(*state), ..SpecPatch::default() },
    };
    let metadata = precondition_metadata(on.uid, on.version);
    ServiceInstancePatch { metadata, spec: Some(spec), ..ServiceInstancePatch::default() }
}

/// Metadata that limits a patch to the object with this uid and, if one is given, to this version.
fn precondition_metadata(uid: &str, version: Option<u64>) -> MetadataPatch {
    MetadataPatch {
        uid: Some(uid.to_owned()),
        resource_version: version.map(|version| version.to_string()),
        ..MetadataPatch::default()
    }
}

/// A merge patch that stores a heartbeat on the object with this uid.
pub(super) fn heartbeat(uid: &str, beat: &StoredHeartbeat) -> ServiceInstancePatch {
    let StoredHeartbeat { value, health, stopping, duration, version } = beat;
    let spec = duration.map(|duration| {
        let duration_seconds = Edit::Set(seconds(duration));
        let lease = Edit::Set(LeasePatch { duration_seconds, ..LeasePatch::default() });
        SpecPatch { lease, ..SpecPatch::default() }
    });
    let annotations = with_heartbeat(value, report_annotations(*health, *stopping, value));
    let metadata = MetadataPatch { annotations, ..precondition_metadata(uid, *version) };
    ServiceInstancePatch { metadata, spec, ..ServiceInstancePatch::default() }
}

/// A merge patch of the replica's own heartbeat annotation, and of the installation that the replica belongs to.
pub(super) fn self_beat(value: &str, installation: Option<&Installation>) -> ServiceInstancePatch {
    let mut annotations = with_heartbeat(value, []);
    annotations.extend(installation.map(|it| (INSTALLATION_ANNOTATION, Some(it.to_string()))));
    let metadata = MetadataPatch { annotations, ..MetadataPatch::default() };
    ServiceInstancePatch { metadata, ..ServiceInstancePatch::default() }
}

/// A merge patch of the whole status.
pub(super) fn status(on: &Version, desired: &DesiredStatus, now: Wall) -> ServiceInstancePatch {
    let DesiredStatus {
        phase,
        conditions,
        observed_generation,
        observed_heartbeat,
        last_heartbeat,
        dns_name,
        addresses,
        ports,
        installation,
        health,
    } = desired;
    let status = StatusPatch {
        phase: Edit::Set(*phase),
        conditions: Edit::Set(conditions.iter().map(|it| condition(it, now)).collect()),
        observed_generation: Edit::Set(*observed_generation),
        observed_heartbeat: Edit::set_or_remove(observed_heartbeat.as_deref().map(str::to_owned)),
        last_heartbeat_time: Edit::set_or_remove(last_heartbeat.map(|wall| wall.to_string())),
        dns_name: Edit::Set(dns_name.clone()),
        addresses: Edit::Set(addresses.clone()),
        ports: Edit::set_or_remove(ports.clone()),
        // A replica without the rights for the election does not know its installation.
        installation: installation.as_ref().map(ToString::to_string).into(),
        health: Edit::Set(*health),
    };
    decided_on(on, status)
}

fn condition(desired: &DesiredCondition, now: Wall) -> WrittenCondition {
    let DesiredCondition { type_, status, reason, message, transition, observed_generation } =
        desired;
    WrittenCondition {
        type_: type_.to_string(),
        status: status.to_string(),
        reason: reason.to_string(),
        message: message.to_string(),
        last_transition_time: transition.as_deref().map_or_else(|| now.to_string(), str::to_owned),
        observed_generation: *observed_generation,
    }
}

/// A merge patch of the checkpoint alone.
pub(super) fn checkpoint(on: &Version, beat: Wall) -> ServiceInstancePatch {
    let last_heartbeat_time = Edit::Set(beat.to_string());
    decided_on(on, StatusPatch { last_heartbeat_time, ..StatusPatch::default() })
}

/// A status patch with the version that it was decided on: the API server refuses it for any other version.
fn decided_on(on: &Version, status: StatusPatch) -> ServiceInstancePatch {
    let metadata = precondition_metadata(&on.uid, Some(on.resource_version));
    ServiceInstancePatch { metadata, status: Some(status), ..ServiceInstancePatch::default() }
}

/// The object that a registration applies: facts, lease and a heartbeat, never `state`. With a uid, the API server
/// neither changes an object with another uid nor creates one.
pub(super) fn registration(
    key: &InstanceKey,
    uid: Option<&str>,
    version: Option<u64>,
    registration: &Registration,
    terms: Lease,
    beat: &str,
) -> ServiceInstancePatch {
    let metadata = MetadataPatch {
        name: Some(key.name.to_string()),
        namespace: Some(key.namespace.to_string()),
        uid: uid.map(str::to_owned),
        resource_version: version.map(|version| version.to_string()),
        labels: set(&registration.labels),
        annotations: with_heartbeat(beat, applied_annotations(registration, beat)),
    };
    ServiceInstancePatch {
        types: Some(TypeMeta::resource::<ServiceInstance>()),
        metadata,
        spec: Some(spec(registration, terms)),
        status: None,
    }
}

/// The body of an apply, which the API server parses as YAML. JSON allows some characters unescaped that YAML treats as
/// a line break or rejects (YAML 1.2 §5.1, §5.4); these are escaped here. They occur in strings only.
pub(super) fn escape_for_yaml(json: Vec<u8>) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(&json) else { return json };
    if !text.contains(needs_yaml_escape) {
        return json;
    }
    let mut out = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        if needs_yaml_escape(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out.into_bytes()
}

fn needs_yaml_escape(c: char) -> bool {
    matches!(
        c,
        '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
    )
}

/// A merge patch with the same result, which also removes what `record` has and the registration does not.
pub(super) fn replacement(
    record: &Instance,
    on_version: Option<u64>,
    registration: &Registration,
    terms: Lease,
    beat: &str,
) -> ServiceInstancePatch {
    let SpecPatch {
        service,
        addresses,
        hostname,
        ports,
        version,
        tags,
        zone,
        weight,
        priority,
        mut attributes,
        state: _,
        lease,
    } = spec(registration, terms);
    for (key, _) in record.attributes.iter() {
        attributes.entry(key.to_string()).or_insert(None);
    }
    let spec = SpecPatch {
        service,
        addresses: addresses.or_remove(),
        hostname: hostname.or_remove(),
        ports: ports.or_remove(),
        version: version.or_remove(),
        tags: tags.or_remove(),
        zone: zone.or_remove(),
        weight,
        priority,
        attributes,
        // The operator drained the previous pod, not this one.
        state: Some(State::Up)
            .filter(|_| registration.takes_over(record) && record.state == State::Draining)
            .into(),
        lease,
    };
    let left_over: Vec<_> =
        registration.stale_labels(record).map(|key| (key.to_string(), None)).collect();
    // Another manager may have taken over one of these labels since that version.
    let record_version = Some(record.resource_version).filter(|_| !left_over.is_empty());
    let version = on_version.or(record_version);
    let metadata = MetadataPatch {
        labels: set(&registration.labels).into_iter().chain(left_over).collect(),
        annotations: with_heartbeat(beat, replaced_annotations(record, registration, beat)),
        ..precondition_metadata(&record.uid, version)
    };
    ServiceInstancePatch { metadata, spec: Some(spec), ..ServiceInstancePatch::default() }
}

/// The spec of a registration: every field except the operator's `state`.
///
/// Empty maps and sets are left out: where an earlier registration had entries, server-side apply turns the empty map or
/// set into null, which the schema refuses.
fn spec(registration: &Registration, terms: Lease) -> SpecPatch {
    // Labels, health and pod belong in the metadata, and `terms` may be the lease that is stored.
    let Registration {
        service,
        address,
        ports,
        version,
        tags,
        zone,
        weight,
        priority,
        attributes,
        labels: _,
        health: _,
        pod: _,
        lease: _,
    } = registration;
    let (addresses, hostname) = match address {
        Address::Ips(ips) => (Edit::Set(ips.iter().map(ToString::to_string).collect()), Edit::Keep),
        Address::Hostname(hostname) => (Edit::Keep, Edit::Set(hostname.to_string())),
    };
    SpecPatch {
        service: Edit::Set(service.clone()),
        addresses,
        hostname,
        ports: Some(ports.iter().map(port).collect())
            .filter(|ports: &Vec<_>| !ports.is_empty())
            .into(),
        version: version.clone().into(),
        tags: Some(tags.clone()).filter(|tags| !tags.is_empty()).into(),
        zone: zone.clone().into(),
        weight: Edit::Set(*weight),
        priority: Edit::Set(*priority),
        attributes: set(attributes),
        state: Edit::Keep,
        lease: Edit::Set(lease(terms)),
    }
}

fn lease(terms: Lease) -> LeasePatch {
    let Lease { mode, duration, on_expiry, evict_after } = terms;
    LeasePatch {
        mode: Edit::Set(mode),
        duration_seconds: Edit::Set(seconds(duration)),
        on_expiry: Edit::Set(on_expiry),
        evict_after_seconds: Edit::Set(seconds(evict_after)),
    }
}

/// A lease and an eviction delay are at most a day, so the value always fits.
fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX)
}

fn port(port: &Port) -> rollcall_api::Port {
    let Port { name, port, protocol, app_protocol } = port;
    rollcall_api::Port {
        name: name.to_string(),
        port: *port,
        // Left out when it is the default, so that a manifest without a protocol equals the stored object.
        protocol: (*protocol != Protocol::default()).then_some(*protocol),
        app_protocol: app_protocol.as_deref().map(str::to_owned),
    }
}

/// A patch that sets each of these keys.
fn set(pairs: &BTreeMap<String, String>) -> BTreeMap<String, Option<String>> {
    pairs.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use rollcall_model::instance::Health;

    use super::*;

    fn minimal() -> Registration {
        Registration {
            service: "web".to_owned(),
            address: Address::Ips(Arc::new(["10.0.0.7".parse().unwrap()])),
            ports: Vec::new(),
            version: None,
            tags: Vec::new(),
            zone: None,
            weight: 7,
            priority: 0,
            attributes: BTreeMap::new(),
            labels: BTreeMap::new(),
            health: None,
            pod: None,
            lease: None,
        }
    }

    fn terms() -> Value {
        json!({"mode": "Heartbeat", "durationSeconds": 30, "onExpiry": "Evict", "evictAfterSeconds": 60})
    }

    fn to_json(body: ServiceInstancePatch) -> Value {
        serde_json::to_value(body).unwrap()
    }

    #[test]
    fn apply_has_no_state_and_leaves_out_empty_fields() {
        assert_eq!(
            to_json(registration(
                &InstanceKey::new("shop", "a"),
                Some("u1"),
                Some(7),
                &minimal(),
                Lease::default(),
                "now"
            )),
            json!({
                "apiVersion": "rollcall.dev/v1alpha1",
                "kind": "ServiceInstance",
                "metadata": {
                    "name": "a", "namespace": "shop", "uid": "u1", "resourceVersion": "7",
                    "annotations": {"rollcall.dev/heartbeat": "now"},
                },
                "spec": {
                    "service": "web", "addresses": ["10.0.0.7"], "weight": 7, "priority": 0,
                    "lease": terms(),
                },
            })
        );
    }

    #[test]
    fn replacement_removes_fields_by_name() {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
        };
        let mut record = Instance::sample("shop", "a").with(|facts| {
            facts.address = Address::Hostname("db.example".into());
            facts.attributes = pairs(&[("left", "1"), ("new", "1")]);
            facts.labels = pairs(&[("foreign", "1"), ("left", "1"), ("new", "1")]);
        });
        record.registered_labels = Arc::new(["left".into(), "new".into()]);
        let changed = BTreeMap::from([("new".to_owned(), "2".to_owned())]);
        let registration = Registration {
            attributes: changed.clone(),
            labels: changed,
            health: Some(HealthReport::Warning),
            ..minimal()
        };
        assert_eq!(
            to_json(replacement(&record, None, &registration, Lease::default(), "now")),
            json!({
                "metadata": {
                    "uid": "u", "resourceVersion": "1",
                    "labels": {"left": null, "new": "2"},
                    "annotations": {
                        "rollcall.dev/heartbeat": "now", "rollcall.dev/health": "Warning",
                        "rollcall.dev/pod-uid": null,
                    },
                },
                "spec": {
                    "service": "web", "addresses": ["10.0.0.7"], "hostname": null, "ports": null,
                    "version": null, "tags": null, "zone": null, "weight": 7, "priority": 0,
                    "attributes": {"left": null, "new": "2"}, "lease": terms(),
                },
            })
        );
    }

    #[test]
    fn heartbeat_patch_contains_only_what_it_changes() {
        let beat_of = |duration, version| {
            let stored = StoredHeartbeat {
                value: "now".into(),
                duration,
                version,
                ..StoredHeartbeat::default()
            };
            to_json(heartbeat("u", &stored))
        };
        let annotations = json!({"rollcall.dev/heartbeat": "now"});
        let metadata = json!({"uid": "u", "annotations": annotations});
        assert_eq!(beat_of(None, None), json!({"metadata": metadata}));
        let metadata = json!({"uid": "u", "resourceVersion": "7", "annotations": annotations});
        assert_eq!(
            beat_of(Some(Duration::from_secs(5)), Some(7)),
            json!({"metadata": metadata, "spec": {"lease": {"durationSeconds": 5}}})
        );
        let metadata = json!({"annotations": annotations});
        assert_eq!(to_json(self_beat("now", None)), json!({"metadata": metadata}));
        let installation = Installation::new(Wall(0), "6f").unwrap();
        let patch = to_json(self_beat("now", Some(&installation)));
        let mark = &patch["metadata"]["annotations"]["rollcall.dev/installation"];
        assert_eq!(*mark, "1970-01-01T00:00:00.000Z 6f");
    }

    #[test]
    fn health_report_keeps_stopping_and_passing_ends_it() {
        let annotations = |health, stopping| {
            let beat = StoredHeartbeat {
                value: "now".into(),
                health: Some(health),
                stopping,
                ..StoredHeartbeat::default()
            };
            let mut body = to_json(super::heartbeat("u", &beat));
            let annotations = body["metadata"]["annotations"].as_object_mut().unwrap();
            annotations.remove("rollcall.dev/heartbeat");
            json!(annotations)
        };
        let (health, stopping) = ("rollcall.dev/health", "rollcall.dev/stopping");
        assert_eq!(annotations(HealthReport::Stopping, false), json!({stopping: "now"}));
        assert_eq!(annotations(HealthReport::Critical, false), json!({health: "Critical"}));
        let behind = json!({health: "Critical", stopping: "now"});
        assert_eq!(annotations(HealthReport::Critical, true), behind);
        for is_known in [true, false] {
            let ended = json!({health: "Passing", stopping: null});
            assert_eq!(annotations(HealthReport::Passing, is_known), ended);
        }
    }

    #[test]
    fn takeover_by_another_pod_ends_stopping_and_draining() {
        let mut record = Instance::sample("shop", "a").with(|facts| {
            (facts.stopping, facts.state, facts.health) = (true, State::Draining, Health::Critical);
        });
        record.registered_by = Some("u1".into());
        let changed = |pod: &str| {
            let registration = Registration { pod: Some(pod.into()), ..minimal() };
            to_json(replacement(&record, Some(9), &registration, Lease::default(), "now"))
        };
        let same = changed("u1");
        assert_eq!(same["metadata"]["resourceVersion"], "9");
        assert_eq!(
            same["metadata"]["annotations"],
            json!({"rollcall.dev/heartbeat": "now", "rollcall.dev/pod-uid": "u1"})
        );
        assert_eq!(same["spec"].get("state"), None);
        let other = changed("u2");
        assert_eq!(
            other["metadata"]["annotations"],
            json!({
                "rollcall.dev/heartbeat": "now", "rollcall.dev/pod-uid": "u2",
                "rollcall.dev/health": "Critical", "rollcall.dev/stopping": null,
            })
        );
        assert_eq!(other["spec"]["state"], "Up");
    }

    #[test]
    fn change_patches_one_field() {
        let attributes = [("a".to_owned(), None), ("b".to_owned(), Some("c".to_owned()))];
        assert_eq!(
            to_json(change(
                Precondition { uid: "u", version: None },
                &Change::Attributes(attributes.into())
            )),
            json!({"metadata": {"uid": "u"}, "spec": {"attributes": {"a": null, "b": "c"}}})
        );
        assert_eq!(
            to_json(change(
                Precondition { uid: "u", version: Some(7) },
                &Change::State(State::OutOfService)
            )),
            json!({"metadata": {"uid": "u", "resourceVersion": "7"}, "spec": {"state": "OutOfService"}})
        );
    }

    #[test]
    fn status_removes_stale_fields_and_checkpoint_contains_only_the_heartbeat() {
        let on =
            Version { key: InstanceKey::new("shop", "a"), uid: "u".into(), resource_version: 7 };
        let desired = DesiredStatus {
            phase: rollcall_model::instance::Phase::Critical,
            conditions: vec![DesiredCondition {
                type_: "Ready".into(),
                status: "False".into(),
                reason: "ReportedCritical".into(),
                message: "why".into(),
                transition: None,
                observed_generation: Some(3),
            }],
            observed_generation: 3,
            observed_heartbeat: None,
            last_heartbeat: None,
            dns_name: "a.web".to_owned(),
            addresses: "10.0.0.7".to_owned(),
            ports: None,
            installation: None,
            health: Health::Critical,
        };
        let metadata = json!({"uid": "u", "resourceVersion": "7"});
        assert_eq!(
            to_json(status(&on, &desired, Wall(5))),
            json!({
                "metadata": metadata,
                "status": {
                    "phase": "Critical", "observedGeneration": 3, "observedHeartbeat": null,
                    "lastHeartbeatTime": null, "dnsName": "a.web", "addresses": "10.0.0.7", "ports": null,
                    "health": "Critical",
                    "conditions": [{
                        "type": "Ready", "status": "False", "reason": "ReportedCritical", "message": "why",
                        "lastTransitionTime": "1970-01-01T00:00:00.005Z", "observedGeneration": 3,
                    }],
                },
            })
        );
        assert_eq!(
            to_json(checkpoint(&on, Wall(5))),
            json!({"metadata": metadata, "status": {"lastHeartbeatTime": "1970-01-01T00:00:00.005Z"}})
        );
    }

    #[test]
    fn characters_that_yaml_cannot_read_are_escaped() {
        for (given, written) in [
            ("plain \u{e9} \u{1f600}", "\"plain \u{e9} \u{1f600}\""),
            ("\u{87}\u{7f}", "\"\\u0087\\u007f\""),
            ("a\u{85}b\u{2028}c", "\"a\\u0085b\\u2028c\""),
            ("\u{ffff}\n", "\"\\uffff\\n\""),
        ] {
            let bytes = escape_for_yaml(serde_json::to_vec(given).unwrap());
            assert_eq!(std::str::from_utf8(&bytes).unwrap(), written);
            assert_eq!(serde_json::from_slice::<String>(&bytes).unwrap(), given);
        }
    }
}
