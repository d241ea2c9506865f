//! A second decoder of messages, stricter than hickory: every byte must belong to a counted record.
//!
//! Owns: the structure of a message (RFC 1035 §4.1). Does not own: the content of its records (hickory).

/// Panics unless the message has exactly the records that it counts, every name is valid, and every pointer leads to the
/// start of an earlier label.
pub(crate) fn assert_well_formed(message: &[u8]) {
    let counts: Vec<u16> = (2..6).map(|at| word(message, at * 2)).collect();
    let mut reader = Reader { message, at: 12, labels: Vec::new() };
    for _ in 0..counts[0] {
        reader.skip_name();
        reader.at += 4;
    }
    for _ in 0..counts[1] + counts[2] + counts[3] {
        reader.skip_record();
    }
    assert_eq!(reader.at, message.len(), "bytes after the last record");
}

pub(crate) fn word(message: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([message[at], message[at + 1]])
}

struct Reader<'m> {
    message: &'m [u8],
    at: usize,
    /// The offsets of labels.
    labels: Vec<usize>,
}

impl Reader<'_> {
    fn skip_record(&mut self) {
        self.skip_name();
        let (kind, length) = (word(self.message, self.at), word(self.message, self.at + 8));
        self.at += 10;
        let end = self.at + usize::from(length);
        match kind {
            2 | 5 | 12 => self.skip_name(),
            6 => {
                self.skip_name();
                self.skip_name();
                self.at += 20;
            }
            33 => {
                let target = self.at + 6;
                self.at = target;
                self.skip_name();
                assert!(!self.message[target..end].contains(&0xc0), "an SRV target is compressed");
            }
            _ => self.at = end,
        }
        assert_eq!(self.at, end, "the length of a record of type {kind} is wrong");
    }

    fn skip_name(&mut self) {
        // A pointer in a name cannot lead to a label of the same name.
        let mut own = Vec::new();
        let mut bytes = 1;
        loop {
            let length = usize::from(self.message[self.at]);
            match length {
                0 => {
                    self.at += 1;
                    break;
                }
                1..=63 => {
                    own.push(self.at);
                    bytes += 1 + length;
                    self.at += 1 + length;
                }
                192.. => {
                    let to = usize::from(word(self.message, self.at) & 0x3fff);
                    assert!(
                        self.labels.contains(&to),
                        "a pointer to {to}, which is not the start of a label"
                    );
                    bytes += self.length_from(to);
                    self.at += 2;
                    break;
                }
                _ => panic!("{length} is not a valid label length"),
            }
        }
        assert!(bytes <= 255, "a name of {bytes} bytes");
        self.labels.extend(own);
    }

    /// The length of the name at an offset, without the root.
    fn length_from(&self, mut at: usize) -> usize {
        let mut bytes = 0;
        loop {
            match usize::from(self.message[at]) {
                0 => return bytes,
                length @ 1..=63 => {
                    bytes += 1 + length;
                    at += 1 + length;
                }
                _ => at = usize::from(word(self.message, at) & 0x3fff),
            }
        }
    }
}
