//! Metrics for Prometheus, all named `rollcall_…`.
//!
//! Owns: the registry, and the families of the modules that have none of their own. Label values are bounded: never a
//! name that a client chose. Series that are known beforehand exist from the first scrape on, at 0, so that `rate()`
//! sees the first event. A new family must be scraped in `tests/integration/observability.rs`, which then requires its row in
//! `docs/metrics.md`. Does not own: the families in `auth`, `dns` and `http`.

use std::time::Duration;

use crate::telemetry::problems::{MissingKind, ProblemTracker};
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

/// Histogram buckets for calls to the Kubernetes API, in seconds.
const API_BUCKETS: [f64; 10] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// A registry with the common prefix, and with the metric `rollcall_build_info`.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::with_prefix("rollcall");
    let build = Family::<BuildLabels, Gauge>::default();
    build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
    registry.register("build_info", "Version of rollcall", build);
    registry
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VerbLabels {
    verb: &'static str,
    resource: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    verb: &'static str,
    resource: &'static str,
    code: Code,
}

/// The HTTP status of an answer, or `None` without an answer.
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
struct ReasonLabels {
    reason: &'static str,
}

/// Metrics about this replica's ledger. Clones share the counters.
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
            "Bytes of encoded heartbeats in the ledgers that this replica wrote",
            Unit::Bytes,
            this.bytes.clone(),
        );
        let help = "Heartbeats that this replica reported to the others in its ledger, including repeated ones";
        registry.register("ledger_heartbeats", help, this.beats.clone());
        this
    }

    /// Counts the heartbeats of a ledger that was sent.
    pub fn sent(&self, beats: usize) {
        self.beats.inc_by(beats as u64);
    }

    /// Counts the bytes of one object of the ledger.
    pub fn stored(&self, bytes: usize) {
        self.bytes.inc_by(bytes as u64);
    }
}

/// Metrics about calls to the Kubernetes API. Clones share the counters.
#[derive(Clone, Debug)]
pub struct ApiMetrics {
    calls: Family<CallLabels, Counter>,
    seconds: Family<VerbLabels, Histogram, fn() -> Histogram>,
    /// A refused call adds a problem; a successful call removes it.
    problems: ProblemTracker,
}

/// Metrics about calls on one resource.
#[derive(Clone, Debug)]
pub struct CallMetrics {
    api: ApiMetrics,
    resource: &'static str,
}

impl ApiMetrics {
    /// Registers the families.
    pub fn new(registry: &mut Registry, problems: ProblemTracker) -> Self {
        let calls = Family::default();
        registry.register(
            "api_calls",
            "Calls to the Kubernetes API, by verb, resource and HTTP status. 200 stands for every success, \
             none for no answer in time",
            calls.clone(),
        );
        let seconds: Family<_, _, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(API_BUCKETS));
        registry.register_with_unit(
            "api_call_duration",
            "Duration of calls to the Kubernetes API, by verb and resource. A watch counts until it is established",
            Unit::Seconds,
            seconds.clone(),
        );
        Self { calls, seconds, problems }
    }

    /// Metrics for calls on one resource (for example `serviceinstances`) with these verbs.
    #[must_use]
    pub fn for_resource(&self, resource: &'static str, verbs: &[&'static str]) -> CallMetrics {
        for verb in verbs {
            for code in [Some(200), None] {
                self.calls
                    .get_or_create(&CallLabels { verb, resource, code: Code(code) })
                    .inc_by(0);
            }
            drop(self.seconds.get_or_create(&VerbLabels { verb, resource }));
        }
        CallMetrics { api: self.clone(), resource }
    }
}

impl CallMetrics {
    /// Records a call that took this long, with its HTTP status, or `None` without an answer.
    pub fn answered(&self, verb: &'static str, code: Option<u16>, took: Duration) {
        let (api, resource) = (&self.api, self.resource);
        api.calls.get_or_create(&CallLabels { verb, resource, code: Code(code) }).inc();
        api.seconds.get_or_create(&VerbLabels { verb, resource }).observe(took.as_secs_f64());
    }

    /// Reports that a call succeeded.
    pub fn succeeded(&self, verb: &'static str) {
        for right in rights(verb) {
            self.api.problems.succeeded(right, self.resource);
        }
    }

    /// Reports that a call was refused because a right or a type is missing. `named` is the verb and resource in the
    /// refusal, if it names them.
    pub fn refused(&self, verb: &'static str, lack: MissingKind, named: Option<(&str, &str)>) {
        let needed = rights(verb).first().copied().unwrap_or(verb);
        let (verb, resource) = named.unwrap_or((needed, self.resource));
        self.api.problems.refused(lack, verb, resource);
    }
}

/// The RBAC verbs that a call needs. The first one is needed by every such call; an apply also needs `create` if the
/// object does not exist yet.
fn rights(verb: &'static str) -> Vec<&'static str> {
    match verb {
        "apply" => vec!["patch", "create"],
        verb => vec![verb],
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BreakerLabels {
    calls: &'static str,
}

/// Metrics about the breakers in front of the Kubernetes API. Clones share them.
#[derive(Clone, Debug)]
pub struct BreakerMetrics {
    open: Family<BreakerLabels, Gauge>,
    refused: Family<BreakerLabels, Counter>,
}

impl BreakerMetrics {
    /// Registers the families.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let this = Self { open: Family::default(), refused: Family::default() };
        let help = "Whether a breaker fails calls to the Kubernetes API at once because it has not answered: 1, else 0; by \
                    kind of calls";
        registry.register("breaker_open", help, this.open.clone());
        let help =
            "Calls to the Kubernetes API that an open breaker did not send, by kind of calls";
        registry.register("breaker_refused", help, this.refused.clone());
        this
    }

    /// Registers the series of a breaker, which is closed at first.
    pub fn begin(&self, calls: &'static str) {
        self.set_open(calls, false);
        self.refused.get_or_create(&BreakerLabels { calls }).inc_by(0);
    }

    /// Records whether the breaker is open.
    pub fn set_open(&self, calls: &'static str, open: bool) {
        self.open.get_or_create(&BreakerLabels { calls }).set(i64::from(open));
    }

    /// The state of a breaker: `open` or `closed`.
    #[must_use]
    pub fn state_name(&self, calls: &'static str) -> &'static str {
        if self.open.get_or_create(&BreakerLabels { calls }).get() == 0 { "closed" } else { "open" }
    }

    /// Counts a call that the breaker did not send.
    pub fn refused(&self, calls: &'static str) {
        self.refused.get_or_create(&BreakerLabels { calls }).inc();
    }
}

/// Metrics about the watches. Clones share the counters.
#[derive(Clone, Debug, Default)]
pub struct WatchMetrics {
    events: Counter,
    unreadable: Counter,
    interruptions: Family<ReasonLabels, Counter>,
}

impl WatchMetrics {
    /// Registers the families.
    pub fn new(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register(
            "watch_events",
            "Events that the watches of instances and ledgers delivered",
            new.events.clone(),
        );
        registry.register(
            "watch_unreadable_objects",
            "Objects that this version of rollcall cannot read and therefore skipped",
            new.unreadable.clone(),
        );
        registry.register(
            "watch_interruptions",
            "Interruptions of the watches, by reason: failed (the watch resumes) or lost (all objects are listed \
             again)",
            new.interruptions.clone(),
        );
        for reason in ["failed", "lost"] {
            new.interruptions.get_or_create(&ReasonLabels { reason }).inc_by(0);
        }
        new
    }

    /// Counts one event.
    pub fn event(&self) {
        self.events.inc();
    }

    /// Counts one object that cannot be read.
    pub fn unreadable(&self) {
        self.unreadable.inc();
    }

    /// Counts an interruption of a watch.
    pub fn interrupted(&self, reason: &'static str) {
        self.interruptions.get_or_create(&ReasonLabels { reason }).inc();
    }
}

/// Metrics about the leader election. Clones share them.
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
            "Whether this replica is the leader, which writes statuses and evicts expired instances: 1, else 0",
            new.leader.clone(),
        );
        registry.register(
            "leader_changes",
            "Times that this replica became the leader or ceased to be the leader",
            new.changes.clone(),
        );
        new
    }

    /// Records that this replica became the leader, or ceased to be the leader.
    pub fn changed(&self, leads: bool) {
        self.leader.set(i64::from(leads));
        self.changes.inc();
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RightLabels {
    verb: &'static str,
    resource: &'static str,
}

/// Metrics about the rights of rollcall itself.
#[derive(Clone, Debug, Default)]
pub struct RightMetrics {
    missing: Family<RightLabels, Gauge>,
}

impl RightMetrics {
    /// Registers the family.
    pub fn new(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register(
            "right_missing",
            "1 for each right that rollcall needs and does not have, else 0; the log names the consequence and the fix",
            new.missing.clone(),
        );
        new
    }

    /// Records whether a right is granted.
    pub fn set_granted(&self, verb: &'static str, resource: &'static str, granted: bool) {
        self.missing.get_or_create(&RightLabels { verb, resource }).set(i64::from(!granted));
    }
}

/// Metrics about the work of the engine.
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
        registry.register(
            "engine_batch_facts",
            "Facts that the engine takes in during one round",
            batch.clone(),
        );
        registry.register_with_unit(
            "engine_settle_duration",
            "Time in which the engine takes in the facts of one round, judges leases and publishes views",
            Unit::Seconds,
            settle.clone(),
        );
        // From 0.5 ms, doubling, to 8.192 s.
        let visible = Histogram::new(exponential_buckets(0.0005, 2.0, 15));
        registry.register_with_unit(
            "change_visible",
            "Time from the receipt of a change until every answer of this replica reflects it. Recorded once per round \
             of the engine, for the oldest change",
            Unit::Seconds,
            visible.clone(),
        );
        Self { batch, settle, visible }
    }

    /// Records how long the oldest change of a round took from its receipt until readers saw it.
    pub fn visible(&self, after: Duration) {
        self.visible.observe(after.as_secs_f64());
    }

    /// Records one round of the engine.
    pub fn round(&self, facts: usize, took: Duration) {
        self.batch.observe(u32::try_from(facts).map_or(f64::MAX, f64::from));
        self.settle.observe(took.as_secs_f64());
    }
}
