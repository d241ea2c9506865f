//! Building a replica: every part, connected by channels, and the stages that run them.
//!
//! What cannot be bound is said before anything runs. Does not own: the end (`drain`).

use std::sync::{Arc, atomic::AtomicBool};

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

use crate::clock;
use crate::cluster::{
    client::{self, Clients},
    convert::Converter,
    election::Election,
    events::Events,
    watch::Watch,
    writer::Writer,
};
use crate::config::Config;
use crate::controller::Controller;
use crate::dns::{self, DnsConfig};
use crate::engine::{DUTIES, Engine, FACTS, Figures};
use crate::http::{self, HttpConfig, HttpMetrics};
use crate::registry::{
    catalog::{Catalog, Settings},
    directory::Directory,
    instance::Protocol,
    registration::Registration,
};
use crate::serve::{
    drain::{Condition, Replica},
    stage::Stage,
};
use crate::telemetry::{
    admin::Admin,
    beats::BeatMetrics,
    level::Level,
    metrics::{self, ApiMetrics, ElectionMetrics, EngineMetrics, WatchMetrics},
};
use crate::witness::{
    Inbox,
    self_beat::{self, SelfBeat},
};

/// Builds everything, and only then spawns it.
///
/// # Errors
/// What cannot be reached or bound.
pub(super) async fn spawn(config: &Config, level: Level) -> anyhow::Result<Replica> {
    let clients = client::connect(config.kubeconfig.as_deref()).await?;
    let mut registry = metrics::registry();
    let directory = Arc::new(Directory::new(config.scope.as_deref()));
    let beats = BeatMetrics::new(&mut registry);
    let built = Core::build(config, clients, &directory, (&mut registry, beats.clone()));
    let writer = built.self_beat.writer.clone();

    let http_config = HttpConfig {
        listen: config.http_listen,
        replica: config.own.name.to_string(),
        zone: config.zone.clone(),
    };
    let http_metrics = HttpMetrics::new(&mut registry, beats);
    let http = http::bind(http_config, built.inbox, http_metrics).await?;
    let dns_config = DnsConfig {
        zone: config.zone.clone(),
        listen: vec![config.dns_listen],
        name_server_addresses: vec![config.advertise_address],
    };
    let dns_metrics = dns::Metrics::register(&mut registry);
    let dns = dns::bind(&dns_config, directory.clone(), dns_metrics).await?;
    let condition = Arc::new(Condition { directory, stopping: AtomicBool::new(false) });
    let admin = Admin::bind(config.admin_listen, registry, condition.clone(), level).await?;

    let mut replica = Replica {
        http: Stage::new("http"),
        duties: Stage::new("duties"),
        election: Stage::new("election"),
        self_beat: Stage::new("self-beat"),
        dns: Stage::new("dns"),
        core: Stage::new("core"),
        condition,
        writer,
        own: config.own.clone(),
        linger: config.linger,
    };
    replica.core.spawn_until("engine", built.engine.run());
    replica.core.spawn_until("watch", built.watch.run());
    replica.core.spawn_until("admin", admin.serve());
    replica.self_beat.spawn_until("self-beat", built.self_beat.run());
    replica.election.spawn("election", |stop| async move {
        built.election.run(stop).await;
        Ok(())
    });
    replica.duties.spawn("controller", |stop| async move {
        built.controller.run(stop).await;
        Ok(())
    });
    replica.dns.spawn("dns", |stop| async move { Ok(dns.serve(stop).await?) });
    replica.http.spawn("http", |stop| async move {
        http.serve(stop).await;
        Ok(())
    });
    Ok(replica)
}

/// Everything behind the doors, connected by channels and not yet running.
struct Core {
    engine: Engine,
    watch: Watch,
    controller: Controller,
    election: Election,
    self_beat: SelfBeat,
    inbox: Inbox,
}

impl Core {
    fn build(
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
        Self { engine, watch, controller, election, self_beat, inbox }
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        own: config.own.clone(),
        boot: config.boot.clone(),
        zone: config.zone.clone(),
        show: clock::show,
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
