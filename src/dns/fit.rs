//! Fits an answer into a message.
//!
//! Owns: the size rules. A message ends with a whole record, TC is set only when the answer section is incomplete (RFC
//! 2181 §9), and an OPT is always included (RFC 6891 §7). Does not own: encoding records (`wire`), and choosing them
//! (`answer`).

use crate::dns::{
    answer::Answer,
    edns::UDP_PAYLOAD,
    wire::{Header, Question, Section, Writer},
};

/// The largest UDP message to a client without EDNS (RFC 1035 §4.2.1), and the smallest size that a client can
/// advertise (RFC 6891 §6.2.3).
pub const UDP_PLAIN: u16 = 512;

/// The largest message over TCP (RFC 1035 §4.2.2).
pub const TCP: u16 = u16::MAX;

/// TC.
pub const TRUNCATED: u16 = 0x0200;

/// The size limit of a UDP message to a client that advertised this size; `None` for a client without EDNS.
#[must_use]
pub fn udp_limit(advertised: Option<u16>, max: u16) -> u16 {
    advertised.map_or(UDP_PLAIN, |size| size.clamp(UDP_PLAIN, UDP_PAYLOAD)).min(max)
}

/// Builds a message of at most `limit` bytes. Also returns whether it is truncated (TC).
#[must_use]
pub fn build_message(
    header: Header,
    question: Option<Question<'_>>,
    answer: &Answer,
    opt: Option<&[u8]>,
    limit: u16,
) -> (Vec<u8>, bool) {
    let limit = usize::from(limit).saturating_sub(opt.map_or(0, <[u8]>::len));
    let mut writer = Writer::new(question, limit);
    let is_whole = answer.answers.iter().all(|record| writer.write_record(Section::Answer, record))
        && writer.write_all(Section::Authority, &answer.authority);
    if is_whole {
        let mut targets = answer.glue.chunk_by(|a, b| a.name == b.name);
        targets.all(|target| writer.write_all(Section::Additional, target));
    }
    let truncated = if is_whole { 0 } else { TRUNCATED };
    (writer.finish(Header { flags: header.flags | truncated, ..header }, opt), !is_whole)
}
