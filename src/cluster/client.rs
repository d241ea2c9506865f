//! The connections to the Kubernetes API: a client each for watches, for writes, for the election, for
//! the own ledger and for questions about callers and rights, so that none of these queues behind another.
//!
//! Neither retries by itself (kube's default goes on for minutes): whoever calls knows how long
//! the call is worth waiting for.

use std::{path::Path, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use thiserror::Error;

/// A TCP connection and TLS handshake that take longer are given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// No connection to the Kubernetes API could be prepared.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// A kubeconfig was named and cannot be used.
    #[error("cannot use the kubeconfig {path}: name a readable one with --kubeconfig")]
    Kubeconfig {
        /// The file.
        path: String,
        /// Why.
        source: kube::config::KubeconfigError,
    },
    /// None was named, and there is nothing to infer one from.
    #[error("found no Kubernetes API: run in a pod with a ServiceAccount, or give --kubeconfig")]
    Infer(#[source] kube::config::InferConfigError),
    /// The configuration does not make a client.
    #[error("cannot make a Kubernetes client of this configuration")]
    Client(#[source] kube::Error),
}

/// The clients.
#[derive(Clone)]
pub struct Clients {
    /// For lists and watches.
    pub watches: Client,
    /// For everything with a deadline.
    pub writes: Client,
    /// For the election.
    pub election: Client,
    /// For the own ledger.
    pub ledgers: Client,
    /// For reviews: who is calling, and what rollcall itself may do.
    pub reviews: Client,
}

/// Prepares the clients; nothing is sent yet.
///
/// # Errors
/// Says which configuration cannot be used, and why.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Clients, ConnectError> {
    let mut config = match kubeconfig {
        Some(path) => {
            let fail =
                |source| ConnectError::Kubeconfig { path: path.display().to_string(), source };
            let file = Kubeconfig::read_from(path).map_err(fail)?;
            let options = KubeConfigOptions::default();
            // Reads files only, but for an exec plugin, which brings its own limits.
            Config::from_custom_kubeconfig(file, &options).await.map_err(fail)?
        }
        None => Config::infer().await.map_err(ConnectError::Infer)?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.default_retry = false;
    let client = |config| Client::try_from(config).map_err(ConnectError::Client);
    Ok(Clients {
        watches: client(config.clone())?,
        writes: client(config.clone())?,
        election: client(config.clone())?,
        ledgers: client(config.clone())?,
        reviews: client(config)?,
    })
}
