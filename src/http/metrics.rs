//! The metrics of the HTTP server. The label `route` is a path template, so that its values are bounded.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::http::route::Route;
use crate::telemetry::heartbeats::{HeartbeatMetrics, HeartbeatResult};

/// The upper bounds of the buckets, in seconds: a response from memory takes microseconds, one that needs Kubernetes
/// takes milliseconds.
const BUCKETS: [f64; 10] = [0.00002, 0.0001, 0.0005, 0.002, 0.01, 0.03, 0.1, 0.5, 2.0, 10.0];

/// The metrics of requests.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<DurationLabels, Histogram, fn() -> Histogram>,
    /// The series of status 200 for each route, so that the hot path needs no lookup by label.
    successes: Arc<[OnceLock<SuccessSeries>]>,
    beats: HeartbeatMetrics,
    limited: Family<LimitLabels, Counter>,
}

#[derive(Debug)]
struct SuccessSeries {
    requests: Counter,
    seconds: Histogram,
}

/// The limit that a request exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum LimitedBy {
    /// The rate of one caller.
    Caller,
    /// The rate of one namespace.
    Namespace,
    /// The number of requests in progress.
    Load,
    /// The memory of all bodies.
    Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    by: LimitedBy,
}

impl EncodeLabelValue for LimitedBy {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let label = match self {
            Self::Caller => "caller",
            Self::Namespace => "namespace",
            Self::Load => "load",
            Self::Body => "body",
        };
        label.encode(encoder)
    }
}

/// The metrics of subscribers.
#[derive(Clone, Debug)]
pub(super) struct SubscriberMetrics {
    subscribers: Family<SubscriberLabels, Gauge>,
    /// Watches that were closed because their client took no data for too long.
    pub(super) dropped: Counter,
    /// Snapshots, upserts and removals.
    pub(super) events: Counter,
    /// Wake-ups by a change.
    pub(super) woken: Counter,
}

/// What a subscriber waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum SubscriberKind {
    /// For one response (long poll).
    Poll,
    /// For a stream of events (watch).
    Stream,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SubscriberLabels {
    kind: SubscriberKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct RouteLabel(Option<Route>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: RouteLabel,
    code: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    route: RouteLabel,
}

impl EncodeLabelValue for RouteLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.map_or("unknown", Route::template).encode(encoder)
    }
}

impl EncodeLabelValue for SubscriberKind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let label = match self {
            Self::Poll => "poll",
            Self::Stream => "stream",
        };
        label.encode(encoder)
    }
}

impl HttpMetrics {
    /// Registers the metrics. Heartbeats are counted together with those of other sources.
    pub fn new(registry: &mut Registry, beats: HeartbeatMetrics) -> Self {
        let requests = Family::default();
        registry.register("http_requests", "HTTP responses, by route and status", requests.clone());
        let seconds: Family<_, _, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register_with_unit(
            "http_request_duration",
            "From the head of a request to its response, except requests that waited for a change",
            Unit::Seconds,
            seconds.clone(),
        );
        let limited = Family::default();
        for by in [LimitedBy::Caller, LimitedBy::Namespace, LimitedBy::Load, LimitedBy::Body] {
            drop(limited.get_or_create(&LimitLabels { by }));
        }
        let help = "Requests that were refused because there were too many, by the limit that they exceeded";
        registry.register("http_limited", help, limited.clone());
        let successes = Route::ALL.iter().map(|_| OnceLock::new()).collect();
        Self { requests, seconds, successes, beats, limited }
    }

    /// Counts a request that was refused because there were too many.
    pub(super) fn record_limited(&self, by: LimitedBy) {
        self.limited.get_or_create(&LimitLabels { by }).inc();
    }

    /// Counts a response. `took` is `None` when the request waited for a change: its duration says nothing about
    /// performance.
    pub(super) fn record_response(&self, route: Option<Route>, code: u16, took: Option<Duration>) {
        let success = route.filter(|_| code == 200).and_then(|route| self.success(route));
        if let Some((SuccessSeries { requests, seconds }, took)) = success.zip(took) {
            requests.inc();
            return seconds.observe(took.as_secs_f64());
        }
        let route = RouteLabel(route);
        self.requests.get_or_create(&RequestLabels { route, code }).inc();
        if let Some(took) = took {
            self.seconds.get_or_create(&DurationLabels { route }).observe(took.as_secs_f64());
        }
    }

    /// The series is created with the first success of the route, so that a route without a success has no series.
    fn success(&self, route: Route) -> Option<&SuccessSeries> {
        let label = RouteLabel(Some(route));
        let series = self.successes.get(route as usize)?;
        Some(series.get_or_init(|| SuccessSeries {
            requests:
                self.requests.get_or_create(&RequestLabels { route: label, code: 200 }).clone(),
            seconds: self.seconds.get_or_create(&DurationLabels { route: label }).clone(),
        }))
    }

    /// Counts heartbeats.
    pub(super) fn record_heartbeats(&self, result: HeartbeatResult, count: u64) {
        self.beats.http(result, count);
    }
}

impl SubscriberMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            subscribers: Family::default(),
            dropped: Counter::default(),
            events: Counter::default(),
            woken: Counter::default(),
        };
        // The series are created at the start, so that they show 0 instead of being absent.
        for kind in [SubscriberKind::Poll, SubscriberKind::Stream] {
            drop(metrics.subscribers.get_or_create(&SubscriberLabels { kind }));
        }
        let Self { subscribers, dropped, events, woken } = metrics.clone();
        registry.register(
            "http_subscribers",
            "Requests that are waiting for a change",
            subscribers,
        );
        registry.register(
            "http_subscribers_dropped",
            "Watches that were closed because their client read less than 4 KiB in 10 s while data was pending",
            dropped,
        );
        registry.register("http_events", "Events sent in watches", events);
        registry.register(
            "http_subscribers_woken",
            "How often a change woke a waiting request",
            woken,
        );
        metrics
    }

    pub(super) fn subscribed(&self, kind: SubscriberKind) {
        self.subscribers.get_or_create(&SubscriberLabels { kind }).inc();
    }

    pub(super) fn unsubscribed(&self, kind: SubscriberKind) {
        self.subscribers.get_or_create(&SubscriberLabels { kind }).dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_the_documented_names_and_labels() {
        let mut registry = Registry::with_prefix("rollcall");
        let beats = HeartbeatMetrics::new(&mut registry);
        let metrics = HttpMetrics::new(&mut registry, beats);
        metrics.record_response(Some(Route::Heartbeat), 200, Some(Duration::from_micros(10)));
        metrics.record_response(None, 404, Some(Duration::from_micros(10)));
        metrics.record_heartbeats(HeartbeatResult::Renewed, 3);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "rollcall_http_requests_total{route=\"/v1/namespaces/{namespace}/instances/{name}/heartbeat\",code=\"200\"} 1",
            "rollcall_http_requests_total{route=\"unknown\",code=\"404\"} 1",
            "rollcall_http_request_duration_seconds_count{route=\"unknown\"} 1",
            "rollcall_heartbeats_total{source=\"http\",result=\"renewed\"} 3",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
    }
}
