//! Writing a message: octets, record by record, within a limit.
//!
//! Owns: the encoding of the records that we have (RFC 1035 §4.1), and compression without a bound on the
//! number of names: hickory's ends after some hundred, so that large sets would not fit. SRV targets are
//! never compressed (RFC 2782). Does not own: which records, and what is done when they do not fit (`fit`).

use std::collections::HashMap;

use hickory_proto::rr::{Name, RData, Record};

/// Octets of a header (RFC 1035 §4.1.1).
pub const HEADER: usize = 12;

/// Where names may be pointed to (RFC 1035 §4.1.4: 14 bits).
const REACH: usize = 0x3fff;
const POINTER: u16 = 0xc000;

/// The class of all that we have (RFC 1035 §3.2.4).
const CLASS_IN: u16 = 1;

/// The sections of a message behind the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// What was asked for.
    Answer,
    /// Who says that it is not there.
    Authority,
    /// What is asked for next.
    Additional,
}

/// The head of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// That of the query.
    pub id: u16,
    /// QR to RCODE.
    pub flags: u16,
}

/// The question of a message.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Its name, in the asker's case (0x20).
    pub name: &'a Name,
    /// All of it, as it came.
    pub octets: &'a [u8],
}

/// A message as it is written.
#[derive(Debug)]
pub struct Writer {
    octets: Vec<u8>,
    limit: usize,
    /// Where a name, in lower case and as octets, was written.
    names: HashMap<Box<[u8]>, u16>,
    counts: [u16; 4],
}

impl Writer {
    /// A message with this question, if any, of at most `limit` octets.
    #[must_use]
    pub fn new(question: Option<Question<'_>>, limit: usize) -> Self {
        let mut octets = Vec::with_capacity(limit.min(1024));
        octets.extend([0; HEADER]);
        let mut writer = Self { octets, limit, names: HashMap::new(), counts: [0; 4] };
        if let Some(Question { name, octets }) = question {
            // The name as it came, so that whatever points to it has its case (0x20).
            writer.name(name, true);
            writer.octets.truncate(HEADER);
            writer.octets.extend_from_slice(octets);
            writer.counts[0] = 1;
        }
        writer
    }

    /// Octets written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.octets.len()
    }

    /// Whether no record was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.iter().skip(1).all(|count| *count == 0)
    }

    /// Adds a record, if it fits; else nothing has changed.
    pub fn record(&mut self, section: Section, record: &Record) -> bool {
        self.all(section, std::slice::from_ref(record))
    }

    /// Adds records, if all of them fit; else nothing has changed.
    pub fn all(&mut self, section: Section, records: &[Record]) -> bool {
        let mark = self.octets.len();
        let written = records.iter().all(|record| {
            let written = self.write(record);
            written.is_some() && self.octets.len() <= self.limit
        });
        let count = match section {
            Section::Answer => &mut self.counts[1],
            Section::Authority => &mut self.counts[2],
            Section::Additional => &mut self.counts[3],
        };
        let more = u16::try_from(records.len()).ok().and_then(|more| count.checked_add(more));
        match more {
            Some(more) if written => *count = more,
            _ => {
                self.octets.truncate(mark);
                self.names.retain(|_, at| usize::from(*at) < mark);
                return false;
            }
        }
        true
    }

    /// The message, with its OPT, for which the caller has kept room.
    #[must_use]
    pub fn finish(mut self, head: Head, opt: Option<&[u8]>) -> Vec<u8> {
        if let Some(opt) = opt {
            self.octets.extend_from_slice(opt);
            self.counts[3] = self.counts[3].saturating_add(1);
        }
        let words = [head.id, head.flags].into_iter().chain(self.counts);
        let (header, _) = self.octets.as_chunks_mut::<2>();
        header.iter_mut().zip(words).for_each(|(to, word)| *to = word.to_be_bytes());
        self.octets
    }

    fn write(&mut self, record: &Record) -> Option<()> {
        self.name(&record.name, true);
        self.word(record.record_type().into());
        self.word(CLASS_IN);
        self.octets.extend(record.ttl.to_be_bytes());
        let at = self.octets.len();
        self.word(0);
        self.data(&record.data)?;
        let length = u16::try_from(self.octets.len() - at - 2).ok()?;
        self.octets.get_mut(at..at + 2)?.copy_from_slice(&length.to_be_bytes());
        Some(())
    }

    /// None for what we never have.
    fn data(&mut self, data: &RData) -> Option<()> {
        match data {
            RData::A(ip) => self.octets.extend(ip.octets()),
            RData::AAAA(ip) => self.octets.extend(ip.octets()),
            RData::SRV(srv) => {
                [srv.priority, srv.weight, srv.port].into_iter().for_each(|word| self.word(word));
                self.name(&srv.target, false);
            }
            RData::CNAME(name) => self.name(name, true),
            RData::NS(name) => self.name(name, true),
            RData::PTR(name) => self.name(name, true),
            RData::SOA(soa) => {
                self.name(&soa.mname, true);
                self.name(&soa.rname, true);
                self.octets.extend(soa.serial.to_be_bytes());
                let timers = [soa.refresh, soa.retry, soa.expire];
                timers.into_iter().for_each(|timer| self.octets.extend(timer.to_be_bytes()));
                self.octets.extend(soa.minimum.to_be_bytes());
            }
            RData::TXT(txt) => {
                for string in &txt.txt_data {
                    self.string(string)?;
                }
            }
            RData::HINFO(hinfo) => {
                self.string(&hinfo.cpu)?;
                self.string(&hinfo.os)?;
            }
            _ => return None,
        }
        Some(())
    }

    fn word(&mut self, word: u16) {
        self.octets.extend(word.to_be_bytes());
    }

    fn string(&mut self, string: &[u8]) -> Option<()> {
        self.octets.push(u8::try_from(string.len()).ok()?);
        self.octets.extend_from_slice(string);
        Some(())
    }

    /// Writes a name; when it may be compressed, up to the first part that stands somewhere already.
    fn name(&mut self, name: &Name, compress: bool) {
        let mut wire = Vec::with_capacity(64);
        for label in name {
            // No label is longer than 63 octets.
            wire.push(u8::try_from(label.len()).unwrap_or(0));
            wire.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        let mut rest = &wire[..];
        for label in name {
            let known = self.names.get(rest).copied();
            if let (Some(at), true) = (known, compress) {
                return self.word(POINTER | at);
            }
            let here = u16::try_from(self.octets.len()).ok().filter(|at| usize::from(*at) <= REACH);
            if let (Some(here), None) = (here, known) {
                self.names.insert(rest.into(), here);
            }
            self.octets.push(u8::try_from(label.len()).unwrap_or(0));
            self.octets.extend_from_slice(label);
            rest = rest.get(1 + label.len()..).unwrap_or_default();
        }
        self.octets.push(0);
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

    fn named(text: &str) -> Name {
        let mut name = Name::from_ascii(text).unwrap();
        name.set_fqdn(true);
        name
    }

    /// Names that share endings often, in changing case.
    fn name() -> impl Strategy<Value = Name> {
        let label = prop::sample::select(vec!["a", "B", "bb", "Shop", "shop", "x-1", "_tcp"]);
        let end = prop::sample::select(vec!["svc.Zone", "svc.zone", "zone", "other"]);
        (prop::collection::vec(label, 0..5), end).prop_map(|(mut labels, end)| {
            labels.push(end);
            named(&labels.join("."))
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

        /// What is written is read back as the same records by a library that we did not write, and is no
        /// longer than the limit, which is not left half used.
        #[test]
        fn records_come_back_as_they_were(
            records in prop::collection::vec((name(), any::<u32>(), data()), 0..60),
            limit in 40_usize..3000,
        ) {
            let records: Vec<Record> =
                records.into_iter().map(|(n, ttl, d)| Record::from_rdata(n, ttl >> 1, d)).collect();
            let mut writer = Writer::new(None, limit);
            let mut kept = Vec::new();
            for record in &records {
                if writer.record(Section::Answer, record) {
                    kept.push(record.clone());
                } else {
                    let alone = Writer::new(None, usize::MAX);
                    let size = { let mut a = alone; a.record(Section::Answer, record); a.len() - HEADER };
                    prop_assert!(writer.len() + size > limit, "it would have fitted");
                }
            }
            let octets = writer.finish(Head { id: 7, flags: 0x8400 }, None);
            prop_assert!(octets.len() <= limit.max(HEADER));
            let read = Message::from_vec(&octets).unwrap();
            prop_assert_eq!(read.answers, kept);
        }
    }

    #[test]
    fn names_are_pointed_to_but_for_targets() {
        let question = named("oRders.svc.zone.");
        let octets = [&b"\x06oRders\x03svc\x04zone\0"[..], &[0, 1, 0, 1]].concat();
        let asked = Question { name: &question, octets: &octets };
        let mut writer = Writer::new(Some(asked), 512);
        let target = named("o1.orders.svc.zone.");
        let srv = RData::SRV(SRV::new(0, 1, 2, target.clone()));
        let before = writer.len();
        assert!(writer.record(Section::Answer, &Record::from_rdata(question, 5, srv)));
        assert_eq!(writer.len() - before, 2 + 10 + 6 + 20);
        let before = writer.len();
        let glue = records::address(&target, [10, 0, 0, 1].into(), 5);
        assert!(writer.record(Section::Additional, &glue));
        assert_eq!(writer.len() - before, 2 + 10 + 4);
        let octets = writer.finish(Head { id: 1, flags: 0x8000 }, None);
        assert!(octets.windows(20).any(|w| w == b"\x02o1\x06orders\x03svc\x04zone\0"));
    }
}
