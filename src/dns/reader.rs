//! Reads the records of a received message without decoding them.
//!
//! Owns: the boundaries of names and records (RFC 1035 §4.1), and the serial of a SOA. Other data stays undecoded, because
//! a query with records or options of unknown types must still be answered (RFC 3597 §3, RFC 6891 §6.1.2). Does not own:
//! the meaning of records (`query`, `edns`).

/// A length byte with both upper bits set is a compression pointer (RFC 1035 §4.1.4).
const POINTER: u8 = 0xc0;

/// The maximum length of a label.
const MAX_LABEL: u8 = 63;

/// The fixed part at the end of a SOA, which begins with the serial.
const SOA_FIXED: usize = 20;

/// The part of a message that is not read yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageReader<'m>(pub(super) &'m [u8]);

/// A record with undecoded data.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawRecord<'m> {
    /// Whether the owner is the root.
    pub(super) is_root: bool,
    pub(super) kind: u16,
    pub(super) class: u16,
    pub(super) ttl: u32,
    pub(super) data: &'m [u8],
}

impl<'m> MessageReader<'m> {
    /// Skips a question. `None` when it is cut off.
    pub(super) fn skip_question(&mut self) -> Option<()> {
        self.skip_name()?;
        self.read_bytes(4).map(drop)
    }

    /// Reads a record. `None` when it is cut off.
    pub(super) fn read_record(&mut self) -> Option<RawRecord<'m>> {
        let is_root = self.skip_name()?;
        let (kind, class) = (self.read_u16()?, self.read_u16()?);
        let ttl = u32::from(self.read_u16()?) << 16 | u32::from(self.read_u16()?);
        let length = self.read_u16()?;
        let data = self.read_bytes(length.into())?;
        Some(RawRecord { is_root, kind, class, ttl, data })
    }

    /// Skips a name. Returns whether it is the root.
    fn skip_name(&mut self) -> Option<bool> {
        let mut is_root = true;
        loop {
            match self.read_u8()? {
                0 => return Some(is_root),
                length @ 1..=MAX_LABEL => drop(self.read_bytes(length.into())?),
                POINTER.. => {
                    self.read_u8()?;
                    return Some(false);
                }
                _ => return None,
            }
            is_root = false;
        }
    }

    /// Reads a number in network byte order.
    pub(super) fn read_u16(&mut self) -> Option<u16> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*bytes))
    }

    /// Reads this many bytes. `None` when there are fewer.
    pub(super) fn read_bytes(&mut self, length: usize) -> Option<&'m [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn read_u8(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }
}

impl RawRecord<'_> {
    /// The serial, if the record is a SOA.
    pub(super) fn serial(&self) -> Option<u32> {
        const SOA: u16 = 6;
        let [a, b, c, d, ..] = *self.data.last_chunk::<SOA_FIXED>()?;
        (self.kind == SOA).then(|| u32::from_be_bytes([a, b, c, d]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::{
        op::{Message, MessageType, OpCode, Query},
        rr::{Name, RData, Record, RecordType, rdata::SOA},
    };
    use proptest::prelude::*;

    fn name() -> impl Strategy<Value = Name> {
        let label = prop::sample::select(vec!["a", "Bb", "shop", "_tcp", "a-rather-long-label"]);
        prop::collection::vec(label, 0..6)
            .prop_map(|labels| Name::from_labels(labels.iter().map(|l| l.as_bytes())).unwrap())
    }

    proptest! {
        /// Messages that another library encodes, with compressed names, are read to their exact end.
        #[test]
        fn reading_ends_with_the_last_record(
            question in name(),
            records in prop::collection::vec((name(), name(), any::<u32>(), any::<u32>()), 0..12),
        ) {
            let mut message = Message::new(1, MessageType::Query, OpCode::Query);
            message.add_query(Query::query(question, RecordType::IXFR));
            for (owner, mname, serial, ttl) in &records {
                let soa = SOA::new(mname.clone(), owner.clone(), *serial, 1, 2, 3, 4);
                let ttl = ttl >> 1;
                message.add_authority(Record::from_rdata(owner.clone(), ttl, RData::SOA(soa)));
            }
            let bytes = message.to_vec().unwrap();
            let mut reader = MessageReader(&bytes[12..]);
            reader.skip_question().unwrap();
            for (owner, _, serial, ttl) in &records {
                let record = reader.read_record().unwrap();
                prop_assert_eq!((record.serial(), record.ttl), (Some(*serial), ttl >> 1));
                prop_assert_eq!(record.is_root, owner.is_root());
            }
            prop_assert!(reader.0.is_empty());
            // With one byte less, reading fails.
            let (mut truncated, end) = (MessageReader(&bytes[12..bytes.len() - 1]), records.len());
            let whole = truncated.skip_question().is_some() && (0..end).all(|_| truncated.read_record().is_some());
            prop_assert!(!whole);
        }
    }
}
