//! The encoding of a ledger's segments, and how a ledger that is too large for one object is split.
//!
//! ```text
//! bytes    = 1 (the version), then records
//! record   = tag, length of the payload, payload        unknown tags are skipped
//! segment  = record with tag 1:
//!            first, sequence − first, number of heartbeats,
//!            then for each heartbeat, by rising id: id − the previous id (first: id − 0), age in ms;
//!            the rest of the payload is skipped
//! ```
//!
//! Every number is a varint: seven bits per byte, low bits first, the high bit set on all bytes but the last.
//! A heartbeat takes 9 or 10 bytes: 7 or 8 for the difference of two sorted 64-bit hashes (7 from 30,000
//! heartbeats on), and 2 for an age up to 16 s.
//!
//! Parts contain only segments and are written first; the object with the header is written once they are
//! acknowledged. So when a replica receives a header, everything that the header covers is already stored.

use std::sync::Arc;

use crate::ledger::{Ledger, Segment};

/// The version of the encoding that is written, and the only one that is read.
const VERSION: u8 = 1;

const SEGMENT: u64 = 1;

/// Maximum length of the segments in one object, in bytes.
pub const MAX_BYTES: usize = 200 * 1024;

/// Maximum number of parts of one ledger, as in the CRD: about 1.4 million heartbeats.
pub const MAX_PARTS: usize = 64;

/// Maximum length of a segment without its heartbeats, in bytes: tag, length and three numbers.
const FRAME: usize = 1 + 4 * 10;

/// Why bytes could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The version of the encoding is unknown.
    #[error("the segments have version {0}, but only version {VERSION} is supported")]
    Version(u8),
    #[error("the segments end in the middle of a number or a record")]
    CutOff,
    /// A number is out of range for its field.
    #[error("the segments contain a number that is out of range")]
    OutOfRange,
}

/// Segments of one ledger that did not fit into the object with its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub replica: Arc<str>,
    pub boot: Arc<str>,
    pub sequence: u64,
    /// The number of the part, from 1.
    pub number: usize,
    pub segments: Vec<Segment>,
}

#[must_use]
pub fn encode(segments: &[Segment]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    let mut payload = Vec::new();
    for segment in segments {
        payload.clear();
        put_varint(&mut payload, segment.first);
        put_varint(&mut payload, segment.sequence.saturating_sub(segment.first));
        put_varint(&mut payload, segment.beats.len() as u64);
        let mut before = 0;
        for (id, age) in &segment.beats {
            put_varint(&mut payload, id.wrapping_sub(before));
            put_varint(&mut payload, u64::from(*age));
            before = *id;
        }
        put_varint(&mut bytes, SEGMENT);
        put_varint(&mut bytes, payload.len() as u64);
        bytes.extend_from_slice(&payload);
    }
    bytes
}

/// Decodes segments.
///
/// # Errors
/// [`Malformed`] says why the bytes are not segments.
pub fn decode(bytes: &[u8]) -> Result<Vec<Segment>, Malformed> {
    let (version, mut rest) = bytes.split_first().ok_or(Malformed::CutOff)?;
    if *version != VERSION {
        return Err(Malformed::Version(*version));
    }
    let mut segments = Vec::new();
    while !rest.is_empty() {
        let tag = take_varint(&mut rest)?;
        let length = usize::try_from(take_varint(&mut rest)?).map_err(|_| Malformed::OutOfRange)?;
        let (payload, after) = rest.split_at_checked(length).ok_or(Malformed::CutOff)?;
        if tag == SEGMENT {
            segments.push(decode_segment(payload)?);
        }
        rest = after;
    }
    Ok(segments)
}

fn decode_segment(mut payload: &[u8]) -> Result<Segment, Malformed> {
    let first = take_varint(&mut payload)?;
    let sequence = first.checked_add(take_varint(&mut payload)?).ok_or(Malformed::OutOfRange)?;
    let count = take_varint(&mut payload)?;
    // A heartbeat has at least two bytes, so `beats` never allocates more than the payload justifies.
    if count > payload.len() as u64 / 2 {
        return Err(Malformed::CutOff);
    }
    let mut beats = Vec::new();
    let mut id = 0u64;
    for _ in 0..count {
        id = id.checked_add(take_varint(&mut payload)?).ok_or(Malformed::OutOfRange)?;
        let age = u32::try_from(take_varint(&mut payload)?).map_err(|_| Malformed::OutOfRange)?;
        beats.push((id, age));
    }
    Ok(Segment { first, sequence, beats })
}

fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(Malformed::CutOff)?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed::OutOfRange)
}

fn varint_length(number: u64) -> usize {
    let bits = 64 - number.leading_zeros() as usize;
    bits.div_ceil(7).max(1)
}

/// Splits a ledger whose segments take more than `most` bytes. Returns the parts, which are written first,
/// and the header with the remaining segments. Nearly all ledgers have no parts.
#[must_use]
pub fn part(mut ledger: Ledger, most: usize) -> (Vec<Part>, Ledger) {
    let mut bundles = bundles(std::mem::take(&mut ledger.segments), most);
    ledger.segments = bundles.pop().unwrap_or_default();
    let (replica, boot, sequence) = (ledger.replica.clone(), ledger.boot.clone(), ledger.sequence);
    let part = |(at, segments)| Part {
        replica: replica.clone(),
        boot: boot.clone(),
        sequence,
        number: at + 1,
        segments,
    };
    (bundles.into_iter().enumerate().map(part).collect(), ledger)
}

/// Groups segments into bundles of at most `most` bytes; a larger segment is split.
fn bundles(segments: Vec<Segment>, most: usize) -> Vec<Vec<Segment>> {
    let mut bundles = Vec::new();
    let (mut bundle, mut size) = (Vec::new(), 1);
    for segment in segments {
        let (first, sequence) = (segment.first, segment.sequence);
        let mut piece = Segment { first, sequence, beats: Vec::new() };
        let mut before = 0;
        size += FRAME;
        for (id, age) in segment.beats {
            let beat = varint_length(id - before) + varint_length(u64::from(age));
            if size + beat > most && size > 1 + FRAME {
                let full = Segment { first, sequence, beats: std::mem::take(&mut piece.beats) };
                bundle.push(full);
                bundles.push(std::mem::take(&mut bundle));
                size = 1 + FRAME + varint_length(id);
            } else {
                size += beat;
            }
            piece.beats.push((id, age));
            before = id;
        }
        bundle.push(piece);
    }
    bundles.push(bundle);
    bundles
}

/// Joins a header that announces `count` parts with the parts that were read. Returns `None` if a part is
/// missing or already belongs to a later ledger, whose header will follow.
#[must_use]
pub fn join(mut header: Ledger, count: usize, read: &[Part]) -> Option<Ledger> {
    let mut segments = Vec::new();
    for number in 1..=count {
        let part = read.iter().find(|part| {
            part.number == number
                && part.sequence == header.sequence
                && part.boot == header.boot
                && part.replica == header.replica
        })?;
        segments.extend(part.segments.iter().cloned());
    }
    segments.append(&mut header.segments);
    header.segments = join_pieces(segments);
    Some(header)
}

/// Joins the pieces of each segment.
fn join_pieces(pieces: Vec<Segment>) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for piece in pieces {
        match segments.last_mut() {
            Some(last) if last.sequence == piece.sequence => last.beats.extend(piece.beats),
            _ => segments.push(piece),
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segments() -> impl Strategy<Value = Vec<Segment>> {
        let beats = prop::collection::btree_map(any::<u64>(), any::<u32>(), 0..40);
        let one = (any::<u32>(), 0u64..4, beats).prop_map(|(first, more, beats)| Segment {
            first: u64::from(first),
            sequence: u64::from(first) + more,
            beats: beats.into_iter().collect(),
        });
        // Each sequence occurs once, as in a ledger.
        prop::collection::vec(one, 0..6).prop_map(|mut segments| {
            segments.sort_by_key(|segment| segment.sequence);
            segments.dedup_by_key(|segment| segment.sequence);
            segments
        })
    }

    proptest! {
        #[test]
        fn segments_survive_encoding_and_decoding(segments in segments()) {
            prop_assert_eq!(decode(&encode(&segments)), Ok(segments));
        }

        #[test]
        fn decoding_garbage_does_not_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            if let Some(version) = bytes.first_mut() {
                *version = VERSION;
            }
            let _ = decode(&bytes);
        }

        #[test]
        fn decoding_damaged_segments_does_not_panic(segments in segments(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = encode(&segments);
            let at = at.index(bytes.len());
            let _ = decode(&bytes[..at]);
            bytes[at] ^= 1u8 << bit;
            let _ = decode(&bytes);
        }

        #[test]
        fn records_of_a_later_version_are_skipped(segments in segments(), tag in 2u64..1000, more in prop::collection::vec(any::<u8>(), 0..50)) {
            let mut bytes = vec![VERSION];
            put_varint(&mut bytes, tag);
            put_varint(&mut bytes, more.len() as u64);
            bytes.extend(&more);
            bytes.extend(&encode(&segments)[1..]);
            prop_assert_eq!(decode(&bytes), Ok(segments));
        }

        #[test]
        fn parts_respect_the_limit_and_join_to_the_ledger(segments in segments(), most in 60usize..400) {
            let header = Ledger { sequence: 9, segments, ..Ledger::default() };
            let (parts, head) = part(header.clone(), most);
            for part in &parts {
                prop_assert!(encode(&part.segments).len() <= most.max(1 + 3 * FRAME));
            }
            prop_assert_eq!(join(head.clone(), parts.len(), &parts), Some(header));
            if !parts.is_empty() {
                prop_assert_eq!(join(head, parts.len(), &parts[1..]), None);
            }
        }
    }

    #[test]
    fn encoded_heartbeat_takes_nine_or_ten_bytes() {
        for (count, most) in [(1_000u64, 10.0), (100_000, 9.1)] {
            let mut beats: Vec<_> =
                (0..count).map(|i| (crate::ledger::id(&i.to_string()), 4_000)).collect();
            beats.sort_unstable();
            let bytes = encode(&[Segment { first: 1, sequence: 1, beats }]).len();
            assert!(bytes as f64 / count as f64 <= most + 0.1, "{bytes} for {count}");
        }
    }
}
