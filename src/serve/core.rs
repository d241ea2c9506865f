//! The parts behind the servers, connected by channels.
//!
//! Owns: their construction. Does not own: running them (`build`).

use std::sync::Arc;

use arc_swap::ArcSwap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use prometheus_client::registry::Registry;
use rollcall_core::{
    catalog::{Catalog, Counts, Settings},
    directory::Directory,
    fact::{self, Delivery},
};
use rollcall_model::{instance::Protocol, registration::Registration};
use tokio::sync::mpsc;

use crate::auth::{AuthMetrics, Authorizer, OwnerLookup};
use crate::clock;
use crate::config::{Auth, AuthTokens, Config};
use crate::controller::Controller;
use crate::engine::{Announce, DUTIES, Engine, FACTS};
use crate::heartbeat::{
    Intake,
    flush::{self, LedgerFlush},
    self_beat::{self, SelfBeatWriter},
};
use crate::http::{AppParts, Subscribers, Views};
use crate::kubernetes::{
    breaker::Breakers,
    client::Clients,
    convert::Converter,
    election::{Election, Process},
    events::Events,
    instances::WatchedInstances,
    ledger_writer::LedgerWriter,
    ledgers::WatchedLedgers,
    preflight::{Preflight, PreflightSettings},
    review::{KeyReader, Keyring, Reviewer},
    store_version::StoreVersion,
    watch::Watch,
    writer::Writer,
};
use crate::serve::collector::RegistryCollector;
use crate::telemetry::{
    heartbeats::HeartbeatMetrics,
    keys::KeyMetrics,
    metrics::{
        ApiMetrics, ElectionMetrics, EngineMetrics, LedgerMetrics, RightMetrics, WatchMetrics,
    },
    problems::ProblemTracker,
    traces::Traces,
};

/// The parts of a replica, not yet running.
pub(super) struct Core {
    pub(super) preflight: Preflight,
    pub(super) engine: Engine,
    pub(super) watch: Watch<WatchedInstances>,
    pub(super) ledgers: Watch<WatchedLedgers>,
    pub(super) flush: LedgerFlush,
    pub(super) controller: Controller,
    pub(super) election: Election,
    pub(super) self_beat: SelfBeatWriter,
    /// Only with `--auth-tokens jwks`.
    pub(super) keys: Option<KeyReader>,
    /// State of the HTTP server.
    pub(super) app: AppParts,
}

impl Core {
    /// Builds all parts.
    pub(super) fn build(
        config: &Config,
        clients: Clients,
        directory: &Arc<Directory>,
        registry: &mut Registry,
        beats: HeartbeatMetrics,
        traces: Option<Traces>,
    ) -> Self {
        let converter = Arc::new(Converter::default());
        let (needs, problems) = problems(config);
        let api_metrics = ApiMetrics::new(registry, problems.clone());
        let (facts_in, facts) = mpsc::channel(FACTS);
        let election =
            election(config, clients.election, directory, &facts_in, &api_metrics, registry);
        let breakers = Breakers::new(registry);
        let (writes, guard) = (clients.writes.clone(), &breakers.writes);
        let store = StoreVersion::new(writes.clone(), config.scope.clone(), &api_metrics, guard);
        let writer = Writer::new(writes, converter.clone(), &api_metrics, guard);
        let reviews = clients.reviews.clone();
        let (authorizer, keys) =
            authorizer(config, reviews, directory, &api_metrics, &breakers, registry).unzip();
        let rights = RightMetrics::new(registry);
        let preflight = Preflight::new(clients.reviews, needs, problems.clone(), rights);
        let events = Events::new(clients.writes, &config.own.name, &api_metrics);
        let counts = register_collector(directory, registry);
        let (duties, duties_out) = mpsc::channel(DUTIES);
        let (self_beats, self_beats_out) = mpsc::channel(self_beat::QUEUE);
        let (ledgers_in, ledgers_out) = mpsc::channel(flush::QUEUE);
        let (views, subscribers) = readers(directory, registry);
        let (watch, ledgers) =
            watches(config, clients.watches, converter, &facts_in, &api_metrics, registry);
        let engine = Engine {
            catalog: Catalog::new(settings(config), directory.clone()),
            facts,
            duties,
            self_beats,
            ledgers: ledgers_in,
            relist: [watch.relist.clone(), ledgers.relist.clone()],
            counts,
            metrics: EngineMetrics::new(registry),
            beats,
            announce: announce(&views, &subscribers),
            standstill_since: None,
            overlap: None,
            duplicates: Vec::new(),
        };
        let ledger_writer = ledger_writer(config, clients.ledgers, &api_metrics, registry);
        let (writer_of_ledgers, done) = (ledger_writer.clone(), facts_in.clone());
        let flush = LedgerFlush { writer: writer_of_ledgers, facts: done, ledgers: ledgers_out };
        let (writes, tenure, done) = (writer.clone(), election.tenure(), facts_in.clone());
        let controller = Controller::new(writes, ledger_writer, tenure, events, done, duties_out);
        let intake = intake(directory, &writer, store, &facts_in);
        let self_beat = build_self_beat(config, directory, writer, facts_in, self_beats_out);
        let breakers = breakers.metrics;
        let app = AppParts { intake, authorizer, problems, breakers, views, subscribers, traces };
        Self {
            preflight,
            engine,
            watch,
            ledgers,
            flush,
            controller,
            election,
            self_beat,
            keys: keys.flatten(),
            app,
        }
    }
}

fn election(
    config: &Config,
    client: Client,
    directory: &Arc<Directory>,
    facts: &mpsc::Sender<Delivery>,
    calls: &ApiMetrics,
    registry: &mut Registry,
) -> Election {
    let process = Process { identity: &config.own.name, boot: &config.boot };
    let (namespace, metrics) = (&config.own_namespace, ElectionMetrics::new(registry));
    Election::new(client, namespace, &process, directory.clone(), facts.clone(), metrics, calls)
}

fn watches(
    config: &Config,
    client: Client,
    converter: Arc<Converter>,
    facts: &mpsc::Sender<Delivery>,
    calls: &ApiMetrics,
    registry: &mut Registry,
) -> (Watch<WatchedInstances>, Watch<WatchedLedgers>) {
    let metrics = WatchMetrics::new(registry);
    let verbs = &["list", "watch"];
    let instances = Watch {
        kind: WatchedInstances { scope: config.scope.clone(), converter, metrics: metrics.clone() },
        client: client.clone(),
        facts: facts.clone(),
        metrics: metrics.clone(),
        calls: calls.for_resource("serviceinstances", verbs),
        relist: Arc::default(),
    };
    let ledgers = Watch {
        kind: WatchedLedgers::new(&config.own_namespace),
        client,
        facts: facts.clone(),
        metrics,
        calls: calls.for_resource("heartbeatledgers", verbs),
        relist: Arc::default(),
    };
    (instances, ledgers)
}

/// Called when views have changed: updates the encoded answers of HTTP, and wakes the subscribers of these services.
fn announce(views: &Arc<Views>, subscribers: &Arc<Subscribers>) -> Announce {
    let (views, subscribers) = (views.clone(), subscribers.clone());
    Box::new(move |revised| {
        views.update(revised);
        subscribers.announce(revised);
    })
}

fn intake(
    directory: &Arc<Directory>,
    writer: &Writer,
    store: StoreVersion,
    facts: &mpsc::Sender<Delivery>,
) -> Intake {
    Intake::new(directory.clone(), writer.clone(), store, facts.clone(), clock::now)
}

/// The ledger is owned by the pod, so that Kubernetes deletes both together.
fn ledger_writer(
    config: &Config,
    client: Client,
    calls: &ApiMetrics,
    registry: &mut Registry,
) -> LedgerWriter {
    let owner = config.pod_uid.clone().map(|uid| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: config.own.name.to_string(),
        uid,
        controller: Some(false),
        block_owner_deletion: Some(false),
    });
    let metrics = LedgerMetrics::new(registry);
    LedgerWriter::new(client, &config.own_namespace, owner, calls, metrics)
}

/// Registers the metrics of the directory and of the engine's counters, which the engine publishes here.
fn register_collector(directory: &Arc<Directory>, registry: &mut Registry) -> Arc<ArcSwap<Counts>> {
    let counts = Arc::new(ArcSwap::default());
    let collector = RegistryCollector { directory: directory.clone(), counts: counts.clone() };
    registry.register_collector(Box::new(collector));
    counts
}

/// Looks up the pod that owns an instance.
fn owners(directory: &Arc<Directory>) -> OwnerLookup {
    let directory = directory.clone();
    Box::new(move |namespace, name| directory.slot(namespace, name)?.record().owner_pod.clone())
}

fn readers(directory: &Arc<Directory>, registry: &mut Registry) -> (Arc<Views>, Arc<Subscribers>) {
    (Arc::new(Views::new(directory.clone())), Arc::new(Subscribers::new(registry)))
}

fn authorizer(
    config: &Config,
    client: Client,
    directory: &Arc<Directory>,
    calls: &ApiMetrics,
    breakers: &Breakers,
    registry: &mut Registry,
) -> Option<(Authorizer, Option<KeyReader>)> {
    (config.auth == Auth::Token).then(|| {
        let by_keys = config.auth_tokens == AuthTokens::Jwks;
        let breaker = &breakers.reviews;
        let keys = by_keys
            .then(|| Keyring::new(client.clone(), calls, breaker, KeyMetrics::new(registry)));
        let (keyring, reader) = keys.unzip();
        let reviews = Reviewer::new(client, calls, breaker);
        let authorizer = Authorizer::new(
            reviews,
            keyring,
            owners(directory),
            AuthMetrics::new(registry, by_keys),
        );
        (authorizer, reader)
    })
}

fn build_self_beat(
    config: &Config,
    directory: &Arc<Directory>,
    writer: Writer,
    facts: mpsc::Sender<Delivery>,
    wanted: mpsc::Receiver<fact::SelfBeat>,
) -> SelfBeatWriter {
    let (own, registration) = (config.own.clone(), own_registration(config));
    SelfBeatWriter { own, registration, directory: directory.clone(), writer, facts, wanted }
}

/// What rollcall needs in the cluster, and where missing parts are reported.
fn problems(config: &Config) -> (PreflightSettings, ProblemTracker) {
    let needs = PreflightSettings {
        scope: config.scope.clone(),
        own_namespace: config.own_namespace.clone(),
        auth: config.auth == Auth::Token,
        keys: config.auth_tokens == AuthTokens::Jwks,
    };
    let explainer = needs.clone();
    (
        needs,
        ProblemTracker::new(move |lack, verb, resource| explainer.explain(lack, verb, resource)),
    )
}

fn settings(config: &Config) -> Settings {
    Settings {
        own: config.own.clone(),
        boot: config.boot.clone(),
        zone: config.zone.clone(),
        ledger: Some(config.own.name.clone()),
    }
}

fn own_registration(config: &Config) -> Registration {
    self_beat::registration(
        config.advertise_address,
        &[
            ("http", config.http_listen.port(), Protocol::Tcp),
            ("dns", config.dns_listen.port(), Protocol::Udp),
            ("dns-tcp", config.dns_listen.port(), Protocol::Tcp),
            ("admin", config.admin_listen.port(), Protocol::Tcp),
        ],
    )
}
