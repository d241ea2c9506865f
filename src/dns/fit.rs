//! How much of an answer fits into a message.
//!
//! Owns: the size rules. A message is cut at a record, TC is set only when the answer section is
//! incomplete (RFC 2181 §9), and an OPT is never lost (RFC 6891 §7). Does not own: how records are
//! written (`wire`), and what they are (`answer`).

use crate::dns::{
    answer::Answer,
    edns::UDP_PAYLOAD,
    wire::{Head, Question, Section, Writer},
};

/// The largest UDP message to somebody without EDNS (RFC 1035 §4.2.1), and the smallest size that
/// EDNS can ask for (RFC 6891 §6.2.3).
pub const UDP_PLAIN: u16 = 512;

/// The largest message over TCP (RFC 1035 §4.2.2).
pub const TCP: u16 = u16::MAX;

/// TC: there is more.
pub const TRUNCATED: u16 = 0x0200;

/// The octets of a message over UDP to somebody who advertised this size, if any.
#[must_use]
pub fn udp(advertised: Option<u16>, most: u16) -> u16 {
    advertised.map_or(UDP_PLAIN, |size| size.clamp(UDP_PLAIN, UDP_PAYLOAD)).min(most)
}

/// A whole message of at most `limit` octets, and whether it says less than the answer (TC).
#[must_use]
pub fn message(
    head: Head,
    question: Option<Question<'_>>,
    answer: &Answer,
    opt: Option<&[u8]>,
    limit: u16,
) -> (Vec<u8>, bool) {
    let room = usize::from(limit).saturating_sub(opt.map_or(0, <[u8]>::len));
    let mut writer = Writer::new(question, room);
    let whole = answer.answers.iter().all(|record| writer.record(Section::Answer, record))
        && writer.all(Section::Authority, &answer.authority);
    if whole {
        let mut targets = answer.glue.chunk_by(|a, b| a.name == b.name);
        targets.all(|target| writer.all(Section::Additional, target));
    }
    let truncated = if whole { 0 } else { TRUNCATED };
    (writer.finish(Head { flags: head.flags | truncated, ..head }, opt), !whole)
}
