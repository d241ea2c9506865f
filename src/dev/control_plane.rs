//! A real control plane on this machine: etcd, kube-apiserver and kube-controller-manager.
//!
//! Owns their start up to ready and their end. Does not own their flags (`flags`) nor what
//! is installed in it ([`super::install`]).

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

/// From start to ready: 4 s on a quiet machine, more on a busy one.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// One look at `/readyz`.
const PROBE: Duration = Duration::from_secs(2);
/// Between two looks.
const PROBE_EVERY: Duration = Duration::from_millis(100);
/// For an orderly end of each program.
const GRACE: Duration = Duration::from_secs(3);

/// The control plane did not come up.
#[derive(Debug, Error)]
pub enum ControlPlaneError {
    /// Its folder could not be used.
    #[error("cannot use the state folder {path}: {source}", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no free port on 127.0.0.1.
    #[error("no free port for the API server: {0}")]
    Port(#[source] io::Error),
    /// Tokens or keys could not be made.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A program could not be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A program ended while starting.
    #[error("the control plane did not start: {0}")]
    Died(String),
    /// It was not ready in time.
    #[error("the API server was not ready within {} s: {last}. The last lines of {}:\n{tail}", READY_WITHIN.as_secs(), log.display())]
    NotReady {
        /// The last answer.
        last: String,
        /// The API server's log.
        log: PathBuf,
        /// Its end.
        tail: String,
    },
    /// A client could not be made from its kubeconfig.
    #[error("cannot make a client for the local API server: {0}")]
    Client(String),
}

/// What a control plane is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where everything is kept, made if absent. One that was used before brings its objects back.
    pub dir: PathBuf,
    /// The programs.
    pub binaries: Binaries,
    /// How they are started.
    pub launcher: Launcher,
    /// Further flags of kube-apiserver.
    pub apiserver_flags: Vec<String>,
}

/// A running control plane. Dropped, all of it is killed.
#[derive(Debug)]
pub struct ControlPlane {
    /// `https://127.0.0.1:port`.
    pub url: String,
    /// The certificates that the API server is known by, as PEM.
    pub ca: Vec<u8>,
    /// The tokens of its users.
    pub credentials: Credentials,
    /// For a person or a test: the user may do everything.
    pub kubeconfig: PathBuf,
    /// For replicas: their user may do what RBAC grants.
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
    /// When a program does not start or the API server is not ready within two minutes; the message
    /// shows the end of the log that says why.
    pub async fn start(options: &Options) -> Result<Self, ControlPlaneError> {
        let dir = prepare(&options.dir)?;
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
        let ca = ready(&dir, &url, &credentials, [&etcd, &apiserver]).await?;

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

    /// A client that may do everything. Each call makes a new one, with connections of its own that
    /// belong to the runtime it is made in.
    ///
    /// # Errors
    /// When there is no TLS.
    pub async fn admin(&self) -> Result<Client, ControlPlaneError> {
        client(&kubeconfig(&self.url, &self.ca, "admin", &self.credentials.admin)).await
    }

    /// A client that may do what a replica may do.
    ///
    /// # Errors
    /// When there is no TLS.
    pub async fn rollcall(&self) -> Result<Client, ControlPlaneError> {
        client(&kubeconfig(&self.url, &self.ca, ROLLCALL_USER, &self.credentials.rollcall)).await
    }

    /// Waits, without a limit, for one of the programs to end, which none should; says which, and why.
    pub async fn failed(&self) -> String {
        tokio::select! {
            end = self.etcd.ended() => self.etcd.obituary(&end),
            end = self.apiserver.ended() => self.apiserver.obituary(&end),
            end = self.controller_manager.ended() => self.controller_manager.obituary(&end),
        }
    }

    /// Ends everything in order: an API server whose etcd went first would not end by itself.
    pub async fn stop(self) {
        self.apiserver.stop(GRACE).await;
        tokio::join!(self.controller_manager.stop(GRACE), self.etcd.stop(GRACE));
    }
}

/// Makes the folder, for its owner only; its absolute path.
fn prepare(dir: &Path) -> Result<PathBuf, ControlPlaneError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| fs::canonicalize(dir))
        .map_err(|source| ControlPlaneError::Folder { path: dir.to_owned(), source })
}

/// Paths in the arguments are relative to `dir`, the working folder.
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

/// Waits until `/readyz` says yes; the certificates that the server is known by.
async fn ready(
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
                    return Err(ControlPlaneError::Died(child.obituary(&end)));
                }
            }
            // It writes its certificate on the first start; until then there is nothing to trust.
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
    config.proxy_url = None; // HTTPS_PROXY is for elsewhere; this is 127.0.0.1
    Client::try_from(config).map_err(|e| failed(&e))
}
