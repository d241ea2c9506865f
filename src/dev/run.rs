//! The command `rollcall dev`.
//!
//! Owns: starting, supervising and stopping the control plane and the replicas. Does not own: the parts themselves.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use rollcall_api::manifests::crds;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::args::{Addresses, DevArgs};
use super::banner::banner;
use super::binaries::{Binaries, SearchPaths};
use super::control_plane::{ControlPlane, Options};
use super::credentials::write_private;
use super::launch::Launcher;
use super::replicas::{Replica, Starter};
use super::state_dir::StateDir;
use super::terminal::print_progress;
use super::{install, manifests};

/// Capacity of the channel of restarted replicas: there are at most nine replicas, and each sends one message at a
/// time.
const RESTARTS: usize = 9;

/// Starts everything, prints commands to try, and stops everything on Ctrl-C or SIGTERM.
///
/// # Errors
/// When a part cannot be started, or a program of the control plane ends unexpectedly.
pub async fn run(options: DevArgs) -> Result<()> {
    let mut signals = Signals::new()?;
    let addresses = options.addresses()?;
    let state = StateDir::open(options.state_dir.as_deref())?;
    let started = tokio::select! {
        started = start(&options, &addresses, state.path()) => started,
        () = signals.any() => return Ok(()), // dropping the started processes kills them
    };
    let (control_plane, mut replicas) = started?;
    let result = async {
        write_dev_json(state.path(), &control_plane, &replicas.list)?;
        let text = banner(&control_plane, &replicas.list, &options, &state);
        io::stdout()
            .lock()
            .write_all(text.as_bytes())
            .context("cannot write to standard output")?;
        supervise(state.path(), &control_plane, &mut replicas, &mut signals).await
    }
    .await;
    print_progress("stopping everything");
    let _ = fs::remove_file(dev_json(state.path()));
    replicas.stop().await;
    control_plane.stop().await;
    result
}

/// The running replicas.
struct Replicas {
    list: Vec<Replica>,
    keepers: JoinSet<()>,
    restarts: mpsc::Receiver<Replica>,
    stop: CancellationToken,
}

impl Replicas {
    async fn start(addresses: &[Addresses], starter: &Starter) -> Result<Self> {
        let replica = |(index, at): (usize, &Addresses)| Replica {
            identity: format!("rollcall-{index}"),
            pid: 0,
            http: at.http,
            dns: at.dns,
            admin: at.admin,
        };
        let mut list: Vec<Replica> = addresses.iter().enumerate().map(replica).collect();
        let (sender, restarts) = mpsc::channel(RESTARTS);
        let (mut keepers, stop) = (JoinSet::new(), CancellationToken::new());
        for replica in &mut list {
            let child = starter.start(replica).await?;
            let keep = starter.clone().keep(replica.clone(), child, sender.clone(), stop.clone());
            keepers.spawn(keep);
        }
        Ok(Self { list, keepers, restarts, stop })
    }

    /// Stops all replicas in parallel. Bounded, because each keeper has a deadline for its process.
    async fn stop(mut self) {
        self.stop.cancel();
        while self.keepers.join_next().await.is_some() {}
    }
}

async fn start(
    options: &DevArgs,
    addresses: &[Addresses],
    dir: &Path,
) -> Result<(ControlPlane, Replicas)> {
    let rollcall = env::current_exe().context("cannot find this executable")?;
    let launcher = Launcher::new(rollcall.clone());
    let _ = fs::remove_file(dev_json(dir)); // left by an earlier run that was killed
    let binaries = Binaries::find_or_build(&SearchPaths::from_env()?, &launcher).await?;
    print_progress("starting etcd, kube-apiserver and kube-controller-manager");
    let plane = Options {
        dir: dir.to_owned(),
        binaries,
        launcher: launcher.clone(),
        apiserver_flags: Vec::new(),
    };
    let control_plane = ControlPlane::start(&plane).await?;
    print_progress("installing the CRDs, RBAC and samples");
    let client = control_plane.admin().await?;
    install::install_crds(&client, &crds()).await?;
    install::apply(&client, manifests::RBAC).await?;
    install::apply(&client, manifests::ROLES).await?;
    if !options.no_samples {
        install::apply(&client, manifests::SAMPLES).await?;
    }
    print_progress("starting rollcall");
    let kubeconfig = control_plane.rollcall_kubeconfig.clone();
    let starter = Starter { rollcall, launcher, dir: dir.to_owned(), kubeconfig };
    let replicas = Replicas::start(addresses, &starter).await?;
    Ok((control_plane, replicas))
}

/// Runs until a signal to stop, or until a program of the control plane ends, which is an error.
async fn supervise(
    dir: &Path,
    control_plane: &ControlPlane,
    replicas: &mut Replicas,
    signals: &mut Signals,
) -> Result<()> {
    loop {
        tokio::select! {
            () = signals.any() => return Ok(()),
            why = control_plane.failed() => return Err(anyhow!(why)),
            Some(ended) = replicas.keepers.join_next() => {
                ended.context("the task that keeps a replica running failed")?;
            }
            Some(new) = replicas.restarts.recv() => {
                for replica in &mut replicas.list {
                    if replica.identity == new.identity {
                        replica.clone_from(&new);
                    }
                }
                write_dev_json(dir, control_plane, &replicas.list)?;
            }
        }
    }
}

fn dev_json(dir: &Path) -> PathBuf {
    dir.join("dev.json")
}

/// Writes `dev.json`, which lists all processes and addresses for scripts. The file exists only while everything is
/// ready.
fn write_dev_json(dir: &Path, control_plane: &ControlPlane, replicas: &[Replica]) -> Result<()> {
    let value = json!({
        "kubeconfig": control_plane.kubeconfig,
        "apiserver": {"pid": control_plane.apiserver.pid()},
        "etcd": {"pid": control_plane.etcd.pid()},
        "controllerManager": {"pid": control_plane.controller_manager.pid()},
        "replicas": replicas,
    });
    Ok(write_private(&dev_json(dir), &format!("{value:#}\n"))?)
}

/// Listeners for Ctrl-C and SIGTERM, registered before anything else starts.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let interrupt = listen(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits, without a deadline, for either signal.
    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
