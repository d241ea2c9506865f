//! The metrics of DNS.
//!
//! Owns: the metrics and the fixed sets of their label values. Does not own: the registry (`telemetry`).

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
    cookie::CookieState,
    limit::LimitDecision,
    respond::{ResponseSummary, Transport},
};

/// Each label value comes from a fixed set, so there are at most 14 × 10 × 2 series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabels {
    r#type: &'static str,
    rcode: &'static str,
    transport: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TransportLabels {
    transport: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CookieLabels {
    cookie: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// The metrics of DNS; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    queries: Family<QueryLabels, Counter>,
    /// The two series of one family (one for each transport), kept here because every answer writes to them.
    udp_seconds: Histogram,
    tcp_seconds: Histogram,
    truncated: Counter,
    ignored: Family<TransportLabels, Counter>,
    limited: Counter,
    cookies: Family<CookieLabels, Counter>,
    connections: OpenConnections,
    connections_refused: Counter,
    transfers: Family<ResultLabels, Counter>,
    notifies: Family<ResultLabels, Counter>,
}

/// The number of open connections, read at each scrape.
#[derive(Clone, Debug, Default)]
struct OpenConnections(Arc<Mutex<Option<Arc<Connections>>>>);

impl EncodeMetric for OpenConnections {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), Error> {
        let open = self.0.lock().as_ref().map_or(0, |connections| connections.open());
        ConstGauge::new(i64::try_from(open).unwrap_or(i64::MAX)).encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

impl Metrics {
    /// Registers `dns_…`; the registry adds the prefix.
    pub fn register(registry: &mut Registry) -> Self {
        // 5 µs to 20 ms.
        let new = || Histogram::new(exponential_buckets(5e-6, 2.0, 13));
        let duration: Family<TransportLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(new);
        let series = |transport: Transport| {
            duration.get_or_create_owned(&TransportLabels { transport: transport.as_str() })
        };
        let metrics = Self {
            queries: Family::default(),
            udp_seconds: series(Transport::Udp),
            tcp_seconds: series(Transport::Tcp),
            truncated: Counter::default(),
            ignored: Family::default(),
            limited: Counter::default(),
            cookies: Family::default(),
            connections: OpenConnections::default(),
            connections_refused: Counter::default(),
            transfers: Family::default(),
            notifies: Family::default(),
        };
        let help = "Time from receiving a DNS query to sending its answer, by transport";
        registry.register_with_unit("dns_query_duration", help, Unit::Seconds, duration);
        metrics.register_counters(registry);
        metrics.initialize_series();
        metrics
    }

    fn register_counters(&self, registry: &mut Registry) {
        let metrics = self.clone();
        let help = "DNS queries answered, by type, rcode and transport";
        registry.register("dns_queries", help, metrics.queries);
        let help = "DNS answers sent incomplete, with TC set";
        registry.register("dns_truncated", help, metrics.truncated);
        let help = "Messages that are not DNS queries and were not answered, by transport";
        registry.register("dns_ignored", help, metrics.ignored);
        let help = "DNS errors and NXDOMAIN above --dns-error-rate, which were sent empty with TC set, so that a \
                    real client asks again over TCP";
        registry.register("dns_limited", help, metrics.limited);
        let help = "DNS queries with a cookie, by its state: new, good or bad";
        registry.register("dns_cookies", help, metrics.cookies);
        let help = "Open DNS connections over TCP";
        registry.register("dns_connections", help, metrics.connections);
        let help = "DNS connections over TCP that were closed at once because --dns-connections was reached";
        registry.register("dns_connections_refused", help, metrics.connections_refused);
        let help = "Zone transfers, by result: whole or cut";
        registry.register("dns_transfers", help, metrics.transfers);
        let help = "NOTIFY messages to secondaries, by result: answered or unanswered";
        registry.register("dns_notifies", help, metrics.notifies);
    }

    /// Creates the series that dashboards and alerts use, so that they exist from the first scrape on.
    fn initialize_series(&self) {
        for transport in [Transport::Udp, Transport::Tcp].map(Transport::as_str) {
            for r#type in ["A", "AAAA", "SRV"] {
                for rcode in ["NOERROR", "NXDOMAIN", "SERVFAIL"] {
                    self.queries.get_or_create(&QueryLabels { r#type, rcode, transport }).inc_by(0);
                }
            }
            self.ignored.get_or_create(&TransportLabels { transport }).inc_by(0);
        }
        for cookie_state in [CookieState::New, CookieState::Good, CookieState::Bad] {
            self.cookies.get_or_create(&CookieLabels { cookie: cookie_state.as_str() }).inc_by(0);
        }
        for result in ["whole", "cut"] {
            self.transfers.get_or_create(&ResultLabels { result }).inc_by(0);
        }
        for result in ["answered", "unanswered"] {
            self.notifies.get_or_create(&ResultLabels { result }).inc_by(0);
        }
    }

    /// Sets the source of the number of open connections.
    pub(super) fn set_connections(&self, connections: Arc<Connections>) {
        *self.connections.0.lock() = Some(connections);
    }

    /// Counts an answer; `took` is the time since the query was received.
    pub(super) fn record_answer(
        &self,
        transport: Transport,
        summary: ResponseSummary,
        took: Duration,
    ) {
        let ResponseSummary { kind, code, truncated, cookie, decision } = summary;
        if cookie != CookieState::Absent {
            self.cookies.get_or_create(&CookieLabels { cookie: cookie.as_str() }).inc();
        }
        if decision == LimitDecision::Slip {
            self.limited.inc();
        }
        let seconds = match transport {
            Transport::Udp => &self.udp_seconds,
            Transport::Tcp => &self.tcp_seconds,
        };
        let transport = transport.as_str();
        let labels = QueryLabels { r#type: type_label(kind), rcode: rcode_label(code), transport };
        self.queries.get_or_create(&labels).inc();
        seconds.observe(took.as_secs_f64());
        if truncated {
            self.truncated.inc();
        }
    }

    /// Counts a message that is not a query.
    pub(super) fn record_ignored(&self, transport: Transport) {
        self.ignored.get_or_create(&TransportLabels { transport: transport.as_str() }).inc();
    }

    /// Counts a connection that was closed immediately, because a limit was reached.
    pub(super) fn record_refused_connection(&self) {
        self.connections_refused.inc();
    }

    /// Counts a zone transfer, which was either completed or cut off.
    pub(super) fn record_transfer(&self, whole: bool) {
        let result = if whole { "whole" } else { "cut" };
        self.transfers.get_or_create(&ResultLabels { result }).inc();
    }

    /// Counts a NOTIFY, and whether it was answered.
    pub(super) fn record_notify(&self, answered: bool) {
        let result = if answered { "answered" } else { "unanswered" };
        self.notifies.get_or_create(&ResultLabels { result }).inc();
    }
}

/// The label of a common type; all other types share one label, so that clients cannot create label values.
fn type_label(kind: Option<RecordType>) -> &'static str {
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

pub(super) fn rcode_label(code: ResponseCode) -> &'static str {
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
