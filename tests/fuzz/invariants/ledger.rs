//! The bytes of a ledger's segments: whatever a watch delivers.
//!
//! Owns: what must hold of reading, writing, parting and joining. Does not own: the format
//! (`rollcall_core::codec`).

use rollcall_core::{
    codec::{decode, encode, join, part},
    ledger::Ledger,
};

/// What can be read is written and read again as it was; parted, it is joined again.
pub(crate) fn check(input: &[u8]) {
    let Some((most, bytes)) = input.split_first() else { return };
    let Ok(segments) = decode(bytes) else { return };
    assert_eq!(decode(&encode(&segments)), Ok(segments.clone()));
    // In a ledger a sequence has one segment.
    if segments.windows(2).any(|pair| pair[0].sequence == pair[1].sequence) {
        return;
    }
    let header = Ledger { sequence: 9, segments, ..Ledger::default() };
    let (parts, head) = part(header.clone(), 60 + usize::from(*most));
    assert_eq!(join(head, parts.len(), &parts), Some(header));
}
