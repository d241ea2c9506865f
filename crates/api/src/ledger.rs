//! The `HeartbeatLedger`: what one replica tells the others, as it is stored.
//!
//! Internal: only replicas write and read it, in rollcall's own namespace; its shape may change with any
//! version. While two versions run side by side each reads what it knows: fields are added, none changes its meaning,
//! and the API server keeps those that its definition does not have yet. What it means is in docs/protocol.md, the bytes of `segments` in `codec` of `rollcall-core`.

#![expect(unreachable_pub, reason = "the schema derive repeats each public struct in a function")]
#![expect(clippy::duplicated_attributes, reason = "the lint reads each column as a repetition")]

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// The most octets of `segments`: base64 of what one object carries, and a margin. An object of etcd has
/// 1.5 MiB at most.
const SEGMENTS_MAX: u64 = 400 * 1024;

/// One ledger, or a part of one. Every field is always written, so that a merge patch replaces all.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "rollcall.dev",
    version = "v1alpha1",
    kind = "HeartbeatLedger",
    plural = "heartbeatledgers",
    shortname = "hbl",
    namespaced,
    derive = "PartialEq",
    doc = "Internal: which heartbeats one replica of rollcall has taken lately, and how far it has seen, for the other replicas. Not to be edited; one that is deleted is made anew.",
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
    /// The replica that tells.
    #[schemars(length(min = 1, max = 253))]
    pub replica: String,
    /// Which of its processes.
    #[schemars(length(min = 1, max = 64))]
    pub boot: String,
    /// The version of this format: 1 when absent. A reader takes what it knows of a later one.
    #[serde(default = "first_format")]
    #[schemars(range(min = 1, max = 1000))]
    pub format: i32,
    /// The process whose ledger this one found under its name when it began; empty when there was none.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub replaced: String,
    /// Counts the ledgers that this process has tried to write.
    #[schemars(range(min = 0))]
    pub sequence: i64,
    /// When it was taken: milliseconds of the replica's own monotonic clock.
    #[schemars(range(min = 0))]
    pub stamp: i64,
    /// How often the store has gone back, as after a restore of etcd, as far as the replica knows: its versions are of this epoch.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub epoch: i64,
    /// Which ledger of each other replica it has seen newest.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub peers: Vec<PeerSeen>,
    /// The highest resourceVersion of instances it has seen.
    #[schemars(range(min = 0))]
    pub index: i64,
    /// Up to when it knew of every heartbeat when it wrote this, on the same clock as the stamp. For people.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub horizon: i64,
    /// Somebody waits for the others' ledgers.
    #[serde(default)]
    pub ask: bool,
    /// Its last one.
    #[serde(default)]
    pub leaving: bool,
    /// How many further objects, named after this one, carry segments of the same sequence.
    #[serde(default)]
    #[schemars(range(min = 0, max = 64))]
    pub parts: i32,
    /// In such an object: which it is, from 1.
    #[serde(default)]
    #[schemars(range(min = 0, max = 64))]
    pub part: i32,
    /// The heartbeats, in base64.
    #[serde(default)]
    #[schemars(length(max = SEGMENTS_MAX))]
    pub segments: String,
}

/// The format that is written: 2 has `epoch` and `replaced`.
pub const FORMAT: i32 = 2;

fn first_format() -> i32 {
    1
}

/// A sighting of another replica's ledger.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerSeen {
    /// Whose.
    #[schemars(length(min = 1, max = 253))]
    pub replica: String,
    /// Of which of its processes.
    #[schemars(length(min = 1, max = 64))]
    pub boot: String,
    /// Its stamp.
    #[schemars(range(min = 0))]
    pub stamp: i64,
    /// When it was seen, on the clock of the replica that tells.
    #[schemars(range(min = 0))]
    pub at: i64,
}

/// A merge patch of a ledger: all of its spec.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct HeartbeatLedgerPatch<'a> {
    /// Every field, so that nothing of the ledger before is left.
    pub spec: &'a HeartbeatLedgerSpec,
}
