//! What is counted about DNS.
//!
//! Owns: the metrics and the bounded words of their labels. Does not own: where they are shown
//! (`telemetry`).

use std::{fmt::Error, sync::Arc, time::Duration};

use hickory_proto::{op::ResponseCode, rr::RecordType};
use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::ConstGauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::dns::{
    connections::Connections,
    cookie::Standing,
    limit::Verdict,
    respond::{Said, Transport},
};

/// Which queries are counted together. Each value is from a fixed vocabulary: 14 × 10 × 2 series at
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cookie {
    cookie: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Went {
    result: &'static str,
}

/// A handle on the metrics of DNS; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    queries: Family<Labels, Counter>,
    /// Both series of one family, at hand: they are written at each answer.
    udp_seconds: Histogram,
    tcp_seconds: Histogram,
    truncated: Counter,
    ignored: Family<By, Counter>,
    limited: Counter,
    cookies: Family<Cookie, Counter>,
    connections: Open,
    turned_away: Counter,
    transfers: Family<Went, Counter>,
    notifies: Family<Went, Counter>,
}

/// The connections that are open now, read when somebody scrapes.
#[derive(Clone, Debug, Default)]
struct Open(Arc<Mutex<Option<Arc<Connections>>>>);

impl EncodeMetric for Open {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), Error> {
        let open = self.0.lock().as_ref().map_or(0, |connections| connections.open());
        ConstGauge::new(i64::try_from(open).unwrap_or(i64::MAX)).encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

impl Metrics {
    /// Registers `dns_…`; the registry has the prefix.
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
            ignored: Family::default(),
            limited: Counter::default(),
            cookies: Family::default(),
            connections: Open::default(),
            turned_away: Counter::default(),
            transfers: Family::default(),
            notifies: Family::default(),
        };
        let help = "From a DNS query that was received to its answer that was sent, by transport";
        registry.register_with_unit("dns_query_duration", help, Unit::Seconds, duration);
        metrics.register_counters(registry);
        metrics.begin();
        metrics
    }

    fn register_counters(&self, registry: &mut Registry) {
        let m = self.clone();
        let help = "DNS queries answered, by type, rcode and transport";
        registry.register("dns_queries", help, m.queries);
        let help = "DNS answers sent incomplete, with TC set";
        registry.register("dns_truncated", help, m.truncated);
        let help = "Messages that are no DNS queries, and were not answered, by transport";
        registry.register("dns_ignored", help, m.ignored);
        let help = "Errors and denials beyond the bound of a prefix, which were cut to nothing, with TC set: an \
                    honest client asks over TCP";
        registry.register("dns_limited", help, m.limited);
        let help = "DNS queries with a cookie, by what it was worth: new, good, bad";
        registry.register("dns_cookies", help, m.cookies);
        let help = "DNS connections over TCP that are open";
        registry.register("dns_connections", help, m.connections);
        let help = "DNS connections over TCP that were closed at once, as there were too many";
        registry.register("dns_connections_refused", help, m.turned_away);
        let help = "Transfers of the zone, by result";
        registry.register("dns_transfers", help, m.transfers);
        let help = "NOTIFY messages to secondaries, by result: answered, or unanswered";
        registry.register("dns_notifies", help, m.notifies);
    }

    /// The series that dashboards and alerts ask for are there from the first scrape on.
    fn begin(&self) {
        for transport in [Transport::Udp, Transport::Tcp].map(Transport::as_str) {
            for r#type in ["A", "AAAA", "SRV"] {
                for rcode in ["NOERROR", "NXDOMAIN", "SERVFAIL"] {
                    self.queries.get_or_create(&Labels { r#type, rcode, transport }).inc_by(0);
                }
            }
            self.ignored.get_or_create(&By { transport }).inc_by(0);
        }
        for standing in [Standing::New, Standing::Good, Standing::Bad] {
            self.cookies.get_or_create(&Cookie { cookie: standing.as_str() }).inc_by(0);
        }
        for result in ["whole", "cut"] {
            self.transfers.get_or_create(&Went { result }).inc_by(0);
        }
        for result in ["answered", "unanswered"] {
            self.notifies.get_or_create(&Went { result }).inc_by(0);
        }
    }

    /// Shows these connections from now on.
    pub(super) fn watch(&self, connections: Arc<Connections>) {
        *self.connections.0.lock() = Some(connections);
    }

    /// A query was answered; `took` is from its receipt.
    pub(super) fn answered(&self, transport: Transport, said: Said, took: Duration) {
        let Said { kind, code, truncated, cookie, verdict } = said;
        if cookie != Standing::Absent {
            self.cookies.get_or_create(&Cookie { cookie: cookie.as_str() }).inc();
        }
        if verdict == Verdict::Slip {
            self.limited.inc();
        }
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

    /// Something came that is no query.
    pub(super) fn ignored(&self, transport: Transport) {
        self.ignored.get_or_create(&By { transport: transport.as_str() }).inc();
    }

    /// A connection was closed at once.
    pub(super) fn turned_away(&self) {
        self.turned_away.inc();
    }

    /// A transfer went out, or was cut off.
    pub(super) fn transferred(&self, whole: bool) {
        let result = if whole { "whole" } else { "cut" };
        self.transfers.get_or_create(&Went { result }).inc();
    }

    /// A secondary was notified, and answered or not.
    pub(super) fn notified(&self, answered: bool) {
        let result = if answered { "answered" } else { "unanswered" };
        self.notifies.get_or_create(&Went { result }).inc();
    }
}

/// The types that people ask a registry for; a stranger cannot make more.
fn kind_word(kind: Option<RecordType>) -> &'static str {
    match kind {
        None => "none",
        Some(RecordType::A) => "A",
        Some(RecordType::AAAA) => "AAAA",
        Some(RecordType::ANY) => "ANY",
        Some(RecordType::AXFR) => "AXFR",
        Some(RecordType::CNAME) => "CNAME",
        Some(RecordType::HTTPS) => "HTTPS",
        Some(RecordType::IXFR) => "IXFR",
        Some(RecordType::NS) => "NS",
        Some(RecordType::PTR) => "PTR",
        Some(RecordType::SOA) => "SOA",
        Some(RecordType::SRV) => "SRV",
        Some(RecordType::TXT) => "TXT",
        Some(_) => "other",
    }
}

pub(super) fn code_word(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::BADVERS => "BADVERS",
        ResponseCode::BADCOOKIE => "BADCOOKIE",
        ResponseCode::NotAuth => "NOTAUTH",
        _ => "other",
    }
}
