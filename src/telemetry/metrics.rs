//! Metrics for Prometheus, all named `rollcall_…`.
//!
//! Owns: the registry, and the families of the rooms that have none of their own. Labels are
//! bounded: never a name that a client chose. Series that are known beforehand are there from the
//! first scrape on, at 0, so that a rate sees the first time that something happens. What is added
//! here is to be scraped in `tests/integration/observability.rs`, which then asks for its row in `docs/metrics.md`.

use std::time::Duration;

use crate::telemetry::problems::{Board, Lack};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// Upper bounds in seconds of calls to the Kubernetes API.
const API_BUCKETS: [f64; 10] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// An empty registry with the prefix of every metric, and the build's own.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::with_prefix("rollcall");
    let build = Family::<Build, Gauge>::default();
    build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
    registry.register("build_info", "Which rollcall this is", build);
    registry
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Verb {
    verb: &'static str,
    resource: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Call {
    verb: &'static str,
    resource: &'static str,
    code: Code,
}

/// An HTTP status, or that none came.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
struct Code(Option<u16>);

impl EncodeLabelValue for Code {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        match self.0 {
            Some(code) => code.encode(encoder),
            None => "none".encode(encoder),
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// What this replica tells the others. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct LedgerMetrics {
    bytes: Counter,
    beats: Counter,
}

impl LedgerMetrics {
    /// Registers the families.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register_with_unit(
            "ledger_written",
            "Octets of heartbeats in the ledgers that this replica wrote, as they are stored",
            Unit::Bytes,
            this.bytes.clone(),
        );
        let help =
            "Heartbeats that this replica told the others, those that it told again among them";
        registry.register("ledger_heartbeats", help, this.beats.clone());
        this
    }

    /// A ledger of so many beats was sent.
    pub fn sent(&self, beats: usize) {
        self.beats.inc_by(beats as u64);
    }

    /// One of its objects holds so many octets.
    pub fn stored(&self, octets: usize) {
        self.bytes.inc_by(octets as u64);
    }
}

/// Calls to the Kubernetes API. Clones share the counts.
#[derive(Clone, Debug)]
pub struct ApiMetrics {
    calls: Family<Call, Counter>,
    seconds: Family<Verb, Histogram, fn() -> Histogram>,
    /// What is refused is a problem, and what goes well is none any more.
    problems: Board,
}

/// The same, of one resource.
#[derive(Clone, Debug)]
pub struct CallMetrics {
    api: ApiMetrics,
    resource: &'static str,
}

impl ApiMetrics {
    /// Registers the families.
    pub fn new(registry: &mut Registry, problems: Board) -> Self {
        let calls = Family::default();
        registry.register(
            "api_calls",
            "Calls to the Kubernetes API, by verb, resource and HTTP status: 200 for every success, \
             none when no answer came in time",
            calls.clone(),
        );
        let seconds: Family<_, _, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(API_BUCKETS));
        registry.register_with_unit(
            "api_call_duration",
            "How long calls to the Kubernetes API take, by verb and resource; a watch until it is open",
            Unit::Seconds,
            seconds.clone(),
        );
        Self { calls, seconds, problems }
    }

    /// For whoever calls one resource (`serviceinstances`) with these verbs.
    #[must_use]
    pub fn on(&self, resource: &'static str, verbs: &[&'static str]) -> CallMetrics {
        for verb in verbs {
            for code in [Some(200), None] {
                self.calls.get_or_create(&Call { verb, resource, code: Code(code) }).inc_by(0);
            }
            drop(self.seconds.get_or_create(&Verb { verb, resource }));
        }
        CallMetrics { api: self.clone(), resource }
    }
}

impl CallMetrics {
    /// A call was answered with this HTTP status, or not at all, after `took`.
    pub fn answered(&self, verb: &'static str, code: Option<u16>, took: Duration) {
        let (api, resource) = (&self.api, self.resource);
        api.calls.get_or_create(&Call { verb, resource, code: Code(code) }).inc();
        api.seconds.get_or_create(&Verb { verb, resource }).observe(took.as_secs_f64());
    }

    /// A call went well.
    pub fn succeeded(&self, verb: &'static str) {
        for right in rights(verb) {
            self.api.problems.succeeded(right, self.resource);
        }
    }

    /// A call was refused for what is missing: this right, where the refusal names it.
    pub fn refused(&self, verb: &'static str, lack: Lack, named: Option<(&str, &str)>) {
        let needed = rights(verb).first().copied().unwrap_or(verb);
        let (verb, resource) = named.unwrap_or((needed, self.resource));
        self.api.problems.refused(lack, verb, resource);
    }
}

/// What RBAC calls it, the right that every such call needs first: an apply may create the object.
fn rights(verb: &'static str) -> Vec<&'static str> {
    match verb {
        "apply" => vec!["patch", "create"],
        verb => vec![verb],
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Calls {
    calls: &'static str,
}

/// Breakers before the Kubernetes API. Clones share the figures.
#[derive(Clone, Debug)]
pub struct BreakerMetrics {
    open: Family<Calls, Gauge>,
    refused: Family<Calls, Counter>,
}

impl BreakerMetrics {
    /// Registers the families.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let this = Self { open: Family::default(), refused: Family::default() };
        let help = "Whether calls to the Kubernetes API fail at once, since it has not answered: 1, else 0; by calls";
        registry.register("breaker_open", help, this.open.clone());
        let help =
            "Calls to the Kubernetes API that did not go out, since it has not answered, by calls";
        registry.register("breaker_refused", help, this.refused.clone());
        this
    }

    /// There is a breaker for these calls.
    pub fn begin(&self, calls: &'static str) {
        self.is_open(calls, false);
        self.refused.get_or_create(&Calls { calls }).inc_by(0);
    }

    /// It is open, or closed.
    pub fn is_open(&self, calls: &'static str, open: bool) {
        self.open.get_or_create(&Calls { calls }).set(i64::from(open));
    }

    /// `open` or `closed`.
    #[must_use]
    pub fn word(&self, calls: &'static str) -> &'static str {
        if self.open.get_or_create(&Calls { calls }).get() == 0 { "closed" } else { "open" }
    }

    /// A call did not go out.
    pub fn refused(&self, calls: &'static str) {
        self.refused.get_or_create(&Calls { calls }).inc();
    }
}

/// The instance watch.
#[derive(Clone, Debug, Default)]
pub struct WatchMetrics {
    events: Counter,
    poison: Counter,
    interruptions: Family<Reason, Counter>,
}

impl WatchMetrics {
    /// Registers the families.
    pub fn new(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register("watch_events", "Events of the instance watch", new.events.clone());
        registry.register(
            "watch_unreadable_objects",
            "Objects that could not be read and were skipped",
            new.poison.clone(),
        );
        registry.register(
            "watch_interruptions",
            "Times the instance watch broke off: failed (goes on) or lost (lists anew)",
            new.interruptions.clone(),
        );
        for reason in ["failed", "lost"] {
            new.interruptions.get_or_create(&Reason { reason }).inc_by(0);
        }
        new
    }

    /// One event.
    pub fn event(&self) {
        self.events.inc();
    }

    /// One object skipped.
    pub fn poison(&self) {
        self.poison.inc();
    }

    /// The watch broke off.
    pub fn interrupted(&self, reason: &'static str) {
        self.interruptions.get_or_create(&Reason { reason }).inc();
    }
}

/// The election.
#[derive(Clone, Debug, Default)]
pub struct ElectionMetrics {
    leader: Gauge,
    changes: Counter,
}

impl ElectionMetrics {
    /// Registers the families.
    pub fn new(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register(
            "leader",
            "Whether this replica leads, and so writes status and evicts",
            new.leader.clone(),
        );
        registry.register(
            "leader_changes",
            "Times this replica began or ceased to lead",
            new.changes.clone(),
        );
        new
    }

    /// This replica has begun to lead, or ceased to.
    pub fn changed(&self, leads: bool) {
        self.leader.set(i64::from(leads));
        self.changes.inc();
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Right {
    verb: &'static str,
    resource: &'static str,
}

/// What rollcall itself may do.
#[derive(Clone, Debug, Default)]
pub struct RightMetrics {
    missing: Family<Right, Gauge>,
}

impl RightMetrics {
    /// Registers the family.
    pub fn new(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register(
            "right_missing",
            "1 for each right that rollcall needs and does not have; the log says what does not work",
            new.missing.clone(),
        );
        new
    }

    /// Whether a right is there.
    pub fn seen(&self, verb: &'static str, resource: &'static str, granted: bool) {
        self.missing.get_or_create(&Right { verb, resource }).set(i64::from(!granted));
    }
}

/// The engine's own work.
#[derive(Clone, Debug)]
pub struct EngineMetrics {
    batch: Histogram,
    settle: Histogram,
    visible: Histogram,
}

impl EngineMetrics {
    /// Registers the families.
    pub fn new(registry: &mut Registry) -> Self {
        let batch = Histogram::new([1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0]);
        let settle = Histogram::new([0.00001, 0.0001, 0.001, 0.01, 0.1, 1.0]);
        registry.register("engine_batch_facts", "Facts taken in at a time", batch.clone());
        registry.register_with_unit(
            "engine_settle_duration",
            "How long the engine takes to judge and publish",
            Unit::Seconds,
            settle.clone(),
        );
        // 0.5 ms, twice as much each time, up to 8.192 s.
        let visible = Histogram::new(exponential_buckets(0.0005, 2.0, 15));
        registry.register_with_unit(
            "change_visible",
            "From the receipt of news that changes an answer to when every answer here is by it: once for all that \
             was taken in at a time, by the oldest",
            Unit::Seconds,
            visible.clone(),
        );
        Self { batch, settle, visible }
    }

    /// A round changed what readers see, so long after its oldest cause was received.
    pub fn visible(&self, after: Duration) {
        self.visible.observe(after.as_secs_f64());
    }

    /// One round of the engine.
    pub fn round(&self, facts: usize, took: Duration) {
        self.batch.observe(u32::try_from(facts).map_or(f64::MAX, f64::from));
        self.settle.observe(took.as_secs_f64());
    }
}
