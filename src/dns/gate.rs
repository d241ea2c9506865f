//! From a request to all that the response will hold.
//!
//! Owns: the rules of the message itself: which requests are answered by a code alone, and the
//! flags and the OPT of every response (RFC 1035, RFC 6891, RFC 8906, RFC 9619). Does not own: the
//! answer (`answer`), its size (`fit`), and dropping what is a response itself (hickory).

use hickory_proto::{
    op::{Edns, LowerQuery, MessageType, Metadata, OpCode, ResponseCode},
    rr::{DNSClass, rdata::opt::EdnsOption},
};
use hickory_server::zone_handler::MessageRequest;

use crate::dns::{
    answer::{Answer, Ede, answer},
    fit::{Room, UDP_PAYLOAD, fit},
    zone::Zone,
};
use crate::registry::{directory::Directory, lease::Moment};

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// In one datagram.
    Udp,
    /// Over a connection.
    Tcp,
}

impl Transport {
    /// As people and metrics write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// A response, cut to its room.
#[derive(Debug)]
pub struct Reply {
    /// Header.
    pub metadata: Metadata,
    /// Present when, and only when, the request had one (RFC 6891 §6.1.1).
    pub edns: Option<Edns>,
    /// Whether the question is repeated.
    pub question: bool,
    /// The records.
    pub answer: Answer,
}

/// Answers a request, as of `now`; `seed` decides the order.
#[must_use]
pub fn reply(
    (zone, directory): (&Zone, &Directory),
    request: &MessageRequest,
    transport: Transport,
    now: Moment,
    seed: u64,
) -> Reply {
    let mut answer = match admit(request) {
        Ok(question) => answer(zone, directory, question, now, seed),
        Err(code) => Answer::bare(code, None),
    };
    // Where there is not one question, there is no saying what was asked, and repeating them all
    // could be more than there is room for.
    let question = request.queries.len() == 1;
    let edns = request.edns.as_ref().map(|edns| opt(edns, answer.ede));
    let room = match transport {
        Transport::Udp => Room::udp(request.edns.as_ref().map(Edns::max_payload)),
        Transport::Tcp => Room::tcp(),
    };
    let repeated = if question { request.queries.as_bytes() } else { &[] };
    let truncated = fit(&mut answer, repeated, edns.as_ref(), room);
    let metadata = header(&request.metadata, &answer, truncated);
    Reply { metadata, edns, question, answer }
}

/// The one question of a request that can be answered; else the code that says why not.
fn admit(request: &MessageRequest) -> Result<&LowerQuery, ResponseCode> {
    if request.metadata.op_code != OpCode::Query {
        return Err(ResponseCode::NotImp);
    }
    if request.version() != 0 {
        return Err(ResponseCode::BADVERS);
    }
    let [question] = request.queries.queries() else { return Err(ResponseCode::FormErr) };
    if question.query_class() != DNSClass::IN {
        return Err(ResponseCode::Refused);
    }
    Ok(question)
}

/// RD is copied; AD and CD are cleared, since nothing here is signed (RFC 4035 §3.1.6).
fn header(request: &Metadata, answer: &Answer, truncated: bool) -> Metadata {
    let mut metadata = Metadata::new(request.id, MessageType::Response, request.op_code);
    metadata.recursion_desired = request.recursion_desired;
    metadata.authoritative = answer.authoritative;
    metadata.truncation = truncated;
    metadata.response_code = answer.code;
    metadata
}

/// The OPT of a response: ours alone, DO copied (RFC 3225), no option echoed.
fn opt(request: &Edns, ede: Option<Ede>) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD).set_dnssec_ok(request.flags().dnssec_ok);
    if let Some(ede) = ede {
        let mut data = ede.code().to_be_bytes().to_vec();
        data.extend_from_slice(ede.text().as_bytes());
        edns.options_mut().insert(EdnsOption::Unknown(15, data));
    }
    edns
}
