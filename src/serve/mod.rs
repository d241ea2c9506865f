//! One replica: builds its parts, spawns and supervises its tasks, and drains them at shutdown.
//!
//! Owns: the wiring; no other module connects parts. Does not own: the parts.
//!
//! ```text
//!                       facts          views
//! kubernetes::watch    ───────▶ engine ───────▶ directory ◀── http, dns
//! heartbeat::intake    ───────▶   │                 ▲ heartbeats
//! kubernetes::election ───────▶   ├─ duties ──────▶ controller ─────────▶ Kubernetes
//!                                 ├─ self-beats ──▶ heartbeat::self_beat ▶ Kubernetes
//!                                 └─ ledgers ─────▶ heartbeat::flush ────▶ Kubernetes
//! ```

mod build;
mod collector;
mod core;
mod drain;
mod task_group;

use anyhow::{Context as _, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::config::{self, Auth, ServeArgs};
use crate::telemetry::logs;

/// Runs a replica until SIGTERM or Ctrl-C.
///
/// # Errors
/// An invalid configuration, a server that cannot be reached, an address that cannot be bound, a task that failed, or a
/// second signal to stop.
pub async fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let level = logs::init(&args.log, args.log_format)?;
    let config = args.validate()?;
    let mut signals = Signals::new()?;
    raise_file_limit();
    for variable in config::unknown_variables() {
        warn!(
            variable,
            "the environment variable is unknown and has no effect; rollcall serve --help lists the known ones"
        );
    }
    if config.auth == Auth::None {
        warn!(
            "--auth none: every client that reaches the HTTP port can register and deregister instances"
        );
    }
    let mut replica = build::spawn(&config, level).await?;
    info!(
        replica = %config.own, http = %config.http_listen, dns = %config.dns_listen,
        admin = %config.admin_listen, zone = config.zone, "serving"
    );
    let failure = tokio::select! {
        () = signals.any() => None,
        failure = replica.failed() => Some(failure),
    };
    match &failure {
        None => info!("stopping after a signal; a second signal ends the process at once"),
        Some(failure) => error!(failure, "stopping after a failure"),
    }
    tokio::select! {
        () = replica.drain() => {}
        () = signals.any() => bail!("a second signal to stop: the process ends without notifying the other replicas"),
    }
    match failure {
        None => Ok(()),
        Some(failure) => bail!("{failure}"),
    }
}

/// Raises the soft limit of open files to the hard limit. Each connection is an open file, and the default soft limit
/// is often 1,024, for programs that use select(2).
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }) {
        warn!(%error, "cannot raise the limit of open files; the metric process_max_fds shows the current limit");
    }
}

/// Listeners for SIGTERM and Ctrl-C, registered before anything else starts.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let terminate = listen(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits, without a deadline, for a signal to stop.
    async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
