//! Arbitrary bytes as the segments of a ledger, as a watch could deliver them.
//!
//! Owns: the invariants of decoding, encoding, splitting and joining. Does not own: the format (`rollcall_core::codec`).

use rollcall_core::{
    codec::{decode, encode, join, part},
    ledger::Ledger,
};

/// Segments that can be decoded are the same after encoding and decoding, and after splitting and joining.
pub(crate) fn check(input: &[u8]) {
    let Some((most, bytes)) = input.split_first() else { return };
    let Ok(segments) = decode(bytes) else { return };
    assert_eq!(decode(&encode(&segments)), Ok(segments.clone()));
    // A ledger has one segment for each sequence.
    if segments.windows(2).any(|pair| pair[0].sequence == pair[1].sequence) {
        return;
    }
    let header = Ledger { sequence: 9, segments, ..Ledger::default() };
    let (parts, head) = part(header.clone(), 60 + usize::from(*most));
    assert_eq!(join(head, parts.len(), &parts), Some(header));
}
