//! The connections to the Kubernetes API: a client each for watches, for writes, for the election, for
//! the own ledger and for questions about callers and rights, so that none of these queues behind another.
//!
//! Neither retries by itself (kube's default goes on for minutes): whoever calls knows how long
//! the call is worth waiting for.

use std::{error::Error, path::Path, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use thiserror::Error;

/// A TCP connection and TLS handshake that take longer are given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// No connection to the Kubernetes API could be prepared.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// A kubeconfig was named and cannot be used.
    #[error("cannot use the kubeconfig {path}: {why}; name a readable one with --kubeconfig")]
    Kubeconfig {
        /// The file.
        path: String,
        /// Why, without a word of the file: it holds keys and tokens.
        why: String,
    },
    /// None was named, and there is nothing to infer one from.
    #[error(
        "found no Kubernetes API ({why}): run in a pod with a ServiceAccount, or give --kubeconfig"
    )]
    Infer {
        /// Why, likewise.
        why: String,
    },
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
            let fail = |error: KubeconfigError| ConnectError::Kubeconfig {
                path: path.display().to_string(),
                why: discreet(&error),
            };
            let file = Kubeconfig::read_from(path).map_err(fail)?;
            let options = KubeConfigOptions::default();
            // Reads files only, but for an exec plugin, which brings its own limits.
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

/// What is wrong with a kubeconfig, in words that quote none of it: an error of the parser shows the
/// lines around it, tokens included.
fn discreet(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref::<KubeconfigError>() {
        Some(KubeconfigError::Parse(error)) => {
            let place = error.location().map_or_else(String::new, |at| {
                format!(" (line {}, column {})", at.line(), at.column())
            });
            format!("it is no YAML of a kubeconfig{place}")
        }
        Some(KubeconfigError::ReadConfig(error, path)) => format!("{}: {error}", path.display()),
        Some(KubeconfigError::ParseCertificates(_)) => "its certificates are no PEM".to_owned(),
        Some(other) => other.to_string(),
        None => "it cannot be read".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kubeconfig_that_cannot_be_read_is_not_quoted() {
        let path = std::env::temp_dir().join(format!("rollcall-torn-{}", std::process::id()));
        std::fs::write(&path, "users:\n- name: a\n  user:\n    token: SECRET\n   indent: wrong\n")
            .unwrap();
        let error = connect(Some(&path)).await.err().unwrap();
        std::fs::remove_file(&path).unwrap();
        let said = format!("{:#}", anyhow::Error::from(error));
        assert!(said.contains("no YAML of a kubeconfig"), "{said}");
        assert!(!said.contains("SECRET") && !said.contains("indent"), "{said}");
    }
}
