//! The watch of all replicas' ledgers, which joins them from their parts.
//!
//! Owns: the conversion from objects to [`Ledger`]s. Does not own: writing them (`ledger_writer`), and what follows
//! from them (`rollcall-core`).

use std::{collections::HashMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use kube::{Resource as _, ResourceExt as _, core::Request};
use parking_lot::Mutex;
use rollcall_api::{HeartbeatLedger, PeerSeen};
use rollcall_core::{
    codec::{self, Part},
    fact::Fact,
    ledger::{self, Ledger},
};
use rollcall_model::lease::Moment;
use tracing::warn;

use crate::kubernetes::{
    ledger_writer::{part_name, version},
    watch::WatchedKind,
};

/// The parts of ledgers as last observed, by replica and number.
type Parts = HashMap<(Arc<str>, usize), Part>;

/// The ledgers in rollcall's own namespace.
pub struct WatchedLedgers {
    namespace: String,
    /// At most 64 for each replica, of 200 KiB each. A replica writes a second part only when it took more than 200,000
    /// heartbeats between two flushes.
    parts: Mutex<Parts>,
}

/// The content of one object.
#[derive(Debug)]
pub enum LedgerPiece {
    /// A ledger without its parts, and the number of parts.
    Header(Box<Ledger>, usize),
    /// One part.
    Part(Part),
}

impl WatchedLedgers {
    /// The ledgers in this namespace.
    #[must_use]
    pub fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), parts: Mutex::default() }
    }

    fn join(&self, header: Ledger, count: usize) -> Option<Arc<Ledger>> {
        if count == 0 {
            return Some(Arc::new(header));
        }
        let parts = self.parts.lock();
        let part = |number| parts.get(&(header.replica.clone(), number)).cloned();
        let parts_read: Vec<Part> = (1..=count).filter_map(part).collect();
        codec::join(header, count, &parts_read).map(Arc::new)
    }

    fn store_part(&self, part: Part) {
        self.parts.lock().insert((part.replica.clone(), part.number), part);
    }
}

impl WatchedKind for WatchedLedgers {
    type Object = HeartbeatLedger;
    type Record = LedgerPiece;

    const NAME: &'static str = "ledger";

    fn request(&self) -> Request {
        Request::new(HeartbeatLedger::url_path(&(), Some(&self.namespace)))
    }

    fn version(object: &HeartbeatLedger) -> u64 {
        version(object)
    }

    fn decode(&self, object: HeartbeatLedger) -> Result<LedgerPiece, Option<Fact>> {
        if has_own_name(&object) {
            return Ok(decode_piece(&object));
        }
        warn!(
            ledger = object.name_any(),
            replica = object.spec.replica,
            "ignored a HeartbeatLedger whose name is not that of its replica"
        );
        Err(None)
    }

    fn listed(&self, pieces: Vec<LedgerPiece>, _: u64) -> Fact {
        self.parts.lock().clear();
        let mut headers = Vec::new();
        for piece in pieces {
            match piece {
                LedgerPiece::Part(part) => self.store_part(part),
                LedgerPiece::Header(header, count) => headers.push((*header, count)),
            }
        }
        let whole = headers.into_iter().filter_map(|(header, count)| self.join(header, count));
        Fact::LedgersListed(whole.collect())
    }

    fn upserted(&self, piece: LedgerPiece) -> Option<Fact> {
        match piece {
            LedgerPiece::Header(header, count) => {
                self.join(*header, count).map(Fact::LedgerUpserted)
            }
            LedgerPiece::Part(part) => {
                self.store_part(part);
                None
            }
        }
    }

    fn removed(&self, object: HeartbeatLedger) -> Option<Fact> {
        if !has_own_name(&object) {
            return None;
        }
        match decode_piece(&object) {
            LedgerPiece::Header(header, _) => {
                let (replica, version) = (header.replica, header.version);
                Some(Fact::LedgerRemoved { replica, version })
            }
            LedgerPiece::Part(part) => {
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

/// Whether the object has the name under which its replica writes it: the replica's name, for a part with its number.
/// Other objects that name a replica were not written by it.
fn has_own_name(object: &HeartbeatLedger) -> bool {
    let spec = &object.spec;
    let name = object.metadata.name.as_deref().unwrap_or_default();
    match spec.part {
        0 => name == spec.replica,
        number => name == part_name(&spec.replica, number.unsigned_abs() as usize),
    }
}

/// The content of an object. Segments that cannot be decoded (another version of rollcall may have written them) are left
/// out, and the header still counts. The state machine then misses segments, which is a gap: every lease gets grace.
fn decode_piece(object: &HeartbeatLedger) -> LedgerPiece {
    let spec = &object.spec;
    let segments = BASE64.decode(&spec.segments).ok();
    let segments = segments.map_or(Err(codec::Malformed::CutOff), |bytes| match bytes.as_slice() {
        [] => Ok(Vec::new()),
        bytes => codec::decode(bytes),
    });
    let segments = segments.unwrap_or_else(|error| {
        warn!(ledger = object.name_any(), %error, "cannot read the heartbeats in a HeartbeatLedger; they are left out");
        Vec::new()
    });
    let (replica, boot) = (spec.replica.as_str().into(), spec.boot.as_str().into());
    let sequence = unsigned(spec.sequence);
    if spec.part > 0 {
        let number = usize::try_from(spec.part).unwrap_or(usize::MAX);
        return LedgerPiece::Part(Part { replica, boot, sequence, number, segments });
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
        replaced: Some(spec.replaced.as_str()).filter(|it| !it.is_empty()).map(Into::into),
        version: WatchedLedgers::version(object),
        sequence,
        stamp: Moment(unsigned(spec.stamp)),
        epoch: unsigned(spec.epoch),
        peers: spec.peers.iter().map(peer).collect(),
        index: unsigned(spec.index),
        horizon: Moment(unsigned(spec.horizon)),
        ask: spec.ask,
        leaving: spec.leaving,
        segments,
    };
    LedgerPiece::Header(Box::new(header), usize::try_from(spec.parts).unwrap_or(usize::MAX))
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
