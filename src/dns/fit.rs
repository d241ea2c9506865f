//! How much of an answer fits into a message.
//!
//! Owns: the size rules. A message is cut at a record, TC is set only when the answer section is
//! incomplete, and an OPT is never lost. hickory cuts by other rules (it writes the OPT last, and
//! sets TC for lost glue), so it must never have to: what is left here is known to fit, because
//! hickory's own encoder was tried on it. Does not own: what the records are (`answer`).

use hickory_proto::{
    ProtoError,
    op::Edns,
    rr::{Name, RData, Record, rdata::SOA},
    serialize::binary::{BinEncodable, BinEncoder},
};

use crate::dns::answer::Answer;

/// The largest UDP message that is sent, and the size that is advertised: such a packet is not
/// fragmented on any usual path (RFC 9715, DNS flag day 2020).
pub const UDP_PAYLOAD: u16 = 1232;

/// The largest UDP message to somebody without EDNS (RFC 1035 §4.2.1), and the smallest size that
/// EDNS can ask for (RFC 6891 §6.2.3).
pub const UDP_PLAIN: u16 = 512;

/// The largest message over TCP (RFC 1035 §4.2.2).
pub const TCP: u16 = u16::MAX;

/// Octets of a header.
const HEADER: usize = 12;

/// Octets of a record beside its owner and its data.
const FIXED: usize = 10;

/// The room that there is for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The octets that the asker takes.
    pub limit: u16,
    /// The octets at which hickory would cut: never less than `limit`.
    pub ceiling: u16,
}

impl Room {
    /// Over UDP, for a query that advertised this size, if any.
    #[must_use]
    pub fn udp(advertised: Option<u16>) -> Self {
        advertised.map_or(Self { limit: UDP_PLAIN, ceiling: UDP_PLAIN }, |size| Self {
            limit: size.clamp(UDP_PLAIN, UDP_PAYLOAD),
            ceiling: UDP_PAYLOAD,
        })
    }

    /// Over TCP.
    #[must_use]
    pub fn tcp() -> Self {
        Self { limit: TCP, ceiling: TCP }
    }
}

/// Leaves of an answer what fits; whether the answer section is now incomplete (TC).
pub fn fit(answer: &mut Answer, question: &[u8], edns: Option<&Edns>, room: Room) -> bool {
    let opt = edns.map_or(0, opt_size);
    let limit = usize::from(room.limit).saturating_sub(opt);
    if HEADER + question.len() + upper_bound(answer) <= limit {
        return false;
    }
    let mut buffer = Vec::with_capacity(limit);
    let mut trial = Trial::new(&mut buffer, question, room.ceiling, limit);
    let answers = trial.admit(&answer.answers);
    let whole =
        answers == answer.answers.len() && trial.admit(&answer.authority) == answer.authority.len();
    if !whole {
        answer.answers.truncate(answers);
        answer.authority.clear();
        answer.glue.clear();
        return true;
    }
    let mut glue = 0;
    for target in answer.glue.chunk_by(|a, b| a.name == b.name) {
        if trial.admit(target) < target.len() {
            break;
        }
        glue += target.len();
    }
    answer.glue.truncate(glue);
    false
}

/// Octets of the OPT record: root, type, class, TTL and length are 11, an option has a head of 4.
fn opt_size(edns: &Edns) -> usize {
    let mut buffer = Vec::new();
    let written = Record::from(edns).emit(&mut BinEncoder::new(&mut buffer));
    // It is a few octets of ours; if ever it could not be written, no record would be sent.
    if written.is_ok() { buffer.len() } else { usize::from(TCP) }
}

/// hickory's encoder, fed in hickory's order.
struct Trial<'b> {
    encoder: BinEncoder<'b>,
    limit: usize,
    full: bool,
}

impl<'b> Trial<'b> {
    fn new(buffer: &'b mut Vec<u8>, question: &[u8], ceiling: u16, limit: usize) -> Self {
        let mut encoder = BinEncoder::new(buffer);
        encoder.set_max_size(ceiling);
        let head = encoder.emit_vec(&[0; HEADER]).and_then(|()| encoder.emit_vec(question));
        if head.is_ok() {
            // Of no use for compression, but it takes one of the places that hickory has for it.
            encoder.store_label_pointer(HEADER, HEADER + question.len());
        }
        Self { encoder, limit, full: head.is_err() }
    }

    /// How many of these, in order, still fit. Once one does not, nothing does.
    fn admit(&mut self, records: &[Record]) -> usize {
        records.iter().take_while(|record| self.admit_one(record)).count()
    }

    fn admit_one(&mut self, record: &Record) -> bool {
        let written: Result<(), ProtoError> = match self.full {
            false => record.emit(&mut self.encoder),
            true => return false,
        };
        self.full = written.is_err() || self.encoder.offset() > self.limit;
        !self.full
    }
}

/// Octets that the records take at most, were no name compressed.
fn upper_bound(answer: &Answer) -> usize {
    let records = answer.answers.iter().chain(&answer.authority).chain(&answer.glue);
    records.map(|record| name(&record.name) + FIXED + data(&record.data)).sum()
}

fn data(data: &RData) -> usize {
    match data {
        RData::A(_) => 4,
        RData::AAAA(_) => 16,
        RData::SRV(srv) => 6 + name(&srv.target),
        RData::CNAME(target) => name(&target.0),
        RData::NS(target) => name(&target.0),
        RData::SOA(SOA { mname, rname, .. }) => name(mname) + name(rname) + 20,
        RData::TXT(txt) => txt.txt_data.iter().map(|string| 1 + string.len()).sum(),
        RData::HINFO(hinfo) => 2 + hinfo.cpu.len() + hinfo.os.len(),
        // We build none of these: try it.
        _ => usize::from(u16::MAX),
    }
}

/// At least the octets of a name: `len` counts labels and dots, but not the root.
fn name(name: &Name) -> usize {
    name.len() + 1
}
