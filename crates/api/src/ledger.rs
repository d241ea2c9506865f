//! The `HeartbeatLedger` as Kubernetes stores it: the object in which a replica reports the heartbeats
//! that it took to the other replicas.
//!
//! Internal: only replicas write and read it, in rollcall's own namespace, and its fields can change with any
//! version. While two versions run at the same time, each reads the fields that it knows: fields are added
//! and never change their meaning, and the API server keeps fields that its CRD does not have yet. The
//! meaning is in docs/protocol.md, the encoding of `segments` in `codec` of `rollcall-core`.

#![expect(unreachable_pub, reason = "the schema derive repeats each public struct in a function")]
#![expect(clippy::duplicated_attributes, reason = "the lint reads each column as a repetition")]

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Maximum length of `segments` in bytes: the base64 text of one object, with a margin. An etcd object has
/// at most 1.5 MiB.
const SEGMENTS_MAX: u64 = 400 * 1024;

/// One ledger, or a part of one. Every field is always written, so that a merge patch replaces the whole
/// ledger.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "rollcall.dev",
    version = "v1alpha1",
    kind = "HeartbeatLedger",
    plural = "heartbeatledgers",
    shortname = "hbl",
    namespaced,
    derive = "PartialEq",
    doc = "Internal: the heartbeats that one replica of rollcall has taken recently, and what it has observed, for the other replicas. Do not edit it. If it is deleted, the replica writes it again.",
    printcolumn(name = "Boot", type_ = "string", json_path = ".spec.boot"),
    printcolumn(name = "Sequence", type_ = "integer", json_path = ".spec.sequence"),
    printcolumn(name = "Index", type_ = "integer", json_path = ".spec.index"),
    printcolumn(name = "Ask", type_ = "boolean", json_path = ".spec.ask", priority = 1),
    printcolumn(name = "Leaving", type_ = "boolean", json_path = ".spec.leaving"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct HeartbeatLedgerSpec {
    /// The replica that wrote this ledger.
    #[schemars(length(min = 1, max = 253))]
    pub replica: String,
    /// The boot of the replica: one run of its process.
    #[schemars(length(min = 1, max = 64))]
    pub boot: String,
    /// The version of this format; 1 if absent. Of a later format, a reader uses the
    /// fields that it knows.
    #[serde(default = "first_format")]
    #[schemars(range(min = 1, max = 1000))]
    pub format: i32,
    /// The boot whose ledger this process found under its identity when it started; empty if there was none.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub replaced: String,
    /// The number of this ledger among those that the process has tried to write.
    #[schemars(range(min = 0))]
    pub sequence: i64,
    /// This ledger and earlier ones contain every heartbeat that the process took up to this time:
    /// milliseconds of its own monotonic clock.
    #[schemars(range(min = 0))]
    pub stamp: i64,
    /// How often the store has gone back, for example after a restore of etcd, as far as the replica knows.
    /// Its resourceVersions belong to this epoch.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub epoch: i64,
    /// The newest observed ledger of each other replica.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub peers: Vec<PeerSeen>,
    /// The highest observed resourceVersion of instances.
    #[schemars(range(min = 0))]
    pub index: i64,
    /// The horizon: the moment up to which the replica knew every heartbeat when it wrote this ledger, on the
    /// same clock as the stamp. Informational.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub horizon: i64,
    /// Whether the replica asks the others to write their ledgers at once.
    #[serde(default)]
    pub ask: bool,
    /// Whether this is the replica's last ledger, because it shuts down.
    #[serde(default)]
    pub leaving: bool,
    /// How many further objects, named after this one, contain segments of the same sequence.
    #[serde(default)]
    #[schemars(range(min = 0, max = 64))]
    pub parts: i32,
    /// The number of such a further object, from 1.
    #[serde(default)]
    #[schemars(range(min = 0, max = 64))]
    pub part: i32,
    /// The heartbeats, in base64.
    #[serde(default)]
    #[schemars(length(max = SEGMENTS_MAX))]
    pub segments: String,
}

/// The format that this version writes. Format 2 added `epoch` and `replaced`.
pub const FORMAT: i32 = 2;

fn first_format() -> i32 {
    1
}

/// The newest observed ledger of another replica.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerSeen {
    /// The other replica.
    #[schemars(length(min = 1, max = 253))]
    pub replica: String,
    /// The boot of the other replica.
    #[schemars(length(min = 1, max = 64))]
    pub boot: String,
    /// The stamp of that ledger.
    #[schemars(range(min = 0))]
    pub stamp: i64,
    /// When the ledger was observed, on the clock of the replica that reports this.
    #[schemars(range(min = 0))]
    pub at: i64,
}

/// A merge patch that replaces the whole spec of a ledger.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct HeartbeatLedgerPatch<'a> {
    /// Every field, so that nothing of the previous ledger remains.
    pub spec: &'a HeartbeatLedgerSpec,
}
