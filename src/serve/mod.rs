//! One replica: the only wiring. Build, spawn, supervise, drain.
//!
//! ```text
//!                 facts                          views
//! cluster::watch ───────▶ engine (registry) ───────────▶ directory ◀── http, dns
//! witness::intake ───────▶        │                            ▲ beats
//! cluster::election ────▶        ├─ duties ──▶ controller ──▶ Kubernetes
//!                                └─ self-beats ▶ witness ────▶ Kubernetes
//! ```

mod build;
mod core;
mod drain;
mod figures;
mod stage;

use anyhow::{Context as _, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::config::{self, Auth, ServeArgs};
use crate::telemetry::logs;

/// Runs a replica until SIGTERM or Ctrl-C.
///
/// # Errors
/// What cannot be configured, reached or bound; which task broke down; or that it was told twice
/// to stop.
pub async fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let level = logs::init(&args.log, args.log_format)?;
    let config = args.validate()?;
    let mut signals = Signals::new()?;
    open_many();
    for variable in config::unknown_variables() {
        warn!(
            variable,
            "is no variable of rollcall and has no effect; rollcall serve --help lists them"
        );
    }
    if config.auth == Auth::None {
        warn!("--auth none: anybody who reaches the HTTP port may register and deregister");
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
        None => info!("asked to stop; once more ends at once"),
        Some(failure) => error!(failure, "stopping"),
    }
    tokio::select! {
        () = replica.drain() => {}
        () = signals.any() => bail!("asked twice to stop: ended without taking leave"),
    }
    match failure {
        None => Ok(()),
        Some(failure) => bail!("{failure}"),
    }
}

/// Lets the process have as many files open as it may: each connection is one, and what it begins with is often
/// 1,024, for programs that use select(2).
fn open_many() {
    let most = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }) {
        warn!(%error, "the limit of open files cannot be raised, see process_max_fds");
    }
}

/// SIGTERM and Ctrl-C, heard from the first line on.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let heard = |kind| signal(kind).context("cannot listen for signals");
        let terminate = heard(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: heard(SignalKind::interrupt())? })
    }

    /// Waits, without a deadline, until somebody wants the process to end.
    async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
