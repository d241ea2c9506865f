//! Going through the records of a message that somebody else wrote.
//!
//! Owns: where each one begins and ends (RFC 1035 §4.1). Of what is in them it knows only the serial of a SOA:
//! a query may hold records of types and options that nobody has thought of yet, and is answered all the same
//! (RFC 3597 §3, RFC 6891 §6.1.2). Does not own: what they mean (`query`, `edns`).

/// From here on a label is none: two bits say how a name goes on elsewhere (RFC 1035 §4.1.4).
const POINTER: u8 = 0xc0;

/// The highest length of a label.
const MAX_LABEL: u8 = 63;

/// Octets at the end of a SOA that are no names, of which the serial is first.
const TIMERS: usize = 20;

/// What is left of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<'m>(pub(super) &'m [u8]);

/// A record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'m> {
    /// Whether the root owns it.
    pub(super) is_root: bool,
    pub(super) kind: u16,
    pub(super) class: u16,
    pub(super) ttl: u32,
    pub(super) data: &'m [u8],
}

impl<'m> Walk<'m> {
    /// Steps over a question; none when it is cut off.
    pub(super) fn question(&mut self) -> Option<()> {
        self.name()?;
        self.take(4).map(drop)
    }

    /// Steps over a record; none when it is cut off.
    pub(super) fn record(&mut self) -> Option<Entry<'m>> {
        let is_root = self.name()?;
        let (kind, class) = (self.word()?, self.word()?);
        let ttl = u32::from(self.word()?) << 16 | u32::from(self.word()?);
        let length = self.word()?;
        let data = self.take(length.into())?;
        Some(Entry { is_root, kind, class, ttl, data })
    }

    /// Steps over a name; whether it is the root's.
    fn name(&mut self) -> Option<bool> {
        let mut is_root = true;
        loop {
            match self.octet()? {
                0 => return Some(is_root),
                length @ 1..=MAX_LABEL => drop(self.take(length.into())?),
                POINTER.. => {
                    self.octet()?;
                    return Some(false);
                }
                _ => return None,
            }
            is_root = false;
        }
    }

    /// Two octets: a number, in the order of the network.
    pub(super) fn word(&mut self) -> Option<u16> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*word))
    }

    /// So many octets; none when there are fewer.
    pub(super) fn take(&mut self, length: usize) -> Option<&'m [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn octet(&mut self) -> Option<u8> {
        let (octet, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*octet)
    }
}

impl Entry<'_> {
    /// The serial of a SOA; none of any other record.
    pub(super) fn serial(&self) -> Option<u32> {
        const SOA: u16 = 6;
        let [a, b, c, d, ..] = *self.data.last_chunk::<TIMERS>()?;
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
        /// What another library has written, with names that point to each other, ends where it ends.
        #[test]
        fn the_end_of_the_last_record_is_the_end_of_the_message(
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
            let octets = message.to_vec().unwrap();
            let mut walk = Walk(&octets[12..]);
            walk.question().unwrap();
            for (owner, _, serial, ttl) in &records {
                let record = walk.record().unwrap();
                prop_assert_eq!((record.serial(), record.ttl), (Some(*serial), ttl >> 1));
                prop_assert_eq!(record.is_root, owner.is_root());
            }
            prop_assert!(walk.0.is_empty());
            // No octet can be missed.
            let (mut cut, end) = (Walk(&octets[12..octets.len() - 1]), records.len());
            let whole = cut.question().is_some() && (0..end).all(|_| cut.record().is_some());
            prop_assert!(!whole);
        }
    }
}
