//! Reading a query: from octets to what is asked and how.
//!
//! Owns: the gate before anything is allocated (RFC 1035 §4.1, RFC 9619: length, QR, opcode, counts),
//! and what is wrong with a query. Does not own: what a wrong one is answered (`respond`).

use hickory_proto::{
    op::{LowerQuery, Query as Question},
    rr::{DNSClass, Name, RecordType},
    serialize::binary::{BinDecodable, BinDecoder},
};

use crate::dns::{
    edns::Asks,
    walk::{Entry, Walk},
    wire::HEADER,
};

/// The longest query that is read: a question and an OPT with padding are some hundred octets.
pub const MAX_QUERY: usize = 4096;

/// The most records in the additional section: an OPT, and a signature of the whole (RFC 8945), which
/// is not looked at.
const MAX_ADDITIONAL: u16 = 2;

/// The most octets of a name (RFC 1035 §3.1), and of a label.
const MAX_NAME: usize = 255;
const MAX_LABEL: u8 = 63;

/// QR: a response.
const RESPONSE: u16 = 0x8000;

/// What is wrong with a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It cannot be read, or holds what no query holds.
    Format,
    /// An opcode other than QUERY.
    Opcode,
    /// A version of EDNS other than 0 (RFC 6891 §6.1.3).
    Version,
}

/// A query, as far as it could be read.
#[derive(Clone, Debug)]
pub struct Query<'m> {
    /// To tell answers apart.
    pub id: u16,
    /// QR, opcode, AA, TC, RD and the rest, as they came.
    pub flags: u16,
    /// What is asked, if there is exactly one question.
    pub question: Option<LowerQuery>,
    /// Its octets, to be repeated as they came: so case is kept (RFC 4343, and 0x20).
    pub octets: &'m [u8],
    /// The OPT.
    pub edns: Option<Asks>,
    /// The serial that an IXFR begins from (RFC 1995 §3).
    pub serial: Option<u32>,
    /// What is wrong with it.
    pub fault: Option<Fault>,
}

impl<'m> Query<'m> {
    /// Reads a message. None when it is to be dropped without a word: what is no message, and
    /// responses, since two servers that answer those never stop.
    #[must_use]
    pub fn read(message: &'m [u8]) -> Option<Self> {
        let [id, flags, counts @ ..] = header(message)?;
        if flags & RESPONSE != 0 {
            return None;
        }
        let [questions, answers, authorities, additional] = counts;
        let mut query =
            Self { id, flags, question: None, octets: &[], edns: None, serial: None, fault: None };
        if questions == 1
            && let Some((question, octets)) = question(message)
        {
            query.question = Some(question);
            query.octets = octets;
        }
        // To the end, whatever is wrong before: an OPT is answered by an OPT (RFC 6891 §6.1.1).
        let is_sound = message.get(HEADER..).and_then(|body| query.walk(Walk(body), counts));
        let kind = query.question.as_ref().map(LowerQuery::query_type);
        // An IXFR says in the authority section which version is had.
        let fits = answers == 0
            && authorities <= u16::from(kind == Some(RecordType::IXFR))
            && additional <= MAX_ADDITIONAL
            && query.is_whole(questions);
        query.fault = if query.opcode() != 0 {
            Some(Fault::Opcode)
        } else if query.edns.as_ref().is_some_and(|edns| edns.version != 0) {
            Some(Fault::Version)
        } else if !fits || is_sound != Some(true) {
            Some(Fault::Format)
        } else {
            None
        };
        Some(query)
    }

    /// The opcode.
    #[must_use]
    pub fn opcode(&self) -> u16 {
        (self.flags >> 11) & 0xf
    }

    /// No question is one only when it is about cookies (RFC 7873 §5.4).
    fn is_whole(&self, questions: u16) -> bool {
        let asks_for_cookie = self.edns.as_ref().is_some_and(|edns| edns.cookie.is_some());
        self.question.is_some() || (questions == 0 && asks_for_cookie)
    }

    /// Goes through all records, for the OPT and the serial of an IXFR; whether they are what they
    /// should be. None when there are fewer than the header says, or one of them has no end.
    fn walk(&mut self, mut body: Walk<'m>, counts: [u16; 4]) -> Option<bool> {
        let [questions, answers, authorities, additional] = counts;
        let mut is_sound = true;
        for _ in 0..questions {
            body.question()?;
        }
        for _ in 0..answers {
            body.record()?;
        }
        for _ in 0..authorities {
            self.serial = body.record()?.serial();
            is_sound &= self.serial.is_some();
        }
        for _ in 0..additional {
            let record = body.record()?;
            if record.kind == u16::from(RecordType::OPT) {
                is_sound &= self.take(&record);
            }
        }
        Some(is_sound)
    }

    /// Reads an OPT; whether it is the only one, and well formed.
    fn take(&mut self, record: &Entry<'_>) -> bool {
        let (asks, is_well_formed) = Asks::read(record.class, record.ttl, record.data);
        let is_only = self.edns.is_none();
        self.edns.get_or_insert(asks);
        is_only && is_well_formed && record.is_root
    }
}

fn header(message: &[u8]) -> Option<[u16; 6]> {
    let mut words = [0; 6];
    let (pairs, _) = message.get(..HEADER)?.as_chunks::<2>();
    for (word, pair) in words.iter_mut().zip(pairs) {
        *word = u16::from_be_bytes(*pair);
    }
    Some(words)
}

/// The question, whose name is written out: there is nothing before it that it could point to.
fn question(message: &[u8]) -> Option<(LowerQuery, &[u8])> {
    let body = message.get(HEADER..)?;
    let mut end = 0;
    loop {
        let length = *body.get(end)?;
        end += 1 + usize::from(length);
        match length {
            0 => break,
            1..=MAX_LABEL if end < MAX_NAME => {}
            _ => return None,
        }
    }
    let octets = body.get(..end + 4)?;
    let mut decoder = BinDecoder::new(octets);
    let name = Name::read(&mut decoder).ok()?;
    let kind = RecordType::read(&mut decoder).ok()?;
    let class = DNSClass::read(&mut decoder).ok()?;
    let mut question = Question::query(name, kind);
    question.set_query_class(class);
    Some((LowerQuery::query(question), octets))
}
