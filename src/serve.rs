//! One replica: the only wiring. Build, spawn, supervise, drain.
//!
//! ```text
//!                 facts                          views
//! cluster::watch ───────▶ engine (registry) ───────────▶ directory ◀── http, dns
//! witness::inbox ───────▶        │                            ▲ beats
//!                                ├─ duties ──▶ controller ──▶ Kubernetes
//!                                └─ self-beats ▶ witness ────▶ Kubernetes
//! ```
//!
//! Every task has a name, and the end of any ends the process: nothing here may be missing.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::clock;
use crate::cluster::{
    client::{self, Clients},
    convert::Converter,
    events::Events,
    watch::Watch,
    writer::Writer,
};
use crate::config::{Config, ServeArgs};
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
use crate::telemetry::{
    admin::{Admin, Probes},
    logs,
    metrics::{self, ApiMetrics, EngineMetrics, WatchMetrics},
};
use crate::witness::{
    Inbox,
    self_beat::{self, SelfBeat},
};

/// How long the doors may take to finish what they have begun.
const DRAIN: Duration = Duration::from_secs(5);

impl Probes for Directory {
    fn is_ready(&self) -> bool {
        self.is_synced()
    }
}

/// The tasks of a replica, by name.
struct Tasks {
    running: JoinSet<(&'static str, anyhow::Result<()>)>,
}

impl Tasks {
    /// Runs `task`, which knows when to end.
    fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.running.spawn(async move { (name, task.await) });
    }

    /// Runs `task` until `stop`: it may be left at any await.
    fn spawn_until(
        &mut self,
        stop: &CancellationToken,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop = stop.clone();
        self.spawn(name, async move {
            stop.run_until_cancelled(task).await;
            Ok(())
        });
    }
}

/// Runs a replica until SIGTERM or Ctrl-C.
///
/// # Errors
/// What cannot be configured, reached or bound; or which task broke down.
pub async fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let config = args.validate()?;
    logs::init(&args.log, args.log_format)?;
    warn!("--auth none: anybody who reaches the HTTP port may register and deregister");
    let doors = CancellationToken::new();
    let core = CancellationToken::new();
    let mut tasks = Tasks { running: JoinSet::new() };
    let writer = spawn(&config, &mut tasks, &doors, &core).await?;
    info!(
        replica = %config.own, http = %config.http_listen, dns = %config.dns_listen,
        admin = %config.admin_listen, zone = config.zone, "serving"
    );
    let ended = tokio::select! {
        signal = stop_signal() => signal.map(|()| None),
        ended = tasks.running.join_next() => Ok(ended),
    };
    doors.cancel();
    let failure = match ended? {
        None => {
            info!("asked to stop");
            None
        }
        Some(Ok((name, Ok(())))) => Some(format!("the task {name} has ended")),
        Some(Ok((name, Err(error)))) => Some(format!("the task {name} has ended: {error:#}")),
        Some(Err(error)) => Some(format!("a task broke down: {error}")),
    };
    self_beat::leave(&writer, &config.own).await;
    core.cancel();
    let drained = async { while tasks.running.join_next().await.is_some() {} };
    if timeout(DRAIN, drained).await.is_err() {
        warn!("some tasks did not end in time");
    }
    if let Some(failure) = failure {
        error!(failure, "stopping");
        bail!("{failure}");
    }
    Ok(())
}

/// Builds everything, and only then spawns it: what cannot be bound is said before anything runs.
async fn spawn(
    config: &Config,
    tasks: &mut Tasks,
    doors: &CancellationToken,
    core: &CancellationToken,
) -> anyhow::Result<Writer> {
    let clients = client::connect(config.kubeconfig.as_deref()).await?;
    let mut registry = metrics::registry();
    let directory = Arc::new(Directory::new(config.scope.as_deref()));
    let built = Core::build(config, clients, &directory, &mut registry);
    let writer = built.self_beat.writer.clone();

    let http_config = HttpConfig {
        listen: config.http_listen,
        replica: config.own.name.to_string(),
        zone: config.zone.clone(),
    };
    let http_metrics = HttpMetrics::new(&mut registry);
    let http = http::bind(http_config, built.inbox, http_metrics).await?;
    let dns_config = DnsConfig {
        zone: config.zone.clone(),
        listen: vec![config.dns_listen],
        name_server_addresses: vec![config.advertise_address],
    };
    let dns_metrics = dns::Metrics::register(&mut registry);
    let dns = dns::bind(&dns_config, directory.clone(), dns_metrics).await?;
    let admin = Admin::bind(config.admin_listen, registry, directory).await?;

    tasks.spawn_until(core, "engine", built.engine.run());
    tasks.spawn_until(core, "watch", built.watch.run());
    tasks.spawn_until(core, "controller", built.controller.run());
    // Not after we have begun to leave: a self-beat would bring the own instance back.
    tasks.spawn_until(doors, "self-beat", built.self_beat.run());
    tasks.spawn_until(core, "admin", admin.serve());
    let stop = doors.clone();
    tasks.spawn("http", async move {
        http.serve(stop).await;
        Ok(())
    });
    let stop = doors.clone();
    tasks.spawn("dns", async move { Ok(dns.serve(stop).await?) });
    Ok(writer)
}

/// Everything behind the doors, connected by channels and not yet running.
struct Core {
    engine: Engine,
    watch: Watch,
    controller: Controller,
    self_beat: SelfBeat,
    inbox: Inbox,
}

impl Core {
    fn build(
        config: &Config,
        clients: Clients,
        directory: &Arc<Directory>,
        registry: &mut Registry,
    ) -> Self {
        let converter = Arc::new(Converter::default());
        let api_metrics = ApiMetrics::new(registry);
        let writer =
            Writer::new(clients.writes.clone(), converter.clone(), api_metrics, clock::show);
        let events = Events::new(clients.writes, &config.own.name);
        let counts = Arc::new(ArcSwap::default());
        let figures = Figures { directory: directory.clone(), counts: counts.clone() };
        registry.register_collector(Box::new(figures));

        let (facts_in, facts) = mpsc::channel(FACTS);
        let (duties, duties_out) = mpsc::channel(DUTIES);
        let (self_beats, values) = mpsc::channel(self_beat::QUEUE);
        let engine = Engine {
            catalog: Catalog::new(settings(config), directory.clone()),
            facts,
            duties,
            self_beats,
            counts,
            metrics: EngineMetrics::new(registry),
        };
        let watch = Watch {
            client: clients.watches,
            scope: config.scope.clone(),
            converter,
            facts: facts_in.clone(),
            metrics: WatchMetrics::new(registry),
        };
        let controller = Controller::new(writer.clone(), events, facts_in.clone(), duties_out);
        let inbox = Inbox::new(directory.clone(), writer.clone(), facts_in.clone());
        let self_beat = SelfBeat {
            own: config.own.clone(),
            registration: own_registration(config),
            writer,
            facts: facts_in,
            values,
        };
        Self { engine, watch, controller, self_beat, inbox }
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        own: config.own.clone(),
        boot: format!("{:08x}", fastrand::u32(..)),
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

/// Waits, without a deadline, until somebody wants the process to end.
async fn stop_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot listen for Ctrl-C")?,
    }
    Ok(())
}
