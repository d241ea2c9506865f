//! Builds a replica: binds its servers before anything runs, and spawns all tasks in their groups.
//!
//! Owns: the servers, and the assignment of tasks to groups. Does not own: the parts behind the servers (`core`), and
//! the shutdown (`drain`).

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64},
};

use prometheus_client::registry::Registry;
use rollcall_core::directory::Directory;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::dns::{self, DnsServer, Zones, name_servers, notify::Notifier};
use crate::http::{self, Admin, AppParts, HttpConfig, HttpMetrics, HttpServer};
use crate::kubernetes::{client, election::Election};
use crate::serve::{
    core::Core,
    drain::{Readiness, Replica},
    task_group::TaskGroup,
};
use crate::telemetry::{heartbeats::HeartbeatMetrics, level::Level, metrics, traces::Traces};

/// Builds all parts, and spawns the tasks only when all could be built.
///
/// # Errors
/// A Kubernetes configuration that cannot be used, or an address that cannot be bound.
pub(super) async fn spawn(config: &Config, level: Level) -> anyhow::Result<Replica> {
    let clients = client::connect(config.kubeconfig.as_deref()).await?;
    let mut registry = metrics::registry();
    let directory = Directory::new(config.scope.as_deref()).with_networks(&config.dns.reverse);
    let directory = Arc::new(directory);
    let beats = HeartbeatMetrics::new(&mut registry);
    let scheme = if config.http_tls.is_some() { "https" } else { "http" };
    let traces = Traces::from_env(&config.own.name, scheme, &mut registry)?;
    let core =
        Core::build(config, clients, &directory, &mut registry, beats.clone(), traces.clone());
    let readiness = Arc::new(Readiness {
        directory: directory.clone(),
        problems: core.app.problems.clone(),
        started: AtomicBool::new(false),
        synced: AtomicU64::new(0),
        stopping: AtomicBool::new(false),
    });
    let http = bind_http(config, core.app, beats, &mut registry).await?;
    let dns_metrics = dns::Metrics::register(&mut registry);
    let zones = Zones::new(&config.zone, config.dns.clone(), directory)?;
    let dns = dns::bind(zones, &[config.dns_listen], &config.own.name, dns_metrics.clone())?;
    let admin = Admin::bind(config.admin_listen, registry, readiness.clone(), level).await?;

    let mut replica = Replica {
        http: TaskGroup::new("http"),
        flush: TaskGroup::new("flush"),
        duties: TaskGroup::new("duties"),
        election: TaskGroup::new("election"),
        self_beat: TaskGroup::new("self-beat"),
        dns: TaskGroup::new("dns"),
        core: TaskGroup::new("core"),
        readiness,
        writer: core.self_beat.writer.clone(),
        facts: core.self_beat.facts.clone(),
        own: config.own.clone(),
        linger: config.linger,
        traces,
    };
    let passed = core.preflight.passed();
    replica.core.spawn_until("admin", admin.serve());
    replica.core.spawn_until("preflight", core.preflight.run());
    let engine = core.engine;
    replica.core.spawn("engine", |stop| async move {
        Ok(stop.run_until_cancelled(engine.run()).await.transpose().map(|_| ())?)
    });
    replica.core.spawn_until("watch", once_passed(passed.clone(), core.watch.run()));
    replica.core.spawn_until("ledgers", once_passed(passed.clone(), core.ledgers.run()));
    if let Some(keys) = core.keys {
        replica.core.spawn_until("keys", once_passed(passed.clone(), keys.run()));
    }
    replica.flush.spawn_until("flush", once_passed(passed.clone(), core.flush.run()));
    replica.self_beat.spawn_until("self-beat", once_passed(passed.clone(), core.self_beat.run()));
    replica.election.spawn("election", |stop| run_election(core.election, passed, stop));
    replica.duties.spawn("controller", |stop| async move {
        core.controller.run(stop).await;
        Ok(())
    });
    spawn_dns(dns, &dns_metrics, &mut replica.dns);
    spawn_http(http, &mut replica.http);
    Ok(replica)
}

fn spawn_http(http: HttpServer, group: &mut TaskGroup) {
    group.spawn("http", |stop| async move {
        http.serve(stop).await;
        Ok(())
    });
}

/// Runs the election once the preflight has passed. When stopped, it releases the leadership.
async fn run_election(
    election: Election,
    passed: watch::Receiver<bool>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    if stop.run_until_cancelled(once_passed(passed, async {})).await.is_some() {
        election.run(stop).await;
    }
    Ok(())
}

/// Spawns the DNS server, its resolver for name server addresses, and one notifier per secondary.
fn spawn_dns(dns: DnsServer, metrics: &dns::Metrics, group: &mut TaskGroup) {
    let zones = dns.zones().clone();
    let servers = zones.settings.name_servers.clone();
    group.spawn_until("name-servers", name_servers::refresh(zones.zone.clone(), servers));
    for secondary in &zones.settings.notify {
        let (zones, metrics) = (zones.clone(), metrics.clone());
        let notifier = Notifier { zones, secondary: *secondary, metrics };
        group.spawn_until("notify", notifier.run());
    }
    group.spawn("dns", |stop| async move { Ok(dns.serve(stop).await?) });
}

async fn bind_http(
    config: &Config,
    app: AppParts,
    beats: HeartbeatMetrics,
    registry: &mut Registry,
) -> anyhow::Result<HttpServer> {
    let http = HttpConfig {
        listen: config.http_listen,
        replica: config.own.name.to_string(),
        zone: config.zone.clone(),
        read_auth: config.read_auth,
        rates: config.http_rates,
        tls: config.http_tls.clone(),
    };
    let metrics = HttpMetrics::new(registry, beats);
    Ok(http::bind(http, app, metrics, registry).await?)
}

/// Runs `task` once the preflight has passed, without a deadline.
async fn once_passed(mut passed: watch::Receiver<bool>, task: impl Future<Output = ()>) {
    // An error means that the preflight task has ended, which also ends the process.
    if passed.wait_for(|passed| *passed).await.is_ok() {
        task.await;
    }
}
