//! `ServiceInstance`: one running endpoint of a service, as Kubernetes stores it.
//!
//! Owns the fields, their defaults and their bounds; the doc comments below are what
//! `kubectl explain` shows. The rest of the house sees slimmer records: these types stop at
//! `cluster`.

#![expect(unreachable_pub, reason = "the schema derive repeats each public struct in a function")]
#![expect(clippy::duplicated_attributes, reason = "the lint reads each column as a repetition")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use rollcall_model::{
    defaults,
    vocabulary::{LeaseMode, OnExpiry, Phase, Protocol, State},
};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::rules;

/// The longest `status.observedHeartbeat`, in characters.
pub const OBSERVED_HEARTBEAT_MAX: usize = 128;

/// What to call, where it is, and how long to believe in it.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "rollcall.dev",
    version = "v1alpha1",
    kind = "ServiceInstance",
    plural = "serviceinstances",
    shortname = "si",
    namespaced,
    status = "ServiceInstanceStatus",
    derive = "PartialEq",
    selectable = ".spec.service",
    doc = "One running endpoint of a service. It answers under its service's name in DNS and HTTP while its lease lasts.",
    printcolumn(name = "Service", type_ = "string", json_path = ".spec.service"),
    printcolumn(
        name = "Addresses",
        type_ = "string",
        json_path = ".status.addresses",
        description = "The first addresses, or the hostname."
    ),
    printcolumn(
        name = "Ports",
        type_ = "string",
        json_path = ".status.ports",
        description = "The first ports."
    ),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "State", type_ = "string", json_path = ".spec.state", priority = 1),
    printcolumn(
        name = "Beat Noted",
        type_ = "date",
        json_path = ".status.lastHeartbeatTime",
        description = "When a beat was last noted here. Exact once it is Expired; until then there may have been many since.",
        priority = 1
    ),
    printcolumn(name = "DNS Name", type_ = "string", json_path = ".status.dnsName", priority = 1)
)]
#[x_kube(validation = rules::one_location())]
#[serde(rename_all = "camelCase")]
pub struct ServiceInstanceSpec {
    /// The service this instance belongs to: a DNS label. All instances of one namespace with the
    /// same service are that service. Immutable.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::label("service"), validation = rules::service_immutable())]
    pub service: String,

    /// IPv4 and/or IPv6 addresses, at most 16, each once. Either these or hostname.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 2, max = 45)))]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = rules::addresses_are_ips(),
        validation = rules::addresses_unique()
    )]
    pub addresses: Vec<String>,

    /// A DNS name that clients resolve themselves, for what lives elsewhere. Either this or
    /// addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 253))]
    #[x_kube(validation = rules::hostname(), validation = rules::hostname_is_no_ip())]
    pub hostname: Option<String>,

    /// The ports it listens on, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]), validation = rules::port_names_unique())]
    pub ports: Vec<Port>,

    /// The version it runs, for clients that ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 63))]
    #[x_kube(validation = rules::word("version"))]
    pub version: Option<String>,

    /// Words that clients select by, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set, validation = rules::words("tags"))]
    pub tags: Vec<String>,

    /// Where it runs, for clients that prefer what is near.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 63))]
    #[x_kube(validation = rules::word("zone"))]
    pub zone: Option<String>,

    /// Its share of the calls among instances of the same priority (RFC 2782). 0 is a last resort.
    #[serde(default = "default_weight")]
    #[schemars(with = "i32", range(min = 0, max = 65535))]
    pub weight: u16,

    /// Lower is called first (RFC 2782).
    #[serde(default = "default_priority")]
    #[schemars(with = "i32", range(min = 0, max = 65535))]
    pub priority: u16,

    /// Free strings for clients ("metadata" in other registries): at most 64, keys of at most 63
    /// characters, values of at most 1,024.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rules::attributes_schema")]
    #[x_kube(validation = rules::attribute_keys())]
    pub attributes: BTreeMap<String, String>,

    /// The operator's word: Up, Draining (finishes what it has) or OutOfService. A registration
    /// over HTTP never overwrites it.
    #[serde(default)]
    pub state: State,

    /// Which life it has: say so.
    pub lease: Lease,
}

/// A port an instance listens on.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Its name, a DNS label of at most 62 characters, because DNS asks for `_name`; unique among
    /// the ports of the instance.
    #[schemars(length(min = 1, max = 62))]
    #[x_kube(validation = rules::label("a port's name"))]
    pub name: String,

    /// Its number.
    #[schemars(with = "i32", range(min = 1, max = 65535))]
    pub port: u16,

    /// Its transport: TCP, UDP or SCTP. Left out, it is TCP.
    // No default in the schema: `kubectl apply` compares a list as a whole with the manifest, which has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Protocol")]
    pub protocol: Option<Protocol>,

    /// What is spoken on it: an IANA service name, or one with a prefix such as
    /// kubernetes.io/h2c.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 253))]
    #[x_kube(validation = rules::word("appProtocol"))]
    pub app_protocol: Option<String>,
}

/// How long an instance is believed alive after its last beat, and what happens then.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// Heartbeat: alive as long as it beats. Permanent: alive as long as this object exists.
    pub mode: LeaseMode,

    /// How many seconds a beat is good for (Heartbeat only).
    #[serde(default = "default_duration")]
    #[schemars(with = "i32", range(min = 2, max = 86400))]
    pub duration_seconds: u32,

    /// Retain keeps the object, as Expired, after its lease has ended; Evict deletes it
    /// evictAfterSeconds later. A beat before that revives either.
    #[serde(default = "default_on_expiry")]
    pub on_expiry: OnExpiry,

    /// How many seconds an expired object stays to be seen, or to come back by a beat (Evict
    /// only).
    #[serde(default = "default_evict_after")]
    #[schemars(with = "i32", range(min = 0, max = 86400))]
    pub evict_after_seconds: u32,
}

/// What rollcall has found. Written by rollcall; phase and conditions only when their meaning
/// changes.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceInstanceStatus {
    /// The first that applies: Terminating, Expired, OutOfService, Draining, Stopping, Critical, Warning, Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Phase")]
    pub phase: Option<Phase>,

    /// Ready: whether it is discovered by default, with the reason. UnknownHealth is there while the health annotation
    /// holds a word outside the vocabulary, AddressShared while another live instance offers the same address and port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rules::conditions_schema")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The metadata.generation that the phase was decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0))]
    pub observed_generation: Option<i64>,

    /// The heartbeat annotation when the phase was decided; a beat that differs from it is news.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = OBSERVED_HEARTBEAT_MAX))]
    pub observed_heartbeat: Option<String>,

    /// When a beat was last heard: a checkpoint for people, refreshed sparingly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::time_schema")]
    pub last_heartbeat_time: Option<Time>,

    /// The name under which DNS answers for this instance alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 253))]
    pub dns_name: Option<String>,

    /// Where it is, for a column: the first addresses and how many more there are, or the hostname.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 253))]
    pub addresses: Option<String>,

    /// Its ports, for a column: the first ones and how many more there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 63))]
    pub ports: Option<String>,

    /// The installation of rollcall that wrote this: the creation time and the uid of its Lease, with a space between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 63))]
    pub installation: Option<String>,
}

impl Lease {
    /// The lease of an object that lives until somebody deletes it.
    #[must_use]
    pub fn permanent() -> Self {
        Self::of(LeaseMode::Permanent)
    }

    /// A lease renewed by beats, everything else as a manifest would get it by default.
    #[must_use]
    pub fn heartbeat() -> Self {
        Self::of(LeaseMode::Heartbeat)
    }

    fn of(mode: LeaseMode) -> Self {
        Self {
            mode,
            duration_seconds: default_duration(),
            on_expiry: default_on_expiry(),
            evict_after_seconds: default_evict_after(),
        }
    }
}

/// What `status.observedHeartbeat` holds for a value of the heartbeat annotation: the value itself
/// up to [`OBSERVED_HEARTBEAT_MAX`] characters; beyond, its beginning and a hash of the whole,
/// because an annotation may be longer than a status should be and must still be told from the
/// next. Compare annotations with a stored status through this only.
#[must_use]
pub fn observed_heartbeat(annotation: &str) -> String {
    const HASH_DIGITS: usize = 16;
    if annotation.chars().nth(OBSERVED_HEARTBEAT_MAX).is_none() {
        return annotation.to_owned();
    }
    let head: String = annotation.chars().take(OBSERVED_HEARTBEAT_MAX - HASH_DIGITS - 1).collect();
    format!("{head}~{:016x}", xxh3_64(annotation.as_bytes()))
}

fn default_weight() -> u16 {
    defaults::WEIGHT
}

fn default_priority() -> u16 {
    defaults::PRIORITY
}

fn default_duration() -> u32 {
    defaults::DURATION_SECONDS
}

fn default_on_expiry() -> OnExpiry {
    defaults::ON_EXPIRY_OF_MANIFEST
}

fn default_evict_after() -> u32 {
    defaults::EVICT_AFTER_SECONDS
}
