//! Everything behind the doors, connected by channels. Does not own: running it (`build`).

use std::sync::Arc;

use arc_swap::ArcSwap;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

use crate::auth::{AuthMetrics, Gate};
use crate::clock;
use crate::cluster::{
    client::Clients,
    convert::Converter,
    election::Election,
    events::Events,
    preflight::{Needs, Preflight},
    review::Reviews,
    watch::Watch,
    writer::Writer,
};
use crate::config::{Auth, Config};
use crate::controller::Controller;
use crate::engine::{DUTIES, Engine, FACTS, Figures};
use crate::registry::{
    catalog::{Catalog, Settings},
    directory::Directory,
    instance::Protocol,
    registration::Registration,
    rules::Rules,
};
use crate::telemetry::{
    beats::BeatMetrics,
    metrics::{ApiMetrics, ElectionMetrics, EngineMetrics, RightMetrics, WatchMetrics},
    problems,
};
use crate::witness::{
    Inbox,
    self_beat::{self, SelfBeat},
};

/// The parts, not yet running.
pub(super) struct Core {
    pub(super) problems: problems::Shared,
    pub(super) preflight: Preflight,
    pub(super) engine: Engine,
    pub(super) watch: Watch,
    pub(super) controller: Controller,
    pub(super) election: Election,
    pub(super) self_beat: SelfBeat,
    pub(super) inbox: Inbox,
    pub(super) gate: Option<Gate>,
}

impl Core {
    /// Makes them.
    pub(super) fn build(
        config: &Config,
        clients: Clients,
        directory: &Arc<Directory>,
        (registry, beats): (&mut Registry, BeatMetrics),
    ) -> Self {
        let converter = Arc::new(Converter::default());
        let api_metrics = ApiMetrics::new(registry);
        let (facts_in, facts) = mpsc::channel(FACTS);
        let election = Election::new(
            clients.election,
            &config.own_namespace,
            (&config.own.name, &config.boot),
            facts_in.clone(),
            (ElectionMetrics::new(registry), &api_metrics),
        );
        let writer =
            Writer::new(clients.writes.clone(), converter.clone(), &api_metrics, clock::show);
        let gate = gate(config, clients.reviews.clone(), &api_metrics, registry);
        let problems = problems::Shared::default();
        let preflight = Preflight::new(
            clients.reviews,
            needs(config),
            problems.clone(),
            RightMetrics::new(registry),
        );
        let events = Events::new(clients.writes, &config.own.name, &api_metrics);
        let counts = Arc::new(ArcSwap::default());
        let figures = Figures { directory: directory.clone(), counts: counts.clone() };
        registry.register_collector(Box::new(figures));

        let (duties, duties_out) = mpsc::channel(DUTIES);
        let (self_beats, values) = mpsc::channel(self_beat::QUEUE);
        let engine = Engine {
            catalog: Catalog::new(settings(config), directory.clone()),
            facts,
            duties,
            self_beats,
            counts,
            metrics: EngineMetrics::new(registry),
            beats,
        };
        let watch = Watch {
            client: clients.watches,
            scope: config.scope.clone(),
            converter,
            facts: facts_in.clone(),
            metrics: WatchMetrics::new(registry),
            calls: api_metrics.on("serviceinstances", &["list", "watch"]),
        };
        let controller = Controller::new(
            (writer.clone(), election.tenure()),
            events,
            facts_in.clone(),
            duties_out,
        );
        let inbox = Inbox::new(directory.clone(), writer.clone(), facts_in.clone());
        let self_beat = SelfBeat {
            own: config.own.clone(),
            registration: own_registration(config),
            writer,
            facts: facts_in,
            values,
        };
        Self { problems, preflight, engine, watch, controller, election, self_beat, inbox, gate }
    }
}

fn gate(
    config: &Config,
    client: Client,
    metrics: &ApiMetrics,
    registry: &mut Registry,
) -> Option<Gate> {
    (config.auth == Auth::Token).then(|| {
        let reviews = Reviews::new(client, metrics);
        Gate::new(reviews, AuthMetrics::new(registry))
    })
}

fn needs(config: &Config) -> Needs {
    Needs {
        scope: config.scope.clone(),
        home: config.own_namespace.clone(),
        auth: config.auth == Auth::Token,
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        own: config.own.clone(),
        boot: config.boot.clone(),
        zone: config.zone.clone(),
        show: clock::show,
        ledger: None,
        rules: Rules::default(),
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
