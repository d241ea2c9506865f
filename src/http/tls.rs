//! TLS: certificates from files, and new ones without a restart.
//!
//! Owns: [`Tls`]: reading the files, noticing that they have changed, and the handshake. Does not own: who is
//! calling: a client's certificate opens the connection and says nothing more, the token does (`access`).

mod metrics;

use std::{error::Error as _, io, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use thiserror::Error;
use tokio::{
    fs,
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{info, warn};
use x509_cert::{Certificate, der::Decode as _};

use crate::config::HttpTls;
use crate::http::tls::metrics::TlsMetrics;

/// How often the files are looked at. Kubernetes brings a new certificate into a pod within two minutes, and who
/// renews them does so days before they end.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// From the first octet to the last of a handshake: a client that takes longer is dropped.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// What may be agreed on by ALPN (RFC 7301), the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The files cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// One of them cannot be read.
    #[error("cannot read {file} of --{flag}")]
    Read {
        /// The flag that names it.
        flag: &'static str,
        /// Its path.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// One of them is not what it should be.
    #[error("{file} of --{flag} cannot be used: {why}")]
    Content {
        /// The flag that names it.
        flag: &'static str,
        /// Its path.
        file: String,
        /// Why, without a word of it.
        why: String,
    },
}

/// Certificate and key, now and later.
pub(super) struct Tls {
    files: HttpTls,
    /// What they held at the start.
    first: Contents,
    now: ArcSwap<ServerConfig>,
    metrics: TlsMetrics,
}

/// The octets of the files.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// What is made of them.
struct Made {
    config: Arc<ServerConfig>,
    /// When the certificate ends, in seconds since 1970.
    ends: u64,
}

const CERTIFICATE: &str = "http-tls-cert";
const KEY: &str = "http-tls-key";
const CLIENT_CA: &str = "http-tls-client-ca";

impl Tls {
    /// Reads the files for the first time. Its figures go into `registry`.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub(super) async fn open(files: HttpTls, registry: &mut Registry) -> Result<Self, TlsError> {
        let first = files.read().await?;
        let made = files.made(&first)?;
        let metrics = TlsMetrics::new(registry);
        metrics.ends(made.ends);
        Ok(Self { files, first, now: ArcSwap::new(made.config), metrics })
    }

    /// Greets a client.
    ///
    /// # Errors
    /// What went wrong, or that it took too long.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(self.now.load_full());
        let greeted = timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await;
        let greeted = greeted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        greeted.inspect_err(|_| self.metrics.not_greeted())
    }

    /// Looks at the files now and then, for ever. What cannot be used is said once, and what there was stays.
    pub(super) async fn keep(&self) {
        let mut ticker = interval(LOOK_EVERY);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut used, mut failed): (Option<Contents>, Option<String>) = (None, None);
        loop {
            ticker.tick().await;
            let (contents, made) = match self.files.read().await {
                Ok(contents) if used.as_ref().unwrap_or(&self.first) == &contents => {
                    failed = None;
                    continue;
                }
                Ok(contents) => {
                    let made = self.files.made(&contents);
                    (Some(contents), made)
                }
                Err(error) => (None, Err(error)),
            };
            match made {
                Ok(made) => {
                    self.now.store(made.config);
                    self.metrics.ends(made.ends);
                    self.metrics.read(true);
                    info!("the certificate of --http-tls-cert is renewed");
                    (used, failed) = (contents, None);
                }
                Err(error) => {
                    let cause =
                        error.source().map_or_else(String::new, |cause| format!(": {cause}"));
                    let error = format!("{error}{cause}");
                    // Between two files of one change there may be a look; by the next one both are there.
                    if failed.as_ref() != Some(&error) {
                        self.metrics.read(false);
                        warn!(error, "the certificate that there was stays in use");
                    }
                    failed = Some(error);
                }
            }
        }
    }
}

impl HttpTls {
    async fn read(&self) -> Result<Contents, TlsError> {
        let read = async |flag, file: &PathBuf| {
            // No deadline: these are files of this machine, and a pod's are in its memory.
            fs::read(file).await.map_err(|source| TlsError::Read {
                flag,
                file: file.display().to_string(),
                source,
            })
        };
        let client_ca = match &self.client_ca {
            Some(file) => Some(read(CLIENT_CA, file).await?),
            None => None,
        };
        let certificate = read(CERTIFICATE, &self.certificate).await?;
        Ok(Contents { certificate, key: read(KEY, &self.key).await?, client_ca })
    }

    fn made(&self, contents: &Contents) -> Result<Made, TlsError> {
        let wrong = |flag, file: &PathBuf, why: String| TlsError::Content {
            flag,
            file: file.display().to_string(),
            why,
        };
        let chain = certificates(&contents.certificate)
            .map_err(|why| wrong(CERTIFICATE, &self.certificate, why))?;
        let ends =
            ends(&chain).map_err(|why| wrong(CERTIFICATE, &self.certificate, why.to_owned()))?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|error| wrong(KEY, &self.key, said(&error, "private key")))?;
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(CERTIFICATE, &self.certificate, error.to_string()))?;
        let config = match self.client_ca.as_ref().zip(contents.client_ca.as_ref()) {
            None => config.with_no_client_auth(),
            Some((file, octets)) => {
                let roots = roots(octets).map_err(|why| wrong(CLIENT_CA, file, why))?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
                let no_roots = |error: VerifierBuilderError| {
                    wrong(CLIENT_CA, file, format!("{error}: it needs a certificate"))
                };
                config.with_client_cert_verifier(verifier.map_err(no_roots)?)
            }
        };
        let mut config = config.with_single_cert(chain, key).map_err(|error| {
            wrong(KEY, &self.key, format!("it does not go with --{CERTIFICATE}: {error}"))
        })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Made { config: Arc::new(config), ends })
    }
}

fn certificates(octets: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(octets).collect();
    match all {
        Ok(all) if all.is_empty() => Err("there is no certificate in it (PEM)".to_owned()),
        Ok(all) => Ok(all),
        Err(error) => Err(said(&error, "certificate")),
    }
}

fn roots(octets: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(octets)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

/// When the first of a chain ends: it is the server's own.
fn ends(chain: &[CertificateDer<'_>]) -> Result<u64, &'static str> {
    let own = chain.first().ok_or("there is no certificate in it")?;
    let own = Certificate::from_der(own).map_err(|_| "it is no X.509 certificate")?;
    Ok(own.tbs_certificate.validity.not_after.to_unix_duration().as_secs())
}

/// In words that quote nothing of a file that may hold a key.
fn said(error: &pem::Error, what: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("there is no {what} in it (PEM)"),
        _ => format!("it is no PEM of a {what}"),
    }
}
