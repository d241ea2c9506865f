//! `ServiceInstance`: one running endpoint of a service, as Kubernetes stores it.
//!
//! Owns: the fields, their defaults and their bounds. `kubectl explain` shows the doc comments below. Does
//! not own: the compact records that the rest of the server uses (`rollcall-model`); only `kubernetes` in the
//! server uses the types of this module.

#![expect(unreachable_pub, reason = "the schema derive repeats each public struct in a function")]
#![expect(clippy::duplicated_attributes, reason = "the lint reads each column as a repetition")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use rollcall_model::{
    defaults,
    vocabulary::{Health, LeaseMode, OnExpiry, Phase, Protocol, State},
};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::rules;

/// The longest `status.observedHeartbeat`, in characters.
pub const OBSERVED_HEARTBEAT_MAX: usize = 128;

/// The service of the instance, where it is reached, and how long its heartbeats keep it live.
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
    selectable = ".status.phase",
    doc = "One running endpoint of a service. It is discoverable under its service's name in DNS and HTTP while its lease lasts. Annotations: every change of rollcall.dev/heartbeat is a heartbeat. rollcall.dev/health is what the instance reports: Passing, Warning, Critical or Stopping. rollcall.dev/dialect names the registry whose client registered the instance (eureka, consul or nacos); rollcall only stores it for clients. rollcall.dev/stopping, rollcall.dev/pod-uid and rollcall.dev/installation are written by rollcall.",
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
        description = "The first ports, as name:number/protocol."
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
    printcolumn(name = "Health", type_ = "string", json_path = ".status.health", priority = 1),
    printcolumn(name = "Weight", type_ = "integer", json_path = ".spec.weight", priority = 1),
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority", priority = 1),
    printcolumn(
        name = "Heartbeat Stored",
        type_ = "date",
        json_path = ".status.lastHeartbeatTime",
        description = "The last heartbeat that was written to the status. Exact once the instance is Expired; until then there may have been later ones.",
        priority = 1
    ),
    printcolumn(name = "DNS Name", type_ = "string", json_path = ".status.dnsName", priority = 1)
)]
#[x_kube(validation = rules::one_location())]
#[serde(rename_all = "camelCase")]
pub struct ServiceInstanceSpec {
    /// The service that the instance belongs to: a DNS label of 1 to 63 characters. All instances in a
    /// namespace with the same value form one service. Immutable.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::label("service"), validation = rules::service_immutable())]
    pub service: String,

    /// The IPv4 and IPv6 addresses of the instance: 1 to 16 different ones, each of 2 to 45 characters. Set
    /// either addresses or hostname.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 2, max = 45)))]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = rules::addresses_are_ips(),
        validation = rules::addresses_unique()
    )]
    pub addresses: Vec<String>,

    /// The DNS name of an instance outside the cluster, of 1 to 253 characters. Clients resolve it
    /// themselves. Set either hostname or addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 253))]
    #[x_kube(validation = rules::hostname(), validation = rules::hostname_is_not_ip())]
    pub hostname: Option<String>,

    /// The ports that the instance listens on: at most 32, each with a different name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]), validation = rules::port_names_unique())]
    pub ports: Vec<Port>,

    /// The version that the instance runs, of 1 to 63 characters. Clients can select instances by version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 63))]
    #[x_kube(validation = rules::word("version"))]
    pub version: Option<String>,

    /// Tags that clients can select instances by: at most 32 different ones, each of 1 to 63 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set, validation = rules::words("tags"))]
    pub tags: Vec<String>,

    /// The zone that the instance runs in, of 1 to 63 characters. Clients can prefer instances in their own
    /// zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 63))]
    #[x_kube(validation = rules::word("zone"))]
    pub zone: Option<String>,

    /// The share of the traffic that the instance gets among instances of the same priority (RFC 2782), from
    /// 0 to 65535. An instance with weight 0 is a last resort. Default: 100.
    #[serde(default = "default_weight")]
    #[schemars(with = "i32", range(min = 0, max = 65535))]
    pub weight: u16,

    /// The order in which instances are called (RFC 2782), from 0 to 65535: instances with the lowest number
    /// come first. Default: 0.
    #[serde(default = "default_priority")]
    #[schemars(with = "i32", range(min = 0, max = 65535))]
    pub priority: u16,

    /// Free-form strings for clients (metadata in other registries): at most 64, with keys of 1 to 63
    /// characters and values of at most 1024 characters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rules::attributes_schema")]
    #[x_kube(validation = rules::attribute_keys())]
    pub attributes: BTreeMap<String, String>,

    /// The state that an operator sets: Up, Draining (the instance finishes its work) or OutOfService.
    /// Draining and OutOfService instances are not discoverable. A registration over HTTP does not change it,
    /// except that Draining becomes Up if another pod takes the instance over. Default: Up.
    #[serde(default)]
    pub state: State,

    /// What keeps the instance live, and what happens to its object after expiry.
    pub lease: Lease,
}

/// A port that the instance listens on.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// The name of the port: a DNS label of 1 to 62 characters (DNS asks for it as _name), unique among the ports of
    /// the instance.
    #[schemars(length(min = 1, max = 62))]
    #[x_kube(validation = rules::label("a port's name"))]
    pub name: String,

    /// The number of the port, from 1 to 65535.
    #[schemars(with = "i32", range(min = 1, max = 65535))]
    pub port: u16,

    /// The transport of the port: TCP, UDP or SCTP. A port without one is TCP.
    // No default in the schema, because `kubectl apply` compares a list as a whole with the manifest, which
    // has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Protocol")]
    pub protocol: Option<Protocol>,

    /// The application protocol of the port, of 1 to 253 characters: an IANA service name, or one with a prefix such
    /// as kubernetes.io/h2c.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 253))]
    #[x_kube(validation = rules::word("appProtocol"))]
    pub app_protocol: Option<String>,
}

/// How long a heartbeat keeps an instance live, and what happens after that.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// Heartbeat: the instance is live as long as heartbeats arrive. Permanent: it is live as long as this
    /// object exists.
    pub mode: LeaseMode,

    /// For how many seconds a heartbeat keeps the instance live, from 2 to 86400. Only for mode Heartbeat.
    /// Default: 30.
    #[serde(default = "default_duration")]
    #[schemars(with = "i32", range(min = 2, max = 86400))]
    pub duration_seconds: u32,

    /// What happens to the object when the lease has ended. Retain keeps it, with the phase Expired. Evict
    /// deletes it evictAfterSeconds later. In both cases a heartbeat before that revives the instance.
    /// Default: Retain.
    #[serde(default = "default_on_expiry")]
    pub on_expiry: OnExpiry,

    /// For how many seconds the object of an expired instance is kept before it is deleted, from 0 to 86400.
    /// Only for onExpiry Evict. Default: 60.
    #[serde(default = "default_evict_after")]
    #[schemars(with = "i32", range(min = 0, max = 86400))]
    pub evict_after_seconds: u32,
}

/// The state of the instance as rollcall sees it. Rollcall writes phase and conditions only when their
/// meaning changes.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceInstanceStatus {
    /// The first that applies of Terminating, Expired, OutOfService, Draining, Stopping, Critical, Warning
    /// and Ready. Instances in the phases Warning and Ready are discoverable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Phase")]
    pub phase: Option<Phase>,

    /// At most 16 conditions. Ready says whether the instance is discoverable, and why. UnknownHealth exists
    /// while the health annotation has an unknown value, and AddressShared while another live instance has
    /// the same address and port. Conditions of other controllers are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rules::conditions_schema")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The metadata.generation that the phase is based on: 0 or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0))]
    pub observed_generation: Option<i64>,

    /// The heartbeat annotation that the phase is based on, in at most 128 characters. A heartbeat annotation
    /// that differs is a later heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = OBSERVED_HEARTBEAT_MAX))]
    pub observed_heartbeat: Option<String>,

    /// When a heartbeat last arrived (RFC 3339, at most 64 characters). This is a checkpoint: it is refreshed
    /// rarely, and exact only while the phase is Expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::time_schema")]
    pub last_heartbeat_time: Option<Time>,

    /// The DNS name of this instance, of at most 253 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 253))]
    pub dns_name: Option<String>,

    /// For a column: the first addresses and the number of further ones, or the hostname, in at most 253
    /// characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 253))]
    pub addresses: Option<String>,

    /// For a column: the health that the instance reports: Passing, Warning or Critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Health")]
    pub health: Option<Health>,

    /// For a column: the first ports as name:number/protocol and the number of further ones, in at most 253
    /// characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 253))]
    pub ports: Option<String>,

    /// The installation of rollcall that wrote this status: the creation time and the uid of its Lease,
    /// separated by a space, in at most 63 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 63))]
    pub installation: Option<String>,
}

impl Lease {
    /// The lease of an instance that is live as long as its object exists.
    #[must_use]
    pub fn permanent() -> Self {
        Self::with_mode(LeaseMode::Permanent)
    }

    /// A lease that heartbeats renew, with the defaults of a manifest.
    #[must_use]
    pub fn heartbeat() -> Self {
        Self::with_mode(LeaseMode::Heartbeat)
    }

    fn with_mode(mode: LeaseMode) -> Self {
        Self {
            mode,
            duration_seconds: default_duration(),
            on_expiry: default_on_expiry(),
            evict_after_seconds: default_evict_after(),
        }
    }
}

/// The value of `status.observedHeartbeat` for a value of the heartbeat annotation: the annotation itself up
/// to [`OBSERVED_HEARTBEAT_MAX`] characters, and beyond that its beginning and a hash of the whole. An
/// annotation can be longer than a status should be, but two of them must stay different. Always use this
/// function to compare annotations with a stored status.
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
