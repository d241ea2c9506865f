//! The connections to the Kubernetes API: one client each for watches, writes, the election, this replica's ledger, and
//! reviews of callers and rights, so that none of these queues behind another.
//!
//! None of the clients retries (kube's default retries for minutes): each caller decides how long to wait for its call.

use std::{error::Error, path::Path, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use thiserror::Error;

/// For the TCP connection and the TLS handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Why no client of the Kubernetes API could be set up.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The kubeconfig given cannot be used.
    #[error("cannot use the kubeconfig {path}: {why}; pass a readable one with --kubeconfig")]
    Kubeconfig {
        /// The file.
        path: String,
        /// Why. It quotes nothing from the file, which holds keys and tokens.
        why: String,
    },
    /// No kubeconfig was given, and none can be inferred.
    #[error(
        "found no Kubernetes API ({why}): run in a pod with a ServiceAccount, or pass --kubeconfig"
    )]
    Infer {
        /// Why. It quotes nothing from a kubeconfig either.
        why: String,
    },
    /// The configuration is not valid for a client.
    #[error("cannot create a Kubernetes client from this configuration")]
    Client(#[source] kube::Error),
}

/// One client for each kind of call.
#[derive(Clone)]
pub struct Clients {
    /// For lists and watches.
    pub watches: Client,
    /// For reads and writes of instances, and for Events.
    pub writes: Client,
    /// For the Lease of the election.
    pub election: Client,
    /// For writes of this replica's ledger.
    pub ledgers: Client,
    /// For reviews of callers, and of rollcall's own rights.
    pub reviews: Client,
}

/// Sets up the clients; nothing is sent yet.
///
/// # Errors
/// Which configuration cannot be used, and why.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Clients, ConnectError> {
    let mut config = match kubeconfig {
        Some(path) => {
            let fail = |error: KubeconfigError| ConnectError::Kubeconfig {
                path: path.display().to_string(),
                why: discreet(&error),
            };
            let file = Kubeconfig::read_from(path).map_err(fail)?;
            let options = KubeConfigOptions::default();
            // Needs no deadline: it only reads files, except for an exec plugin, which has limits of its own.
            Config::from_custom_kubeconfig(file, &options).await.map_err(fail)?
        }
        None => Config::infer().await.map_err(|error| ConnectError::Infer {
            why: error.source().map_or_else(String::new, discreet),
        })?,
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

/// What is wrong with a kubeconfig, without quoting it: a parser error shows the lines around the fault, which may hold
/// tokens.
fn discreet(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref::<KubeconfigError>() {
        Some(KubeconfigError::Parse(error)) => {
            let place = error.location().map_or_else(String::new, |at| {
                format!(" (line {}, column {})", at.line(), at.column())
            });
            format!("it is not the YAML of a kubeconfig{place}")
        }
        Some(KubeconfigError::ReadConfig(error, path)) => format!("{}: {error}", path.display()),
        Some(KubeconfigError::ParseCertificates(_)) => "its certificates are not PEM".to_owned(),
        Some(other) => other.to_string(),
        None => "it cannot be read".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn error_about_a_kubeconfig_does_not_quote_it() {
        let path = std::env::temp_dir().join(format!("rollcall-torn-{}", std::process::id()));
        std::fs::write(&path, "users:\n- name: a\n  user:\n    token: SECRET\n   indent: wrong\n")
            .unwrap();
        let error = connect(Some(&path)).await.err().unwrap();
        std::fs::remove_file(&path).unwrap();
        let message = format!("{:#}", anyhow::Error::from(error));
        assert!(message.contains("not the YAML of a kubeconfig"), "{message}");
        assert!(!message.contains("SECRET") && !message.contains("indent"), "{message}");
    }
}
