//! The metrics of the HTTP server. Labels are bounded: routes are templates.

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

/// Upper bounds in seconds: an answer from memory takes microseconds, one that asks Kubernetes
/// milliseconds.
const BUCKETS: [f64; 10] = [0.00002, 0.0001, 0.0005, 0.002, 0.01, 0.03, 0.1, 0.5, 2.0, 10.0];

/// The families.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: Family<Answered, Counter>,
    seconds: Family<On, Histogram, fn() -> Histogram>,
    /// Of each route those of a plain success, so that nothing has to be looked up for it.
    successes: Arc<[OnceLock<Success>]>,
    beats: HeartbeatMetrics,
    limited: Family<Limited, Counter>,
}

#[derive(Debug)]
struct Success {
    requests: Counter,
    seconds: Histogram,
}

/// Which bound a request went beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum LimitedBy {
    /// Of one caller.
    Caller,
    /// Of one namespace.
    Namespace,
    /// Of all requests that wait.
    Load,
    /// Of all bodies together.
    Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Limited {
    by: LimitedBy,
}

impl EncodeLabelValue for LimitedBy {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let word = match self {
            Self::Caller => "caller",
            Self::Namespace => "namespace",
            Self::Load => "load",
            Self::Body => "body",
        };
        word.encode(encoder)
    }
}

/// The families of who waits for changes.
#[derive(Clone, Debug)]
pub(super) struct SubscriberMetrics {
    subscribers: Family<Of, Gauge>,
    /// Those that took nothing for too long.
    pub(super) dropped: Counter,
    /// Snapshots, upserts and removals.
    pub(super) events: Counter,
    /// Wake-ups by a change.
    pub(super) woken: Counter,
}

/// How somebody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// For one answer.
    Poll,
    /// For one event after the other.
    Stream,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct RouteLabel(Option<Route>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: RouteLabel,
    code: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct On {
    route: RouteLabel,
}

impl EncodeLabelValue for RouteLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.map_or("unknown", Route::template).encode(encoder)
    }
}

impl EncodeLabelValue for Kind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let word = match self {
            Self::Poll => "poll",
            Self::Stream => "stream",
        };
        word.encode(encoder)
    }
}

impl HttpMetrics {
    /// Registers the families; beats are counted with those of other sources.
    pub fn new(registry: &mut Registry, beats: HeartbeatMetrics) -> Self {
        let requests = Family::default();
        registry.register(
            "http_requests",
            "Answers over HTTP, by route and status",
            requests.clone(),
        );
        let seconds: Family<_, _, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register_with_unit(
            "http_request_duration",
            "From the head of a request to its answer; without those that waited for a change",
            Unit::Seconds,
            seconds.clone(),
        );
        let limited = Family::default();
        for by in [LimitedBy::Caller, LimitedBy::Namespace, LimitedBy::Load, LimitedBy::Body] {
            drop(limited.get_or_create(&Limited { by }));
        }
        let help = "Requests that were refused since there were too many, by what bounds them";
        registry.register("http_limited", help, limited.clone());
        let successes = Route::ALL.iter().map(|_| OnceLock::new()).collect();
        Self { requests, seconds, successes, beats, limited }
    }

    /// A request was refused, since there were too many.
    pub(super) fn limited(&self, by: LimitedBy) {
        self.limited.get_or_create(&Limited { by }).inc();
    }

    /// One answer; how long it took says nothing where it waited for a change.
    pub(super) fn answered(&self, route: Option<Route>, code: u16, took: Option<Duration>) {
        let success = route.filter(|_| code == 200).and_then(|route| self.success(route));
        if let Some((Success { requests, seconds }, took)) = success.zip(took) {
            requests.inc();
            return seconds.observe(took.as_secs_f64());
        }
        let route = RouteLabel(route);
        self.requests.get_or_create(&Answered { route, code }).inc();
        if let Some(took) = took {
            self.seconds.get_or_create(&On { route }).observe(took.as_secs_f64());
        }
    }

    /// There from the first one on.
    fn success(&self, of: Route) -> Option<&Success> {
        let route = RouteLabel(Some(of));
        let found = self.successes.get(of as usize)?;
        Some(found.get_or_init(|| Success {
            requests: self.requests.get_or_create(&Answered { route, code: 200 }).clone(),
            seconds: self.seconds.get_or_create(&On { route }).clone(),
        }))
    }

    /// So many beats.
    pub(super) fn beats(&self, result: HeartbeatResult, count: u64) {
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
        // There from the start, so that nobody is known to be nobody.
        for kind in [Kind::Poll, Kind::Stream] {
            drop(metrics.subscribers.get_or_create(&Of { kind }));
        }
        let Self { subscribers, dropped, events, woken } = metrics.clone();
        registry.register("http_subscribers", "Who waits for changes now", subscribers);
        registry.register(
            "http_subscribers_dropped",
            "Streams that were closed since their client took nothing for too long",
            dropped,
        );
        registry.register("http_events", "Events sent in streams", events);
        registry.register(
            "http_subscribers_woken",
            "Times that somebody who waits was woken by a change",
            woken,
        );
        metrics
    }

    /// Another one waits.
    pub(super) fn came(&self, kind: Kind) {
        self.subscribers.get_or_create(&Of { kind }).inc();
    }

    /// One waits no more.
    pub(super) fn went(&self, kind: Kind) {
        self.subscribers.get_or_create(&Of { kind }).dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_have_the_names_that_dashboards_ask_for() {
        let mut registry = Registry::with_prefix("rollcall");
        let beats = HeartbeatMetrics::new(&mut registry);
        let metrics = HttpMetrics::new(&mut registry, beats);
        metrics.answered(Some(Route::Heartbeat), 200, Some(Duration::from_micros(10)));
        metrics.answered(None, 404, Some(Duration::from_micros(10)));
        metrics.beats(HeartbeatResult::Renewed, 3);
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
