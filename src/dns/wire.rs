//! Encodes messages, record by record, within a size limit.
//!
//! Owns: the encoding of the record types of this server (RFC 1035 §4.1), and name compression for any number of names.
//! Hickory stops compressing after a few hundred names, so large sets would not fit. SRV targets are never compressed
//! (RFC 2782). Does not own: choosing records, and what happens when they do not fit (`fit`).

use std::collections::HashMap;

use hickory_proto::rr::{Name, RData, Record};

/// The length of a header in bytes (RFC 1035 §4.1.1).
pub const HEADER_LEN: usize = 12;

/// The maximum offset of a compression pointer, which has 14 bits (RFC 1035 §4.1.4).
const MAX_POINTER: usize = 0x3fff;
const POINTER: u16 = 0xc000;

/// The class of all records (RFC 1035 §3.2.4).
const CLASS_IN: u16 = 1;

/// The sections of a message after the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The answer section.
    Answer,
    /// The authority section, with the SOA of a negative answer.
    Authority,
    /// The additional section, with addresses of SRV targets.
    Additional,
}

/// The header of a response, without counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The ID of the query.
    pub id: u16,
    /// The second word, from QR to RCODE.
    pub flags: u16,
}

/// The question that a response repeats.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Its name, with the letter case of the query (0x20).
    pub name: &'a Name,
    /// The whole question as it was received.
    pub bytes: &'a [u8],
}

/// Encodes one message.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    limit: usize,
    /// The offset of each name already written; the key is its wire format in lower case.
    names: HashMap<Box<[u8]>, u16>,
    counts: [u16; 4],
}

impl Writer {
    /// Starts a message of at most `limit` bytes, with this question if there is one.
    #[must_use]
    pub fn new(question: Option<Question<'_>>, limit: usize) -> Self {
        let mut bytes = Vec::with_capacity(limit.min(1024));
        bytes.extend([0; HEADER_LEN]);
        let mut writer = Self { bytes, limit, names: HashMap::new(), counts: [0; 4] };
        if let Some(Question { name, bytes }) = question {
            // Writing the name registers its offsets. The received bytes then replace it, so that names that point to
            // it have the letter case of the query (0x20).
            writer.write_name(name, true);
            writer.bytes.truncate(HEADER_LEN);
            writer.bytes.extend_from_slice(bytes);
            writer.counts[0] = 1;
        }
        writer
    }

    /// The number of bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no record has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.iter().skip(1).all(|count| *count == 0)
    }

    /// Writes a record if it fits; otherwise changes nothing and returns false.
    pub fn write_record(&mut self, section: Section, record: &Record) -> bool {
        self.write_all(section, std::slice::from_ref(record))
    }

    /// Writes records if all of them fit; otherwise changes nothing and returns false.
    pub fn write_all(&mut self, section: Section, records: &[Record]) -> bool {
        let start = self.bytes.len();
        let written = records.iter().all(|record| {
            let written = self.encode(record);
            written.is_some() && self.bytes.len() <= self.limit
        });
        let count = match section {
            Section::Answer => &mut self.counts[1],
            Section::Authority => &mut self.counts[2],
            Section::Additional => &mut self.counts[3],
        };
        let new_count =
            u16::try_from(records.len()).ok().and_then(|added| count.checked_add(added));
        match new_count {
            Some(new_count) if written => *count = new_count,
            _ => {
                self.bytes.truncate(start);
                self.names.retain(|_, at| usize::from(*at) < start);
                return false;
            }
        }
        true
    }

    /// The encoded message. The caller has subtracted the length of the OPT from the limit.
    #[must_use]
    pub fn finish(mut self, header: Header, opt: Option<&[u8]>) -> Vec<u8> {
        if let Some(opt) = opt {
            self.bytes.extend_from_slice(opt);
            self.counts[3] = self.counts[3].saturating_add(1);
        }
        let words = [header.id, header.flags].into_iter().chain(self.counts);
        let (pairs, _) = self.bytes.as_chunks_mut::<2>();
        pairs.iter_mut().zip(words).for_each(|(to, word)| *to = word.to_be_bytes());
        self.bytes
    }

    fn encode(&mut self, record: &Record) -> Option<()> {
        self.write_name(&record.name, true);
        self.write_u16(record.record_type().into());
        self.write_u16(CLASS_IN);
        self.bytes.extend(record.ttl.to_be_bytes());
        let at = self.bytes.len();
        self.write_u16(0);
        self.write_data(&record.data)?;
        let length = u16::try_from(self.bytes.len() - at - 2).ok()?;
        self.bytes.get_mut(at..at + 2)?.copy_from_slice(&length.to_be_bytes());
        Some(())
    }

    /// Encodes the data of a record. `None` for a type that this server does not have.
    fn write_data(&mut self, data: &RData) -> Option<()> {
        match data {
            RData::A(ip) => self.bytes.extend(ip.octets()),
            RData::AAAA(ip) => self.bytes.extend(ip.octets()),
            RData::SRV(srv) => {
                [srv.priority, srv.weight, srv.port]
                    .into_iter()
                    .for_each(|word| self.write_u16(word));
                self.write_name(&srv.target, false);
            }
            RData::CNAME(name) => self.write_name(name, true),
            RData::NS(name) => self.write_name(name, true),
            RData::PTR(name) => self.write_name(name, true),
            RData::SOA(soa) => {
                self.write_name(&soa.mname, true);
                self.write_name(&soa.rname, true);
                self.bytes.extend(soa.serial.to_be_bytes());
                let timers = [soa.refresh, soa.retry, soa.expire];
                timers.into_iter().for_each(|timer| self.bytes.extend(timer.to_be_bytes()));
                self.bytes.extend(soa.minimum.to_be_bytes());
            }
            RData::TXT(txt) => {
                for string in &txt.txt_data {
                    self.write_string(string)?;
                }
            }
            RData::HINFO(hinfo) => {
                self.write_string(&hinfo.cpu)?;
                self.write_string(&hinfo.os)?;
            }
            _ => return None,
        }
        Some(())
    }

    fn write_u16(&mut self, value: u16) {
        self.bytes.extend(value.to_be_bytes());
    }

    fn write_string(&mut self, string: &[u8]) -> Option<()> {
        self.bytes.push(u8::try_from(string.len()).ok()?);
        self.bytes.extend_from_slice(string);
        Some(())
    }

    /// Writes a name. With `compress`, a pointer replaces the longest suffix that is already in the message.
    fn write_name(&mut self, name: &Name, compress: bool) {
        let mut wire = Vec::with_capacity(64);
        for label in name {
            // A label has at most 63 bytes.
            wire.push(u8::try_from(label.len()).unwrap_or(0));
            wire.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        let mut rest = &wire[..];
        for label in name {
            let known = self.names.get(rest).copied();
            if let (Some(at), true) = (known, compress) {
                return self.write_u16(POINTER | at);
            }
            let offset =
                u16::try_from(self.bytes.len()).ok().filter(|at| usize::from(*at) <= MAX_POINTER);
            if let (Some(offset), None) = (offset, known) {
                self.names.insert(rest.into(), offset);
            }
            self.bytes.push(u8::try_from(label.len()).unwrap_or(0));
            self.bytes.extend_from_slice(label);
            rest = rest.get(1 + label.len()..).unwrap_or_default();
        }
        self.bytes.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::records;
    use hickory_proto::{
        op::Message,
        rr::rdata::{CNAME, HINFO, NS, PTR, SOA, SRV},
    };
    use proptest::prelude::*;

    fn absolute(text: &str) -> Name {
        let mut name = Name::from_ascii(text).unwrap();
        name.set_fqdn(true);
        name
    }

    /// Names that often share suffixes, in mixed case.
    fn name() -> impl Strategy<Value = Name> {
        let label = prop::sample::select(vec!["a", "B", "bb", "Shop", "shop", "x-1", "_tcp"]);
        let end = prop::sample::select(vec!["svc.Zone", "svc.zone", "zone", "other"]);
        (prop::collection::vec(label, 0..5), end).prop_map(|(mut labels, end)| {
            labels.push(end);
            absolute(&labels.join("."))
        })
    }

    fn data() -> impl Strategy<Value = RData> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(|ip| RData::A(std::net::Ipv4Addr::from(ip).into())),
            any::<[u16; 8]>().prop_map(|ip| RData::AAAA(std::net::Ipv6Addr::from(ip).into())),
            (any::<(u16, u16, u16)>(), name())
                .prop_map(|((a, b, c), to)| RData::SRV(SRV::new(a, b, c, to))),
            name().prop_map(|to| RData::CNAME(CNAME(to))),
            name().prop_map(|to| RData::NS(NS(to))),
            name().prop_map(|to| RData::PTR(PTR(to))),
            (name(), name(), any::<u32>())
                .prop_map(|(a, b, serial)| RData::SOA(SOA::new(a, b, serial, 1, 2, 3, 4))),
            "[ -~]{1,600}".prop_map(|text| records::text(&Name::root(), &text, 1).data),
            Just(RData::HINFO(HINFO::new("RFC8482".into(), String::new()))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// Another library decodes the message to the same records. The message is not longer than the limit, and every
        /// record that fits is in it.
        #[test]
        fn another_library_decodes_what_is_encoded(
            records in prop::collection::vec((name(), any::<u32>(), data()), 0..60),
            limit in 40_usize..3000,
        ) {
            let records: Vec<Record> =
                records.into_iter().map(|(n, ttl, d)| Record::from_rdata(n, ttl >> 1, d)).collect();
            let mut writer = Writer::new(None, limit);
            let mut kept = Vec::new();
            for record in &records {
                if writer.write_record(Section::Answer, record) {
                    kept.push(record.clone());
                } else {
                    let mut single = Writer::new(None, usize::MAX);
                    single.write_record(Section::Answer, record);
                    let size = single.len() - HEADER_LEN;
                    prop_assert!(writer.len() + size > limit, "a record that fits was left out");
                }
            }
            let bytes = writer.finish(Header { id: 7, flags: 0x8400 }, None);
            prop_assert!(bytes.len() <= limit.max(HEADER_LEN));
            let read = Message::from_vec(&bytes).unwrap();
            prop_assert_eq!(read.answers, kept);
        }
    }

    #[test]
    fn names_are_compressed_except_srv_targets() {
        let question = absolute("oRders.svc.zone.");
        let bytes = [&b"\x06oRders\x03svc\x04zone\0"[..], &[0, 1, 0, 1]].concat();
        let asked = Question { name: &question, bytes: &bytes };
        let mut writer = Writer::new(Some(asked), 512);
        let target = absolute("o1.orders.svc.zone.");
        let srv = RData::SRV(SRV::new(0, 1, 2, target.clone()));
        let before = writer.len();
        assert!(writer.write_record(Section::Answer, &Record::from_rdata(question, 5, srv)));
        assert_eq!(writer.len() - before, 2 + 10 + 6 + 20);
        let before = writer.len();
        let glue = records::address(&target, [10, 0, 0, 1].into(), 5);
        assert!(writer.write_record(Section::Additional, &glue));
        assert_eq!(writer.len() - before, 2 + 10 + 4);
        let bytes = writer.finish(Header { id: 1, flags: 0x8000 }, None);
        assert!(bytes.windows(20).any(|w| w == b"\x02o1\x06orders\x03svc\x04zone\0"));
    }
}
