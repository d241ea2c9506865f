//! A real control plane on this machine: etcd, kube-apiserver and kube-controller-manager.
//!
//! Owns: starting the programs until they are ready, and stopping them. Does not own: their flags (`flags`), and the
//! objects that are installed ([`super::install`]).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use thiserror::Error;
use tokio::time::{sleep, timeout};

use super::binaries::Binaries;
use super::child::Child;
use super::credentials::{
    CA_FILE, Credentials, CredentialsError, ROLLCALL_USER, kubeconfig, write_private,
};
use super::flags::{apiserver_args, controller_manager_args, etcd_args};
use super::launch::{LaunchError, Launcher, Program};
use super::ports;

/// Deadline from start to ready. A start takes 4 s on an idle machine, and more on a busy one.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Deadline of one request to `/readyz`.
const PROBE: Duration = Duration::from_secs(2);
/// Pause between two requests.
const PROBE_EVERY: Duration = Duration::from_millis(100);
/// How long each program can take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(3);

/// The control plane could not be started.
#[derive(Debug, Error)]
pub enum ControlPlaneError {
    /// Its state directory could not be used.
    #[error("cannot use the state directory {path}: {source}", path = path.display())]
    Folder {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// There is no free port on 127.0.0.1.
    #[error("cannot find a free port for the API server: {0}")]
    Port(#[source] io::Error),
    /// Tokens or keys could not be made.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A program could not be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A program ended during the start.
    #[error("the control plane did not start: {0}")]
    Exited(String),
    /// It was not ready in time.
    #[error(
        "the API server was not ready within {} s: {last}. The last lines of {}:\n{tail}",
        READY_WITHIN.as_secs(),
        log.display()
    )]
    NotReady {
        /// The last answer.
        last: String,
        /// The API server's log.
        log: PathBuf,
        /// The end of that log.
        tail: String,
    },
    /// A client could not be made from its kubeconfig.
    #[error("cannot make a client for the local API server: {0}")]
    Client(String),
}

/// The options of a control plane.
#[derive(Debug, Clone)]
pub struct Options {
    /// The state directory, created if absent. An existing one still has its objects.
    pub dir: PathBuf,
    /// The programs.
    pub binaries: Binaries,
    /// Starts the programs.
    pub launcher: Launcher,
    /// Further flags of kube-apiserver.
    pub apiserver_flags: Vec<String>,
}

/// A running control plane. Dropping it kills all its programs.
#[derive(Debug)]
pub struct ControlPlane {
    /// `https://127.0.0.1:port`.
    pub url: String,
    /// The certificates that clients trust for the API server, as PEM.
    pub ca: Vec<u8>,
    /// The tokens of its users.
    pub credentials: Credentials,
    /// For users and tests: a user with all rights.
    pub kubeconfig: PathBuf,
    /// For replicas: a user with the rights that RBAC grants.
    pub rollcall_kubeconfig: PathBuf,
    /// etcd.
    pub etcd: Child,
    /// kube-apiserver.
    pub apiserver: Child,
    /// kube-controller-manager.
    pub controller_manager: Child,
}

impl ControlPlane {
    /// Starts the programs and waits until the API server is ready.
    ///
    /// # Errors
    /// When a program does not start, or the API server is not ready within two minutes. The message contains the end
    /// of the log.
    pub async fn start(options: &Options) -> Result<Self, ControlPlaneError> {
        let dir = create_state_dir(&options.dir)?;
        let credentials = Credentials::load_or_make(&dir)?;
        let address = ports::free().map_err(ControlPlaneError::Port)?;
        let url = format!("https://{address}");
        let start = async |name: &str, path: &Path, args: &[&str]| {
            options.launcher.start(&program(&dir, name, path, args)).await
        };

        let etcd = start("etcd", &options.binaries.etcd, &etcd_args()).await?;
        let port = address.port().to_string();
        let mut args = apiserver_args(&port).to_vec();
        args.extend(options.apiserver_flags.iter().map(String::as_str));
        let apiserver = start("kube-apiserver", &options.binaries.apiserver, &args).await?;
        let ca = wait_until_ready(&dir, &url, &credentials, [&etcd, &apiserver]).await?;

        let admin_file = dir.join("kubeconfig");
        write_private(&admin_file, &kubeconfig(&url, &ca, "admin", &credentials.admin))?;
        let rollcall_file = dir.join("rollcall.kubeconfig");
        let token = &credentials.rollcall;
        write_private(&rollcall_file, &kubeconfig(&url, &ca, ROLLCALL_USER, token))?;
        let path = &options.binaries.controller_manager;
        let controller_manager =
            start("kube-controller-manager", path, &controller_manager_args()).await?;
        Ok(Self {
            url,
            ca,
            credentials,
            kubeconfig: admin_file,
            rollcall_kubeconfig: rollcall_file,
            etcd,
            apiserver,
            controller_manager,
        })
    }

    /// A client with all rights. Each call creates a new one, because its connections belong to the runtime that
    /// creates them.
    ///
    /// # Errors
    /// When the TLS configuration is unusable.
    pub async fn admin(&self) -> Result<Client, ControlPlaneError> {
        client(&kubeconfig(&self.url, &self.ca, "admin", &self.credentials.admin)).await
    }

    /// A client with the rights of a replica.
    ///
    /// # Errors
    /// When the TLS configuration is unusable.
    pub async fn rollcall(&self) -> Result<Client, ControlPlaneError> {
        client(&kubeconfig(&self.url, &self.ca, ROLLCALL_USER, &self.credentials.rollcall)).await
    }

    /// Waits, without a deadline, until a program ends unexpectedly. Returns which one, and why.
    pub async fn failed(&self) -> String {
        tokio::select! {
            end = self.etcd.ended() => self.etcd.exit_report(&end),
            end = self.apiserver.ended() => self.apiserver.exit_report(&end),
            end = self.controller_manager.ended() => self.controller_manager.exit_report(&end),
        }
    }

    /// Stops the programs in order: the API server does not stop by itself once its etcd is gone.
    pub async fn stop(self) {
        self.apiserver.stop(GRACE).await;
        tokio::join!(self.controller_manager.stop(GRACE), self.etcd.stop(GRACE));
    }
}

/// Creates the directory, readable by its owner only. Returns its absolute path.
fn create_state_dir(dir: &Path) -> Result<PathBuf, ControlPlaneError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| fs::canonicalize(dir))
        .map_err(|source| ControlPlaneError::Folder { path: dir.to_owned(), source })
}

/// Paths in the arguments are relative to `dir`, which is the working directory.
fn program(dir: &Path, name: &str, path: &Path, args: &[&str]) -> Program {
    Program {
        name: name.to_owned(),
        path: path.to_owned(),
        args: args.iter().map(OsString::from).collect(),
        dir: dir.to_owned(),
        log: dir.join(format!("{name}.log")),
        env: Vec::new(),
    }
}

/// Waits until `/readyz` answers 200. Returns the certificates that clients trust for the API server.
async fn wait_until_ready(
    dir: &Path,
    url: &str,
    credentials: &Credentials,
    children: [&Child; 2],
) -> Result<Vec<u8>, ControlPlaneError> {
    let mut last = "it did not answer".to_owned();
    let wait = async {
        loop {
            for child in children {
                if let Some(end) = child.has_ended() {
                    return Err(ControlPlaneError::Exited(child.exit_report(&end)));
                }
            }
            // The API server writes its certificate at the first start; clients trust none before.
            let ca = fs::read(dir.join(CA_FILE)).unwrap_or_default();
            match probe(&kubeconfig(url, &ca, "admin", &credentials.admin)).await {
                Ok(()) => return Ok(ca),
                Err(answer) => last = answer,
            }
            sleep(PROBE_EVERY).await;
        }
    };
    if let Ok(answer) = timeout(READY_WITHIN, wait).await {
        return answer;
    }
    let [_, apiserver] = children;
    let log = apiserver.log().to_owned();
    Err(ControlPlaneError::NotReady { last, tail: super::child::tail(&log, 15), log })
}

async fn probe(kubeconfig: &str) -> Result<(), String> {
    let client = client(kubeconfig).await.map_err(|error| error.to_string())?;
    let request = hyper::Request::get("/readyz").body(Vec::new()).map_err(|e| e.to_string())?;
    match timeout(PROBE, client.request_text(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PROBE.as_secs())),
    }
}

async fn client(kubeconfig: &str) -> Result<Client, ControlPlaneError> {
    let failed = |error: &dyn std::error::Error| ControlPlaneError::Client(error.to_string());
    let file = Kubeconfig::from_yaml(kubeconfig).map_err(|e| failed(&e))?;
    let options = KubeConfigOptions::default();
    let mut config =
        Config::from_custom_kubeconfig(file, &options).await.map_err(|e| failed(&e))?;
    config.proxy_url = None; // HTTPS_PROXY is not for 127.0.0.1
    Client::try_from(config).map_err(|e| failed(&e))
}
