//! The replicas of `rollcall dev`, each in its own process.
//!
//! Owns: their flags, starting them until they are ready, and restarting a replica that has ended. Does not own: the
//! processes (`child`).

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::child::{Child, tail};
use super::launch::{Launcher, Program};
use super::terminal::print_progress;

/// Deadline from start to ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Pause between two requests to `/readyz`.
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// Deadline of one request to `/readyz`.
const PROBE: Duration = Duration::from_secs(2);
/// How long a replica can take to end after SIGTERM. Each step of its shutdown has its own deadline.
const GRACE: Duration = Duration::from_secs(10);
/// Pause before the first restart. It doubles with each restart of a replica that ends soon again.
const BACKOFF: Duration = Duration::from_secs(1);
/// Maximum pause before a restart.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// After a replica has run this long, its next restart begins with the first pause again.
const STEADY: Duration = Duration::from_secs(60);

/// A replica, also as an element of `replicas` in `dev.json`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Replica {
    /// Its identity.
    pub(super) identity: String,
    /// Its process id; 0 before the first start.
    pub(super) pid: u32,
    /// Address of its HTTP server.
    pub(super) http: SocketAddr,
    /// Address of its DNS server.
    pub(super) dns: SocketAddr,
    /// Address of its admin server.
    pub(super) admin: SocketAddr,
}

/// Starts replicas.
#[derive(Debug, Clone)]
pub(super) struct Starter {
    /// The `rollcall` executable.
    pub(super) rollcall: PathBuf,
    /// Starts processes.
    pub(super) launcher: Launcher,
    /// Directory of the logs.
    pub(super) dir: PathBuf,
    /// Kubeconfig of the replicas.
    pub(super) kubeconfig: PathBuf,
}

impl Starter {
    fn program(&self, replica: &Replica) -> Program {
        let (http, dns, admin) =
            (replica.http.to_string(), replica.dns.to_string(), replica.admin.to_string());
        let mut args: Vec<OsString> = vec!["serve".into(), "--kubeconfig".into()];
        args.push(self.kubeconfig.clone().into());
        let flags = [
            ["--http-listen", &http],
            ["--dns-listen", &dns],
            ["--admin-listen", &admin],
            ["--identity", &replica.identity],
            ["--own-namespace", "rollcall-system"],
            ["--auth", "none"],
            // Here no Service routes queries to a stopping replica.
            ["--linger-seconds", "0"],
        ];
        args.extend(flags.iter().flatten().map(Into::into));
        Program {
            name: replica.identity.clone(),
            path: self.rollcall.clone(),
            args,
            dir: self.dir.clone(),
            log: log(&self.dir, replica),
            env: environment(),
        }
    }

    /// Starts a replica and waits until it is ready. Stores its pid in `replica`.
    pub(super) async fn start(&self, replica: &mut Replica) -> Result<Child> {
        let child = self.launcher.start(&self.program(replica)).await?;
        replica.pid = child.pid();
        let ready = async {
            while status(replica.admin, "/readyz").await != Some(200) {
                sleep(PROBE_EVERY).await;
            }
        };
        tokio::select! {
            biased; // its end first, because another process can answer on its port
            end = child.ended() => bail!(child.exit_report(&end)),
            done = timeout(READY_WITHIN, ready) => if done.is_err() {
                let (seconds, log) = (READY_WITHIN.as_secs(), child.log());
                bail!("{} was not ready within {seconds} s. The last lines of {}:\n{}",
                    replica.identity, log.display(), tail(log, 15));
            },
        }
        Ok(child)
    }

    /// Keeps a started replica running until `stop`. A replica that ends is reported on the terminal and started again.
    /// Each new process is sent to `restarts`.
    pub(super) async fn keep(
        self,
        mut replica: Replica,
        mut child: Child,
        restarts: mpsc::Sender<Replica>,
        stop: CancellationToken,
    ) {
        let mut backoff = BACKOFF;
        loop {
            let run = async { (timeout(STEADY, child.ended()).await.is_ok(), child.ended().await) };
            let (short, end) = tokio::select! {
                ended = run => ended,
                () = stop.cancelled() => return child.stop(GRACE).await,
            };
            backoff = if short { backoff } else { BACKOFF };
            print_progress(&format!("{}\n  Restarting it.", child.exit_report(&end)));
            let restarted = async {
                loop {
                    sleep(backoff).await;
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                    match self.start(&mut replica).await {
                        Ok(child) => return child,
                        Err(error) => print_progress(&format!("{error}")),
                    }
                }
            };
            child = tokio::select! {
                child = restarted => child,
                () = stop.cancelled() => return,
            };
            print_progress(&format!("{} runs again as process {}", replica.identity, replica.pid));
            if restarts.send(replica.clone()).await.is_err() {
                return; // the receiver is gone because everything is being stopped
            }
        }
    }
}

/// The log file of a replica.
pub(super) fn log(dir: &Path, replica: &Replica) -> PathBuf {
    dir.join(format!("{}.log", replica.identity))
}

/// Variables to remove from the environment of a replica: proxies, because it connects to 127.0.0.1 only.
#[must_use]
pub fn environment() -> Vec<(&'static str, Option<&'static str>)> {
    vec![("HTTPS_PROXY", None), ("https_proxy", None)]
}

/// The status code of `GET path` over plain HTTP, or `None` without an answer within 2 s.
pub async fn status(address: SocketAddr, path: &str) -> Option<u16> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut line = [0; 12]; // `HTTP/1.1 200`
        stream.read_exact(&mut line).await.ok()?;
        std::str::from_utf8(&line).ok()?.split(' ').nth(1)?.parse().ok()
    };
    timeout(PROBE, ask).await.ok().flatten()
}
