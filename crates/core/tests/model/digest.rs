//! The digest of a world: a hash of its `Debug` text that ignores the order of maps and sets.
//!
//! Owns: hashing the text while it is written, without storing it. Does not own: what is written (`world`).
//!
//! The same code writes equal values in the same pieces, so each piece is hashed separately.
//!
//! All types of the state machine derive `Debug` for every field, so the text contains everything that the
//! future depends on. A field without influence on the future (a count, a report) only keeps equivalent worlds
//! apart, which costs time and hides nothing. Braces enclose fields, or the entries of maps and sets, whose
//! order has no meaning; brackets and parentheses enclose ordered values. The heap of timers is the only list
//! whose order has no meaning: it always returns its least entry.

use std::fmt::{self, Write};

/// The braces, brackets or parentheses around the current text.
struct Frame {
    ordered: bool,
    sum: u64,
    /// The hash of the current element so far.
    element: u64,
}

/// Hashes `Debug` text.
pub struct Digest {
    /// The innermost frame.
    frame: Frame,
    /// The frames around it.
    around: Vec<Frame>,
    quoted: bool,
    escaped: bool,
    /// The hash of the field name `heap:`.
    heap: u64,
}

impl Digest {
    /// The digest of the text that `write` writes.
    pub fn of(write: impl FnOnce(&mut Self) -> fmt::Result) -> u64 {
        let mut digest = Self::new();
        write(&mut digest).unwrap();
        assert!(digest.around.is_empty() && !digest.quoted, "this is not complete `Debug` text");
        digest.close()
    }

    fn new() -> Self {
        let mut heap = Frame::new(true);
        heap.add_all(b"heap");
        heap.add_all(b":");
        let (frame, around) = (Frame::new(true), Vec::new());
        Self { frame, around, quoted: false, escaped: false, heap: heap.element }
    }

    fn open(&mut self, ordered: bool) {
        let outer = std::mem::replace(&mut self.frame, Frame::new(ordered));
        self.around.push(outer);
    }

    fn close(&mut self) -> u64 {
        self.frame.next();
        scramble(self.frame.sum ^ u64::from(self.frame.ordered))
    }

    /// Hashes the text up to the next byte with a meaning, and that byte. Returns the rest.
    fn take<'t>(&mut self, text: &'t [u8]) -> &'t [u8] {
        let quoted = self.quoted;
        let ends_text = |byte: &u8| match quoted {
            true => matches!(byte, b'"' | b'\\'),
            false => is_delimiter(*byte),
        };
        // An escaped byte is text.
        let plain = match std::mem::take(&mut self.escaped) {
            true => 1,
            false => text.iter().position(ends_text).unwrap_or(text.len()),
        };
        let (before, rest) = text.split_at(plain);
        self.frame.add_all(before);
        let Some((delimiter, rest)) =
            rest.split_first().filter(|(delimiter, _)| ends_text(delimiter))
        else {
            return rest;
        };
        if self.quoted {
            self.frame.add(u64::from(*delimiter));
            (self.quoted, self.escaped) = (*delimiter != b'"', *delimiter == b'\\');
            return rest;
        }
        match delimiter {
            b' ' | b'\n' => {}
            b',' => self.frame.next(),
            b'{' => self.open(false),
            b'[' | b'(' => self.open(self.frame.element != self.heap),
            b'"' => self.quoted = true,
            _ => {
                let inside = self.close();
                self.frame = self.around.pop().unwrap();
                self.frame.add(inside);
            }
        }
        rest
    }
}

fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b',' | b'{' | b'[' | b'(' | b'}' | b']' | b')' | b'"')
}

impl Frame {
    fn new(ordered: bool) -> Self {
        Self { ordered, sum: 0, element: 0 }
    }

    fn add(&mut self, value: u64) {
        self.element = mix(self.element, value);
    }

    fn add_all(&mut self, text: &[u8]) {
        for piece in text.chunks(8) {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            self.add(u64::from_le_bytes(word));
        }
    }

    fn next(&mut self) {
        let element = scramble(std::mem::take(&mut self.element));
        self.sum =
            if self.ordered { mix(self.sum, element) } else { self.sum.wrapping_add(element) };
    }
}

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            rest = self.take(rest);
        }
        Ok(())
    }
}

fn mix(sum: u64, value: u64) -> u64 {
    (sum.rotate_left(5) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn scramble(value: u64) -> u64 {
    let value = (value ^ (value >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (value ^ (value >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BinaryHeap, HashMap, HashSet};

    fn of(value: &impl fmt::Debug) -> u64 {
        Digest::of(|to| write!(to, "{value:?}"))
    }

    #[test]
    fn order_matters_in_lists_and_not_in_maps_and_sets() {
        let many = 0..500;
        let (ab, ba): (HashMap<_, _>, HashMap<_, _>) = (
            many.clone().map(|i| (i, [i])).collect(),
            many.clone().rev().map(|i| (i, [i])).collect(),
        );
        assert_eq!(of(&ab), of(&ba));
        let (set, other): (HashSet<_>, HashSet<_>) = (many.clone().collect(), many.rev().collect());
        assert_eq!(of(&set), of(&other));
        assert_ne!(of(&[1, 2]), of(&[2, 1]));
        assert_ne!(of(&(1, 2)), of(&(2, 1)));
    }

    #[test]
    fn different_texts_have_different_digests() {
        #[derive(Debug)]
        struct Heap {
            heap: BinaryHeap<u8>,
        }
        let heap = |items: [u8; 3]| Heap { heap: items.into_iter().collect() };
        let fields: Vec<_> = heap([1, 2, 3]).heap.into_vec();
        assert_eq!(of(&heap([1, 2, 3])), of(&heap([3, 2, 1])));
        let all = [
            of(&heap([1, 2, 3])),
            of(&heap([1, 2, 4])),
            of(&fields),
            of(&"a, b"),
            of(&["a", "b"]),
            of(&"{\"} \\"),
            of(&[Some(1), None]),
            of(&[None, Some(1)]),
            of(&[vec![1], vec![]]),
            of(&[vec![], vec![1]]),
            of(&[[1, 2], [3, 4]]),
            of(&HashMap::from([("a", 1), ("b", 2)])),
            of(&HashMap::from([("a", 2), ("b", 1)])),
        ];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }
}
