//! The bytes of a ledger's segments, and how a ledger that is too large for one object is parted.
//!
//! ```text
//! bytes    = 1 (the version), then records
//! record   = tag, length of what follows, payload      other tags are skipped
//! segment  = record with tag 1:
//!            first, sequence − first, number of beats,
//!            then for each beat, by rising id: id − the id before (first: id − 0), age in ms;
//!            what follows in the payload is skipped
//! ```
//!
//! Every number is a varint: seven bits a byte, low ones first, the high bit set on all but the last.
//! A beat takes 9 or 10 bytes: 7 or 8 for the difference of two sorted 64-bit hashes (7 from 30,000
//! beats on), 2 for an age up to 16 s.
//!
//! Parts carry segments only, and are written first; the object with the header comes last, when
//! they are acknowledged. So whoever sees a header could have seen all that it speaks for.

use std::sync::Arc;

use crate::ledger::{Ledger, Segment};

/// The version that is written, and the only one that is read.
const VERSION: u8 = 1;

/// The tag of a segment.
const SEGMENT: u64 = 1;

/// The most bytes of segments in one object.
pub const MOST: usize = 200 * 1024;

/// Further objects of one ledger at most, as the definition says: some 1.4 million beats.
pub const MOST_PARTS: usize = 64;

/// The bytes of a segment beside its beats, at most: tag, length and three numbers.
const FRAME: usize = 1 + 4 * 10;

/// Bytes that are no segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Written by a version that shares nothing with this one.
    #[error("segments of version {0}; this is version {VERSION}")]
    Version(u8),
    /// Cut off, or no numbers at all.
    #[error("segments end in the middle of a number or a record")]
    CutOff,
    /// A number that is too large for what it counts.
    #[error("segments hold a number that is out of range")]
    OutOfRange,
}

/// Segments of one ledger that had no room beside its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Whose.
    pub replica: Arc<str>,
    /// Of which process.
    pub boot: Arc<str>,
    /// Of which ledger.
    pub sequence: u64,
    /// Which part of it, from 1.
    pub number: usize,
    /// The beats.
    pub segments: Vec<Segment>,
}

/// Segments as bytes.
#[must_use]
pub fn encode(segments: &[Segment]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    let mut payload = Vec::new();
    for segment in segments {
        payload.clear();
        put(&mut payload, segment.first);
        put(&mut payload, segment.sequence.saturating_sub(segment.first));
        put(&mut payload, segment.beats.len() as u64);
        let mut before = 0;
        for (id, age) in &segment.beats {
            put(&mut payload, id.wrapping_sub(before));
            put(&mut payload, u64::from(*age));
            before = *id;
        }
        put(&mut bytes, SEGMENT);
        put(&mut bytes, payload.len() as u64);
        bytes.extend_from_slice(&payload);
    }
    bytes
}

/// Segments from bytes.
///
/// # Errors
/// [`Malformed`] says in what way they are none.
pub fn decode(bytes: &[u8]) -> Result<Vec<Segment>, Malformed> {
    let (version, mut rest) = bytes.split_first().ok_or(Malformed::CutOff)?;
    if *version != VERSION {
        return Err(Malformed::Version(*version));
    }
    let mut segments = Vec::new();
    while !rest.is_empty() {
        let tag = take(&mut rest)?;
        let length = usize::try_from(take(&mut rest)?).map_err(|_| Malformed::OutOfRange)?;
        let (payload, after) = rest.split_at_checked(length).ok_or(Malformed::CutOff)?;
        if tag == SEGMENT {
            segments.push(segment(payload)?);
        }
        rest = after;
    }
    Ok(segments)
}

fn segment(mut payload: &[u8]) -> Result<Segment, Malformed> {
    let first = take(&mut payload)?;
    let sequence = first.checked_add(take(&mut payload)?).ok_or(Malformed::OutOfRange)?;
    let count = take(&mut payload)?;
    // A beat has two bytes at least: nobody makes room for more than are there.
    if count > payload.len() as u64 / 2 {
        return Err(Malformed::CutOff);
    }
    let mut beats = Vec::new();
    let mut id = 0u64;
    for _ in 0..count {
        id = id.checked_add(take(&mut payload)?).ok_or(Malformed::OutOfRange)?;
        let age = u32::try_from(take(&mut payload)?).map_err(|_| Malformed::OutOfRange)?;
        beats.push((id, age));
    }
    Ok(Segment { first, sequence, beats })
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Result<u64, Malformed> {
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

fn length(number: u64) -> usize {
    let bits = 64 - number.leading_zeros() as usize;
    bits.div_ceil(7).max(1)
}

/// Parts a ledger whose segments take more than `most` bytes: the parts to be written first, and
/// the header, which then carries what had room. Nearly all ledgers have no parts.
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

/// Segments in bundles of at most `most` bytes; one that is larger is cut in pieces.
fn bundles(segments: Vec<Segment>, most: usize) -> Vec<Vec<Segment>> {
    let mut bundles = Vec::new();
    let (mut bundle, mut size) = (Vec::new(), 1);
    for segment in segments {
        let (first, sequence) = (segment.first, segment.sequence);
        let mut piece = Segment { first, sequence, beats: Vec::new() };
        let mut before = 0;
        size += FRAME;
        for (id, age) in segment.beats {
            let beat = length(id - before) + length(u64::from(age));
            if size + beat > most && size > 1 + FRAME {
                let full = Segment { first, sequence, beats: std::mem::take(&mut piece.beats) };
                bundle.push(full);
                bundles.push(std::mem::take(&mut bundle));
                size = 1 + FRAME + length(id);
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

/// A ledger whose header said that it has `count` parts, with those of them that were read. None when
/// one is missing, or is already of a later ledger: that one's header will follow.
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
    header.segments = whole(segments);
    Some(header)
}

/// Pieces of one segment become one again.
fn whole(pieces: Vec<Segment>) -> Vec<Segment> {
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
        // One sequence once, as in a ledger.
        prop::collection::vec(one, 0..6).prop_map(|mut segments| {
            segments.sort_by_key(|segment| segment.sequence);
            segments.dedup_by_key(|segment| segment.sequence);
            segments
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(segments in segments()) {
            prop_assert_eq!(decode(&encode(&segments)), Ok(segments));
        }

        #[test]
        fn garbage_is_an_error_or_something_but_no_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            if let Some(version) = bytes.first_mut() {
                *version = VERSION;
            }
            let _ = decode(&bytes);
        }

        #[test]
        fn a_cut_or_a_flipped_bit_is_no_panic(segments in segments(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = encode(&segments);
            let at = at.index(bytes.len());
            let _ = decode(&bytes[..at]);
            bytes[at] ^= 1u8 << bit;
            let _ = decode(&bytes);
        }

        #[test]
        fn fields_of_a_later_version_are_skipped(segments in segments(), tag in 2u64..1000, more in prop::collection::vec(any::<u8>(), 0..50)) {
            let mut bytes = vec![VERSION];
            put(&mut bytes, tag);
            put(&mut bytes, more.len() as u64);
            bytes.extend(&more);
            bytes.extend(&encode(&segments)[1..]);
            prop_assert_eq!(decode(&bytes), Ok(segments));
        }

        #[test]
        fn parts_keep_to_the_limit_and_are_joined_again(segments in segments(), most in 60usize..400) {
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
    fn a_beat_takes_nine_or_ten_bytes() {
        for (count, most) in [(1_000u64, 10.0), (100_000, 9.1)] {
            let mut beats: Vec<_> =
                (0..count).map(|i| (crate::ledger::id(&i.to_string()), 4_000)).collect();
            beats.sort_unstable();
            let bytes = encode(&[Segment { first: 1, sequence: 1, beats }]).len();
            assert!(bytes as f64 / count as f64 <= most + 0.1, "{bytes} for {count}");
        }
    }
}
