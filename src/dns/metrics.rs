//! What is counted about DNS.
//!
//! Owns: the metrics and the bounded words of their labels. Does not own: where they are shown
//! (`telemetry`).

use std::time::Duration;

use hickory_proto::{op::ResponseCode, rr::RecordType};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::dns::gate::Transport;

/// Which queries are counted together. Each value is from a fixed vocabulary: 12 × 8 × 2 series at
/// most.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    r#type: &'static str,
    rcode: &'static str,
    transport: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct By {
    transport: &'static str,
}

/// A handle on the metrics of DNS; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    queries: Family<Labels, Counter>,
    /// Both series of one family, at hand: they are written at each answer.
    udp_seconds: Histogram,
    tcp_seconds: Histogram,
    truncated: Counter,
}

/// One answer that was sent.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// The type asked for; none when there was no question.
    pub kind: Option<RecordType>,
    /// The code.
    pub code: ResponseCode,
    /// How it went out.
    pub transport: Transport,
    /// Whether TC was set.
    pub truncated: bool,
    /// From the parsed query to the answer in the queue.
    pub took: Duration,
}

impl Metrics {
    /// Registers `dns_queries_total`, `dns_query_duration_seconds` and `dns_truncated_total`; the
    /// registry has the prefix.
    pub fn register(registry: &mut Registry) -> Self {
        // 5 µs to 20 ms.
        let new = || Histogram::new(exponential_buckets(5e-6, 2.0, 13));
        let duration: Family<By, Histogram, fn() -> Histogram> = Family::new_with_constructor(new);
        let on = |transport: Transport| {
            duration.get_or_create_owned(&By { transport: transport.as_str() })
        };
        let metrics = Self {
            queries: Family::default(),
            udp_seconds: on(Transport::Udp),
            tcp_seconds: on(Transport::Tcp),
            truncated: Counter::default(),
        };
        let queries = metrics.queries.clone();
        registry.register(
            "dns_queries",
            "DNS queries answered, by type, rcode and transport",
            queries,
        );
        let help = "From a parsed DNS query to its answer being queued for sending, by transport";
        registry.register_with_unit("dns_query_duration", help, Unit::Seconds, duration);
        let truncated = metrics.truncated.clone();
        registry.register("dns_truncated", "DNS answers sent incomplete, with TC set", truncated);
        metrics.begin();
        metrics
    }

    /// The series that dashboards ask for are there from the first scrape on.
    fn begin(&self) {
        for transport in [Transport::Udp, Transport::Tcp].map(Transport::as_str) {
            for r#type in ["A", "AAAA", "SRV"] {
                for rcode in ["NOERROR", "NXDOMAIN", "SERVFAIL"] {
                    self.queries.get_or_create(&Labels { r#type, rcode, transport }).inc_by(0);
                }
            }
        }
    }

    /// An answer was sent.
    pub fn answered(&self, answered: Answered) {
        let Answered { kind, code, transport, truncated, took } = answered;
        let seconds = match transport {
            Transport::Udp => &self.udp_seconds,
            Transport::Tcp => &self.tcp_seconds,
        };
        let transport = transport.as_str();
        let labels = Labels { r#type: kind_word(kind), rcode: code_word(code), transport };
        self.queries.get_or_create(&labels).inc();
        seconds.observe(took.as_secs_f64());
        if truncated {
            self.truncated.inc();
        }
    }
}

/// The types that people ask a registry for; a stranger cannot make more.
fn kind_word(kind: Option<RecordType>) -> &'static str {
    match kind {
        None => "none",
        Some(RecordType::A) => "A",
        Some(RecordType::AAAA) => "AAAA",
        Some(RecordType::ANY) => "ANY",
        Some(RecordType::CNAME) => "CNAME",
        Some(RecordType::HTTPS) => "HTTPS",
        Some(RecordType::NS) => "NS",
        Some(RecordType::PTR) => "PTR",
        Some(RecordType::SOA) => "SOA",
        Some(RecordType::SRV) => "SRV",
        Some(RecordType::TXT) => "TXT",
        Some(_) => "other",
    }
}

fn code_word(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::BADVERS => "BADVERS",
        _ => "other",
    }
}
