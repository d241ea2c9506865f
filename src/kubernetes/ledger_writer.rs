//! Writes of ledgers: this replica's own ledger, and the deletion of ledgers whose replicas are gone.
//!
//! Owns: the order of the writes (all parts before the header that counts them). Does not own: the content of a ledger and
//! when it is written (`flush` of `rollcall-core`), and which replicas are gone (its `peers`).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use rollcall_api::{
    FIELD_MANAGER, FORMAT, HeartbeatLedger, HeartbeatLedgerPatch, HeartbeatLedgerSpec, PeerSeen,
};
use rollcall_core::{
    codec::{self, Part},
    ledger::{self, Ledger},
};
use tokio::time::timeout;

use crate::clock;
use crate::kubernetes::{call::measure, election::Tenure, failure::Failure};
use crate::telemetry::metrics::{ApiMetrics, CallMetrics, LedgerMetrics};

/// The deadline for a ledger together with its parts. After that, writing the next ledger is more useful.
const WITHIN: Duration = Duration::from_secs(2);

/// Writes this replica's ledger, and deletes ledgers of replicas that are gone. Cheap to clone.
#[derive(Clone)]
pub struct LedgerWriter {
    api: Api<HeartbeatLedger>,
    /// The pod of this replica, which owns the ledger object; none outside of pods.
    owner: Option<OwnerReference>,
    calls: CallMetrics,
    metrics: LedgerMetrics,
}

impl LedgerWriter {
    /// A writer that uses `client`, so that ledgers wait for no other calls.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: &str,
        owner: Option<OwnerReference>,
        calls: &ApiMetrics,
        metrics: LedgerMetrics,
    ) -> Self {
        let calls = calls.for_resource("heartbeatledgers", &["patch", "create", "delete"]);
        Self { api: Api::namespaced(client, namespace), owner, calls, metrics }
    }

    /// Deletes the ledger of a replica that is gone, if it still has this version, and its parts.
    ///
    /// # Errors
    /// [`Failure::Conflict`] when the ledger has been written since, [`Failure::NotFound`] when it does not exist,
    /// [`Failure::NotLeading`] when this replica no longer leads.
    pub async fn sweep(&self, tenure: &Tenure, replica: &str, version: u64) -> Result<(), Failure> {
        let only = DeleteParams {
            preconditions: Some(Preconditions {
                uid: None,
                resource_version: Some(version.to_string()),
            }),
            ..DeleteParams::default()
        };
        self.remove(tenure, replica, &only).await?;
        for number in 1..=codec::MAX_PARTS {
            let part = part_name(replica, number);
            match self.remove(tenure, &part, &DeleteParams::default()).await {
                Err(Failure::NotFound(_)) => break,
                other => other?,
            }
        }
        Ok(())
    }

    async fn remove(&self, tenure: &Tenure, name: &str, how: &DeleteParams) -> Result<(), Failure> {
        if !tenure.holds(clock::moment()) {
            return Err(Failure::NotLeading);
        }
        let call = self.api.delete(name, how);
        measure(&self.calls, "delete", WITHIN, call).await.map(|_| ())
    }

    /// Writes a ledger, its parts first, within two seconds in all. Returns its resourceVersion.
    ///
    /// # Errors
    /// Why the ledger was not stored. When no answer came, it may be stored nevertheless.
    pub async fn write(&self, ledger: Ledger) -> Result<u64, Failure> {
        let late = || Failure::Unavailable(format!("no answer within {} s", WITHIN.as_secs()));
        timeout(WITHIN, self.write_all(ledger)).await.map_err(|_| late())?
    }

    async fn write_all(&self, ledger: Ledger) -> Result<u64, Failure> {
        self.metrics.sent(ledger.segments.iter().map(|segment| segment.beats.len()).sum());
        let (parts, header) = codec::part(ledger, codec::MAX_BYTES);
        let count = parts.len();
        for part in parts {
            self.put(&part_name(&part.replica, part.number), spec_of_part(part)).await?;
        }
        self.put(&header.replica, spec(&header, count)).await
    }

    async fn put(&self, name: &str, spec: HeartbeatLedgerSpec) -> Result<u64, Failure> {
        self.metrics.stored(spec.segments.len());
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let patch = Patch::Merge(HeartbeatLedgerPatch { spec: &spec });
        let call = self.api.patch(name, &parameters, &patch);
        match measure(&self.calls, "patch", WITHIN, call).await {
            Err(Failure::NotFound(_)) => {}
            other => return other.map(|stored| version(&stored)),
        }
        let mut object = HeartbeatLedger::new(name, spec);
        object.metadata.owner_references = self.owner.clone().map(|owner| vec![owner]);
        let parameters = PostParams::default();
        let call = self.api.create(&parameters, &object);
        measure(&self.calls, "create", WITHIN, call).await.map(|stored| version(&stored))
    }
}

/// The resourceVersion of a stored ledger; 0 when it is not a number.
pub(super) fn version(object: &HeartbeatLedger) -> u64 {
    object.metadata.resource_version.as_deref().and_then(|it| it.parse().ok()).unwrap_or(0)
}

/// The object name of a part.
pub(super) fn part_name(replica: &str, number: usize) -> String {
    format!("{replica}.part-{number}")
}

fn spec(ledger: &Ledger, parts: usize) -> HeartbeatLedgerSpec {
    let peer = |peer: &ledger::PeerSeen| PeerSeen {
        replica: peer.replica.to_string(),
        boot: peer.boot.to_string(),
        stamp: signed(peer.stamp.0),
        at: signed(peer.at.0),
    };
    HeartbeatLedgerSpec {
        replica: ledger.replica.to_string(),
        boot: ledger.boot.to_string(),
        format: FORMAT,
        replaced: ledger.replaced.as_deref().unwrap_or_default().to_owned(),
        sequence: signed(ledger.sequence),
        stamp: signed(ledger.stamp.0),
        epoch: signed(ledger.epoch),
        peers: ledger.peers.iter().map(peer).collect(),
        index: signed(ledger.index),
        horizon: signed(ledger.horizon.0),
        ask: ledger.ask,
        leaving: ledger.leaving,
        parts: i32::try_from(parts).unwrap_or(i32::MAX),
        part: 0,
        segments: BASE64.encode(codec::encode(&ledger.segments)),
    }
}

fn spec_of_part(part: Part) -> HeartbeatLedgerSpec {
    let Part { replica, boot, sequence, number, segments } = part;
    let ledger = Ledger { replica, boot, sequence, segments, ..Ledger::default() };
    HeartbeatLedgerSpec { part: i32::try_from(number).unwrap_or(i32::MAX), ..spec(&ledger, 0) }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
