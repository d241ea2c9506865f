//! Parses queries.
//!
//! Owns: the checks before anything is allocated (RFC 1035 §4.1, RFC 9619: length, QR, opcode, counts), and the
//! classification of invalid queries. Does not own: the response to them (`respond`).

use hickory_proto::{
    op::{LowerQuery, Query as Question},
    rr::{DNSClass, Name, RecordType},
    serialize::binary::{BinDecodable, BinDecoder},
};

use crate::dns::{
    edns::EdnsRequest,
    reader::{MessageReader, RawRecord},
    wire::HEADER_LEN,
};

/// The longest query that is accepted: a question and an OPT with padding take a few hundred bytes.
pub const MAX_QUERY: usize = 4096;

/// The maximum number of records in the additional section: an OPT, and a TSIG (RFC 8945), which is ignored.
const MAX_ADDITIONAL: u16 = 2;

/// The maximum length of a name (RFC 1035 §3.1) and of a label, in bytes.
const MAX_NAME: usize = 255;
const MAX_LABEL: u8 = 63;

/// The QR flag.
const RESPONSE: u16 = 0x8000;

/// Why a query is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryFault {
    /// It cannot be parsed, or has records that a query cannot have.
    Format,
    /// An opcode other than QUERY.
    Opcode,
    /// A version of EDNS other than 0 (RFC 6891 §6.1.3).
    Version,
}

/// The parts of a query that could be parsed.
#[derive(Clone, Debug)]
pub struct Query<'m> {
    /// The message ID.
    pub id: u16,
    /// The second word of the header: QR, opcode, AA, TC, RD and the other flags.
    pub flags: u16,
    /// The question, if there is exactly one.
    pub question: Option<LowerQuery>,
    /// The bytes of the question, which the response repeats to preserve the case (RFC 4343, 0x20).
    pub bytes: &'m [u8],
    /// The OPT, if there is one.
    pub edns: Option<EdnsRequest>,
    /// The serial that the client of an IXFR has (RFC 1995 §3).
    pub serial: Option<u32>,
    /// Why the query is invalid, if it is.
    pub fault: Option<QueryFault>,
}

impl<'m> Query<'m> {
    /// Parses a message. `None` when it must not be answered: it is too short to be a message, or it is a response. Two
    /// servers that answer responses would never stop.
    #[must_use]
    pub fn parse(message: &'m [u8]) -> Option<Self> {
        let [id, flags, counts @ ..] = read_header(message)?;
        if flags & RESPONSE != 0 {
            return None;
        }
        let [questions, answers, authorities, additional] = counts;
        let mut query =
            Self { id, flags, question: None, bytes: &[], edns: None, serial: None, fault: None };
        if questions == 1
            && let Some((question, bytes)) = read_question(message)
        {
            query.question = Some(question);
            query.bytes = bytes;
        }
        // All records are read even after an error, because an OPT must be answered with an OPT (RFC 6891 §6.1.1).
        let is_well_formed = message
            .get(HEADER_LEN..)
            .and_then(|body| query.read_records(MessageReader(body), counts));
        let kind = query.question.as_ref().map(LowerQuery::query_type);
        // An IXFR has the SOA of the client's version in its authority section.
        let has_valid_counts = answers == 0
            && authorities <= u16::from(kind == Some(RecordType::IXFR))
            && additional <= MAX_ADDITIONAL
            && query.has_valid_question(questions);
        query.fault = if query.opcode() != 0 {
            Some(QueryFault::Opcode)
        } else if query.edns.as_ref().is_some_and(|edns| edns.version != 0) {
            Some(QueryFault::Version)
        } else if !has_valid_counts || is_well_formed != Some(true) {
            Some(QueryFault::Format)
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

    /// Whether there is exactly one question, or none in a query that only asks for a cookie (RFC 7873 §5.4).
    fn has_valid_question(&self, questions: u16) -> bool {
        let asks_for_cookie = self.edns.as_ref().is_some_and(|edns| edns.cookie.is_some());
        self.question.is_some() || (questions == 0 && asks_for_cookie)
    }

    /// Reads all records to find the OPT and the serial of an IXFR. Returns whether both are well formed; `None` when
    /// there are fewer records than the header says, or one is cut off.
    fn read_records(&mut self, mut body: MessageReader<'m>, counts: [u16; 4]) -> Option<bool> {
        let [questions, answers, authorities, additional] = counts;
        let mut is_well_formed = true;
        for _ in 0..questions {
            body.skip_question()?;
        }
        for _ in 0..answers {
            body.read_record()?;
        }
        for _ in 0..authorities {
            self.serial = body.read_record()?.serial();
            is_well_formed &= self.serial.is_some();
        }
        for _ in 0..additional {
            let record = body.read_record()?;
            if record.kind == u16::from(RecordType::OPT) {
                is_well_formed &= self.take_opt(&record);
            }
        }
        Some(is_well_formed)
    }

    /// Stores an OPT. Returns whether it is the only one, is owned by the root, and is well formed.
    fn take_opt(&mut self, record: &RawRecord<'_>) -> bool {
        let (request, is_well_formed) = EdnsRequest::parse(record.class, record.ttl, record.data);
        let is_only = self.edns.is_none();
        self.edns.get_or_insert(request);
        is_only && is_well_formed && record.is_root
    }
}

fn read_header(message: &[u8]) -> Option<[u16; 6]> {
    let mut words = [0; 6];
    let (pairs, _) = message.get(..HEADER_LEN)?.as_chunks::<2>();
    for (word, pair) in words.iter_mut().zip(pairs) {
        *word = u16::from_be_bytes(*pair);
    }
    Some(words)
}

/// Reads the question. Its name cannot be compressed, because no name comes before it.
fn read_question(message: &[u8]) -> Option<(LowerQuery, &[u8])> {
    let body = message.get(HEADER_LEN..)?;
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
    let bytes = body.get(..end + 4)?;
    let mut decoder = BinDecoder::new(bytes);
    let name = Name::read(&mut decoder).ok()?;
    let kind = RecordType::read(&mut decoder).ok()?;
    let class = DNSClass::read(&mut decoder).ok()?;
    let mut question = Question::query(name, kind);
    question.set_query_class(class);
    Some((LowerQuery::query(question), bytes))
}
