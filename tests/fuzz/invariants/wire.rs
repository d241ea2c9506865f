//! A second reader of messages, stricter than hickory's: no octet that nobody counts.
//!
//! Owns: the shape of a message (RFC 1035 §4.1). Does not own: what its records mean (hickory).

/// Fails unless the message is exactly what its counts say, every name is one, and every pointer
/// leads to the start of an earlier label.
pub(crate) fn must_be_whole(message: &[u8]) {
    let counts: Vec<u16> = (2..6).map(|at| word(message, at * 2)).collect();
    let mut reader = Reader { message, at: 12, labels: Vec::new() };
    for _ in 0..counts[0] {
        reader.name();
        reader.at += 4;
    }
    for _ in 0..counts[1] + counts[2] + counts[3] {
        reader.record();
    }
    assert_eq!(reader.at, message.len(), "octets behind the last record");
}

pub(crate) fn word(message: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([message[at], message[at + 1]])
}

struct Reader<'m> {
    message: &'m [u8],
    at: usize,
    /// Where labels begin.
    labels: Vec<usize>,
}

impl Reader<'_> {
    fn record(&mut self) {
        self.name();
        let (kind, length) = (word(self.message, self.at), word(self.message, self.at + 8));
        self.at += 10;
        let end = self.at + usize::from(length);
        match kind {
            2 | 5 | 12 => self.name(),
            6 => {
                self.name();
                self.name();
                self.at += 20;
            }
            33 => {
                let target = self.at + 6;
                self.at = target;
                self.name();
                assert!(!self.message[target..end].contains(&0xc0), "a target is compressed");
            }
            _ => self.at = end,
        }
        assert_eq!(self.at, end, "a record of type {kind} is not as long as it says");
    }

    fn name(&mut self) {
        // Labels of this very name may not be pointed to from within it.
        let mut own = Vec::new();
        let mut octets = 1;
        loop {
            let length = usize::from(self.message[self.at]);
            match length {
                0 => {
                    self.at += 1;
                    break;
                }
                1..=63 => {
                    own.push(self.at);
                    octets += 1 + length;
                    self.at += 1 + length;
                }
                192.. => {
                    let to = usize::from(word(self.message, self.at) & 0x3fff);
                    assert!(self.labels.contains(&to), "a pointer to {to}, where no label begins");
                    octets += self.length_from(to);
                    self.at += 2;
                    break;
                }
                _ => panic!("no label begins with {length}"),
            }
        }
        assert!(octets <= 255, "a name of {octets} octets");
        self.labels.extend(own);
    }

    /// Octets of what a pointer leads to, without the root.
    fn length_from(&self, mut at: usize) -> usize {
        let mut octets = 0;
        loop {
            match usize::from(self.message[at]) {
                0 => return octets,
                length @ 1..=63 => {
                    octets += 1 + length;
                    at += 1 + length;
                }
                _ => at = usize::from(word(self.message, at) & 0x3fff),
            }
        }
    }
}
