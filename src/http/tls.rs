//! TLS: reads certificates from files, and reloads them without a restart.
//!
//! Owns: [`Tls`]: reading the files, detecting that they have changed, and the handshake. Does not own: authentication
//! of callers. A client certificate only permits the connection; the token identifies the caller (`access`).

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

/// How often the files are read. Kubernetes updates a mounted certificate within two minutes, and certificates are
/// renewed days before they expire.
const CHECK_EVERY: Duration = Duration::from_secs(10);

/// The time limit for a whole handshake. A client that takes longer is dropped.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// The protocols that ALPN can select (RFC 7301), in order of preference.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The files cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {file} of --{flag}")]
    Read {
        /// The flag that names the file.
        flag: &'static str,
        /// Its path.
        file: String,
        /// The cause.
        source: io::Error,
    },
    /// The content of a file is invalid.
    #[error("cannot use {file} of --{flag}: {why}")]
    Content {
        /// The flag that names the file.
        flag: &'static str,
        /// Its path.
        file: String,
        /// The cause, which never quotes the content.
        why: String,
    },
}

/// The current certificate and key.
pub(super) struct Tls {
    files: HttpTls,
    /// The content of the files at the start.
    initial: TlsFiles,
    current: ArcSwap<ServerConfig>,
    metrics: TlsMetrics,
}

/// The content of the files.
#[derive(PartialEq, Eq)]
struct TlsFiles {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// The configuration made from the files.
struct LoadedTls {
    config: Arc<ServerConfig>,
    /// When the certificate expires, in seconds since 1970.
    expires: u64,
}

const CERTIFICATE: &str = "http-tls-cert";
const KEY: &str = "http-tls-key";
const CLIENT_CA: &str = "http-tls-client-ca";

impl Tls {
    /// Reads the files for the first time, and registers the metrics in `registry`.
    ///
    /// # Errors
    /// [`TlsError`], which names the file and the cause.
    pub(super) async fn open(files: HttpTls, registry: &mut Registry) -> Result<Self, TlsError> {
        let initial = files.read().await?;
        let loaded = files.load(&initial)?;
        let metrics = TlsMetrics::new(registry);
        metrics.set_expiry(loaded.expires);
        Ok(Self { files, initial, current: ArcSwap::new(loaded.config), metrics })
    }

    /// The TLS handshake with a client.
    ///
    /// # Errors
    /// When the handshake fails or takes too long.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(self.current.load_full());
        let accepted = timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await;
        let accepted = accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        accepted.inspect_err(|_| self.metrics.handshake_failed())
    }

    /// Reloads the files when they change, forever. While the new files cannot be used, the previous certificate stays
    /// in use, and the same error is logged only once.
    pub(super) async fn reload_on_change(&self) {
        let mut interval = interval(CHECK_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut used, mut failed): (Option<TlsFiles>, Option<String>) = (None, None);
        loop {
            interval.tick().await;
            let (files, loaded) = match self.files.read().await {
                Ok(files) if used.as_ref().unwrap_or(&self.initial) == &files => {
                    failed = None;
                    continue;
                }
                Ok(files) => {
                    let loaded = self.files.load(&files);
                    (Some(files), loaded)
                }
                Err(error) => (None, Err(error)),
            };
            match loaded {
                Ok(loaded) => {
                    self.current.store(loaded.config);
                    self.metrics.set_expiry(loaded.expires);
                    self.metrics.reloaded(true);
                    info!("loaded the new certificate of --http-tls-cert");
                    (used, failed) = (files, None);
                }
                Err(error) => {
                    let cause =
                        error.source().map_or_else(String::new, |cause| format!(": {cause}"));
                    let error = format!("{error}{cause}");
                    // A check can happen between the writes of two files; the next check reads both.
                    if failed.as_ref() != Some(&error) {
                        self.metrics.reloaded(false);
                        warn!(
                            error,
                            "cannot load the changed TLS files; the previous certificate stays in use"
                        );
                    }
                    failed = Some(error);
                }
            }
        }
    }
}

impl HttpTls {
    async fn read(&self) -> Result<TlsFiles, TlsError> {
        let read = async |flag, file: &PathBuf| {
            // No deadline: the files are local, and those of a pod are in memory.
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
        Ok(TlsFiles { certificate, key: read(KEY, &self.key).await?, client_ca })
    }

    fn load(&self, files: &TlsFiles) -> Result<LoadedTls, TlsError> {
        let invalid = |flag, file: &PathBuf, why: String| TlsError::Content {
            flag,
            file: file.display().to_string(),
            why,
        };
        let chain = parse_certificates(&files.certificate)
            .map_err(|why| invalid(CERTIFICATE, &self.certificate, why))?;
        let expires = expiry(&chain)
            .map_err(|why| invalid(CERTIFICATE, &self.certificate, why.to_owned()))?;
        let key = PrivateKeyDer::from_pem_slice(&files.key)
            .map_err(|error| invalid(KEY, &self.key, describe(&error, "private key")))?;
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(CERTIFICATE, &self.certificate, error.to_string()))?;
        let config = match self.client_ca.as_ref().zip(files.client_ca.as_ref()) {
            None => config.with_no_client_auth(),
            Some((file, content)) => {
                let roots = parse_roots(content).map_err(|why| invalid(CLIENT_CA, file, why))?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
                let no_roots = |error: VerifierBuilderError| {
                    invalid(CLIENT_CA, file, format!("{error}: it needs a certificate"))
                };
                config.with_client_cert_verifier(verifier.map_err(no_roots)?)
            }
        };
        let mut config = config.with_single_cert(chain, key).map_err(|error| {
            invalid(KEY, &self.key, format!("it does not match --{CERTIFICATE}: {error}"))
        })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(LoadedTls { config: Arc::new(config), expires })
    }
}

fn parse_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err(describe(&pem::Error::NoItemsFound, "certificate")),
        Ok(all) => Ok(all),
        Err(error) => Err(describe(&error, "certificate")),
    }
}

fn parse_roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in parse_certificates(pem)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

/// The expiry of the first certificate of a chain, which is the server's own.
fn expiry(chain: &[CertificateDer<'_>]) -> Result<u64, &'static str> {
    let own = chain.first().ok_or("it contains no certificate")?;
    let own = Certificate::from_der(own).map_err(|_| "it is not an X.509 certificate")?;
    Ok(own.tbs_certificate.validity.not_after.to_unix_duration().as_secs())
}

/// Describes an error without quoting the file, because the file can contain a key.
fn describe(error: &pem::Error, item: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("it contains no {item} in PEM format"),
        _ => format!("it is not a {item} in PEM format"),
    }
}
