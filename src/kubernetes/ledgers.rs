//! The ledgers of all replicas: watched, and joined from their parts.
//!
//! Owns: the way from objects to [`Ledger`]s. Does not own: writing them (`ledger_writer`), and what follows
//! from them (`registry`).

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
    watch::Kind,
};

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
        version(object)
    }

    fn read(&self, object: HeartbeatLedger) -> Result<Piece, Option<Fact>> {
        if is_named_well(&object) {
            return Ok(piece(&object));
        }
        warn!(
            ledger = object.name_any(),
            replica = object.spec.replica,
            "a ledger that is not its replica's own; ignored"
        );
        Err(None)
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
        if !is_named_well(&object) {
            return None;
        }
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

/// A ledger bears the name of its replica, a part that and its number: whatever else names a replica was not
/// written by it.
fn is_named_well(object: &HeartbeatLedger) -> bool {
    let spec = &object.spec;
    let name = object.metadata.name.as_deref().unwrap_or_default();
    match spec.part {
        0 => name == spec.replica,
        number => name == part_name(&spec.replica, number.unsigned_abs() as usize),
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
        replaced: Some(spec.replaced.as_str()).filter(|it| !it.is_empty()).map(Into::into),
        version: Ledgers::version(object),
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
    Piece::Header(Box::new(header), usize::try_from(spec.parts).unwrap_or(usize::MAX))
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
