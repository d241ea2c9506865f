//! The ledgers of all replicas: watched, joined from their parts, and the own one written.
//!
//! Owns: the way between objects and [`Ledger`]s, and that parts are written before the header that
//! speaks for them. Does not own: what is said when (`registry::flush`), and what follows from it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
    core::Request,
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::timeout;
use tracing::warn;

use crate::api::{FIELD_MANAGER, HeartbeatLedger, HeartbeatLedgerSpec, PeerSeen};
use crate::cluster::{call::measured, failure::Failure, watch::Kind};
use crate::registry::{
    codec::{self, Part},
    fact::Fact,
    lease::Moment,
    ledger::{self, Ledger},
};
use crate::telemetry::metrics::{ApiMetrics, CallMetrics};

/// For a ledger and its parts: a later one is worth more than this one late.
const WITHIN: Duration = Duration::from_secs(2);

/// The parts of ledgers, as they were seen last, by replica and number.
type Parts = HashMap<(Arc<str>, usize), Part>;

/// The ledgers in rollcall's own namespace.
pub struct Ledgers {
    namespace: String,
    /// At most 64 a replica, of 200 KiB: only a replica that takes 200,000 beats between two flushes
    /// has a second one.
    parts: Mutex<Parts>,
}

/// What an object holds.
#[derive(Debug)]
pub enum Piece {
    /// A ledger, but for its parts; how many there are.
    Header(Box<Ledger>, usize),
    /// One of them.
    Part(Part),
}

impl Ledgers {
    /// Those in this namespace.
    #[must_use]
    pub fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), parts: Mutex::default() }
    }

    fn join(&self, header: Ledger, count: usize) -> Option<Arc<Ledger>> {
        if count == 0 {
            return Some(Arc::new(header));
        }
        let parts = self.parts.lock();
        let of = |number| parts.get(&(header.replica.clone(), number)).cloned();
        let read: Vec<Part> = (1..=count).filter_map(of).collect();
        codec::join(header, count, &read).map(Arc::new)
    }

    fn keep(&self, part: Part) {
        self.parts.lock().insert((part.replica.clone(), part.number), part);
    }
}

impl Kind for Ledgers {
    type Object = HeartbeatLedger;
    type Record = Piece;

    const NAME: &'static str = "ledger";

    fn request(&self) -> Request {
        Request::new(HeartbeatLedger::url_path(&(), Some(&self.namespace)))
    }

    fn version(object: &HeartbeatLedger) -> u64 {
        object.metadata.resource_version.as_deref().and_then(|it| it.parse().ok()).unwrap_or(0)
    }

    fn read(&self, object: HeartbeatLedger) -> Result<Piece, Option<Fact>> {
        Ok(piece(&object))
    }

    fn listed(&self, pieces: Vec<Piece>, _: u64) -> Fact {
        self.parts.lock().clear();
        let mut headers = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Part(part) => self.keep(part),
                Piece::Header(header, count) => headers.push((*header, count)),
            }
        }
        let whole = headers.into_iter().filter_map(|(header, count)| self.join(header, count));
        Fact::LedgersListed(whole.collect())
    }

    fn upserted(&self, piece: Piece) -> Option<Fact> {
        match piece {
            Piece::Header(header, count) => self.join(*header, count).map(Fact::LedgerSeen),
            Piece::Part(part) => {
                self.keep(part);
                None
            }
        }
    }

    fn removed(&self, object: HeartbeatLedger) -> Option<Fact> {
        match piece(&object) {
            Piece::Header(header, _) => {
                let (replica, version) = (header.replica, header.version);
                Some(Fact::LedgerGone { replica, version })
            }
            Piece::Part(part) => {
                self.parts.lock().remove(&(part.replica, part.number));
                None
            }
        }
    }

    fn progress(&self, _: u64) -> Option<Fact> {
        None
    }

    fn interrupted(&self, _: String) -> Option<Fact> {
        None
    }
}

/// An object of another version of rollcall may hold segments that cannot be read: its header counts, and
/// the segments are missed, which gives everybody time.
fn piece(object: &HeartbeatLedger) -> Piece {
    let spec = &object.spec;
    let segments = BASE64.decode(&spec.segments).ok();
    let segments = segments.map_or(Err(codec::Malformed::CutOff), |bytes| match bytes.as_slice() {
        [] => Ok(Vec::new()),
        bytes => codec::decode(bytes),
    });
    let segments = segments.unwrap_or_else(|error| {
        warn!(ledger = object.name_any(), %error, "cannot read the beats of a ledger");
        Vec::new()
    });
    let (replica, boot) = (spec.replica.as_str().into(), spec.boot.as_str().into());
    let sequence = unsigned(spec.sequence);
    if spec.part > 0 {
        let number = usize::try_from(spec.part).unwrap_or(usize::MAX);
        return Piece::Part(Part { replica, boot, sequence, number, segments });
    }
    let peer = |peer: &PeerSeen| ledger::PeerSeen {
        replica: peer.replica.as_str().into(),
        boot: peer.boot.as_str().into(),
        stamp: Moment(unsigned(peer.stamp)),
        at: Moment(unsigned(peer.at)),
    };
    let header = Ledger {
        replica,
        boot,
        version: Ledgers::version(object),
        sequence,
        stamp: Moment(unsigned(spec.stamp)),
        peers: spec.peers.iter().map(peer).collect(),
        index: unsigned(spec.index),
        ask: spec.ask,
        leaving: spec.leaving,
        segments,
    };
    Piece::Header(Box::new(header), usize::try_from(spec.parts).unwrap_or(usize::MAX))
}

/// Writes the own ledger.
pub struct LedgerWriter {
    api: Api<HeartbeatLedger>,
    /// The pod, with which the object goes; none outside of pods.
    owner: Option<OwnerReference>,
    calls: CallMetrics,
}

impl LedgerWriter {
    /// A writer that uses `client` for nothing else that has to be quick.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: &str,
        owner: Option<OwnerReference>,
        metrics: &ApiMetrics,
    ) -> Self {
        let calls = metrics.on("heartbeatledgers", &["patch", "create"]);
        Self { api: Api::namespaced(client, namespace), owner, calls }
    }

    /// Writes a ledger, its parts first; two seconds at most in all.
    ///
    /// # Errors
    /// Why it was not stored; it may be all the same when no answer came.
    pub async fn write(&self, ledger: Ledger) -> Result<(), Failure> {
        let late = || Failure::Away(format!("no answer within {} s", WITHIN.as_secs()));
        timeout(WITHIN, self.write_all(ledger)).await.map_err(|_| late())?
    }

    async fn write_all(&self, ledger: Ledger) -> Result<(), Failure> {
        let (parts, header) = codec::part(ledger, codec::MOST);
        for part in &parts {
            self.put(&format!("{}.part-{}", part.replica, part.number), spec_of_part(part)).await?;
        }
        self.put(&header.replica, spec(&header, parts.len())).await
    }

    async fn put(&self, name: &str, spec: HeartbeatLedgerSpec) -> Result<(), Failure> {
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({"spec": &spec}));
        let call = self.api.patch(name, &parameters, &patch);
        match measured(&self.calls, "patch", WITHIN, call).await {
            Err(Failure::NotFound(_)) => {}
            other => return other.map(|_| ()),
        }
        let mut object = HeartbeatLedger::new(name, spec);
        object.metadata.owner_references = self.owner.clone().map(|owner| vec![owner]);
        let parameters = PostParams::default();
        let call = self.api.create(&parameters, &object);
        measured(&self.calls, "create", WITHIN, call).await.map(|_| ())
    }
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
        sequence: signed(ledger.sequence),
        stamp: signed(ledger.stamp.0),
        peers: ledger.peers.iter().map(peer).collect(),
        index: signed(ledger.index),
        ask: ledger.ask,
        leaving: ledger.leaving,
        parts: u32::try_from(parts).unwrap_or(u32::MAX),
        part: 0,
        segments: BASE64.encode(codec::encode(&ledger.segments)),
    }
}

fn spec_of_part(part: &Part) -> HeartbeatLedgerSpec {
    HeartbeatLedgerSpec {
        replica: part.replica.to_string(),
        boot: part.boot.to_string(),
        sequence: signed(part.sequence),
        stamp: 0,
        peers: Vec::new(),
        index: 0,
        ask: false,
        leaving: false,
        parts: 0,
        part: u32::try_from(part.number).unwrap_or(u32::MAX),
        segments: BASE64.encode(codec::encode(&part.segments)),
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
