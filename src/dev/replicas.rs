//! The replicas of `rollcall dev`, each a process of its own.
//!
//! Owns their flags, their start up to ready, and bringing back one that died.

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
use super::terminal::say;

/// From start to ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at `/readyz`.
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// One look.
const PROBE: Duration = Duration::from_secs(2);
/// For an orderly end: draining has its own deadline within.
const GRACE: Duration = Duration::from_secs(10);
/// Before the first restart; it doubles with each that follows soon.
const BACKOFF: Duration = Duration::from_secs(1);
/// At most so long between two restarts.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// Who lived so long starts with the first backoff again.
const STEADY: Duration = Duration::from_secs(60);

/// What one replica is: an element of `replicas` in `dev.json`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Replica {
    /// Its name.
    pub(super) identity: String,
    /// Its process id; 0 before the first start.
    pub(super) pid: u32,
    /// Where it answers HTTP.
    pub(super) http: SocketAddr,
    /// Where it answers DNS.
    pub(super) dns: SocketAddr,
    /// Where `/readyz` is.
    pub(super) admin: SocketAddr,
}

/// How replicas are started.
#[derive(Debug, Clone)]
pub(super) struct Starter {
    /// The `rollcall` executable.
    pub(super) rollcall: PathBuf,
    /// How processes are started.
    pub(super) launcher: Launcher,
    /// Where their logs go.
    pub(super) dir: PathBuf,
    /// The kubeconfig of the user that they are.
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
            // Nobody here is told by Kubernetes to ask elsewhere.
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

    /// Starts a replica and waits until it is ready; puts its pid into `replica`.
    pub(super) async fn start(&self, replica: &mut Replica) -> Result<Child> {
        let child = self.launcher.start(&self.program(replica)).await?;
        replica.pid = child.pid();
        let ready = async {
            while status(replica.admin, "/readyz").await != Some(200) {
                sleep(PROBE_EVERY).await;
            }
        };
        tokio::select! {
            biased; // its death first: somebody else may answer on its port
            end = child.ended() => bail!(child.obituary(&end)),
            done = timeout(READY_WITHIN, ready) => if done.is_err() {
                let (seconds, log) = (READY_WITHIN.as_secs(), child.log());
                bail!("{} was not ready within {seconds} s. The last lines of {}:\n{}",
                    replica.identity, log.display(), tail(log, 15));
            },
        }
        Ok(child)
    }

    /// Keeps a started replica running until `stop`: one that ends is said loudly and started again.
    /// Each new process is told to `news`.
    pub(super) async fn keep(
        self,
        mut replica: Replica,
        mut child: Child,
        news: mpsc::Sender<Replica>,
        stop: CancellationToken,
    ) {
        let mut backoff = BACKOFF;
        loop {
            let life =
                async { (timeout(STEADY, child.ended()).await.is_ok(), child.ended().await) };
            let (short, end) = tokio::select! {
                ended = life => ended,
                () = stop.cancelled() => return child.stop(GRACE).await,
            };
            backoff = if short { backoff } else { BACKOFF };
            say(&format!("{}\n  It is started again.", child.obituary(&end)));
            let revived = async {
                loop {
                    sleep(backoff).await;
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                    match self.start(&mut replica).await {
                        Ok(child) => return child,
                        Err(error) => say(&format!("{error}")),
                    }
                }
            };
            child = tokio::select! {
                child = revived => child,
                () = stop.cancelled() => return,
            };
            say(&format!("{} is back as process {}", replica.identity, replica.pid));
            if news.send(replica.clone()).await.is_err() {
                return; // the receiver is gone: everything ends
            }
        }
    }
}

/// Where the log of a replica is.
pub(super) fn log(dir: &Path, replica: &Replica) -> PathBuf {
    dir.join(format!("{}.log", replica.identity))
}

/// What a replica started here must not inherit: a proxy, since it speaks to 127.0.0.1 only.
#[must_use]
pub fn environment() -> Vec<(&'static str, Option<&'static str>)> {
    vec![("HTTPS_PROXY", None), ("https_proxy", None)]
}

/// The status code that `GET path` gets over plain HTTP; nothing when there is no answer within 2 s.
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
