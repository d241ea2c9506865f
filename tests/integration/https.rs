//! HTTPS: both protocols by ALPN, client certificates, and a new certificate without a restart.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{
    Rollcall,
    control_plane::state_dir,
    eventually,
    http::{call, try_call},
    namespace,
};

/// The replica reads the files every 10 s; the rest is for a busy machine.
const BOUND: Duration = Duration::from_secs(60);

/// A certificate authority.
struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// Signs a certificate that is valid until the start of this year, and returns it with its key.
    fn sign(&self, until: i32) -> (String, String) {
        let mut params = CertificateParams::new(["rollcall.test".to_owned()]).unwrap();
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// The files of a replica.
struct Files {
    dir: PathBuf,
}

impl Files {
    fn new(name: &str) -> Self {
        Self { dir: state_dir(name) }
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    fn put(&self, (certificate, key): &(String, String)) {
        std::fs::write(self.path("tls.crt"), certificate).unwrap();
        std::fs::write(self.path("tls.key"), key).unwrap();
    }
}

/// A client that trusts an authority, and presents a certificate if it has one.
fn client(trusted: &str, own: Option<&(String, String)>, protocol: &str) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            config.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    };
    config.alpn_protocols = vec![protocol.into()];
    config
}

async fn handshake(to: SocketAddr, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(to).await?;
    let name = ServerName::try_from("rollcall.test").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// `/v1/cluster` of the replica, over HTTP/1.1.
async fn get(to: SocketAddr, config: ClientConfig) -> std::io::Result<String> {
    let mut stream = handshake(to, config).await?;
    let request = "GET /v1/cluster HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let _ = timeout(BOUND, stream.read_to_end(&mut answer)).await.unwrap();
    if answer.is_empty() {
        return Err(std::io::Error::other("the connection was closed"));
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// For other tests: the flags that enable HTTPS, and a client that trusts the certificate.
pub fn flags_and_client(name: &str) -> (Vec<String>, ClientConfig) {
    let (authority, files) = (Authority::new(), Files::new(name));
    files.put(&authority.sign(2040));
    let flags = [("--http-tls-cert", "tls.crt"), ("--http-tls-key", "tls.key")]
        .map(|(flag, file)| [flag.to_owned(), files.path(file)]);
    (flags.concat(), client(&authority.certificate, None, "http/1.1"))
}

/// For other tests: sends one request.
pub async fn ask(to: SocketAddr, config: ClientConfig) {
    let answer = get(to, config).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

async fn metric(replica: &Rollcall, name: &str) -> f64 {
    let text = String::from_utf8(call(replica.admin, "GET", "/metrics", None).await.body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

const EXPIRY: &str = "rollcall_http_tls_certificate_ends_seconds";

#[tokio::test]
async fn both_protocols_work_and_a_new_certificate_needs_no_restart() {
    let ns = namespace("https").await;
    let (first, second) = (Authority::new(), Authority::new());
    let files = Files::new("https");
    files.put(&first.sign(2040));
    let (certificate, key) = (files.path("tls.crt"), files.path("tls.key"));
    let flags = ["--http-tls-cert", &certificate, "--http-tls-key", &key];
    let replica = Rollcall::start_with(&ns, "rollcall-0", &flags).await;
    let trusts_first = || client(&first.certificate, None, "http/1.1");
    let answer = get(replica.http, trusts_first()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(try_call(replica.http, "GET", "/v1/cluster", None).await.is_err(), "without TLS");
    let stream = handshake(replica.http, client(&first.certificate, None, "h2")).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
    let held_open = tokio::spawn(connection);
    let ask = async |send: &mut h2::client::SendRequest<bytes::Bytes>| {
        let request = hyper::Request::get("https://rollcall.test/v1/cluster").body(()).unwrap();
        let (answer, _) = send.send_request(request, true).unwrap();
        answer.await.unwrap().status()
    };
    assert_eq!(ask(&mut send).await, 200);
    let ends = metric(&replica, EXPIRY).await;

    // A certificate without its key is reported, and the old pair stays in use.
    let new = second.sign(2041);
    std::fs::write(files.path("tls.crt"), &new.0).unwrap();
    eventually("a certificate without its key is refused", BOUND, async || {
        let refused = "rollcall_http_tls_renewals_total{result=\"refused\"}";
        (metric(&replica, refused).await == 1.0).then_some(())
    })
    .await;
    assert!(replica.whole_log().contains("does not match"), "{}", replica.log());
    get(replica.http, trusts_first()).await.unwrap();
    files.put(&new);
    eventually("the new certificate is served", BOUND, async || {
        get(replica.http, client(&second.certificate, None, "http/1.1")).await.ok()
    })
    .await;
    assert!(get(replica.http, trusts_first()).await.is_err());
    assert_eq!(ask(&mut send).await, 200, "an open connection stays open");
    let year = 365.0 * 86_400.0;
    let later = metric(&replica, EXPIRY).await - ends;
    assert!((year..year + 2.0 * 86_400.0).contains(&later), "{later}");
    assert_eq!(replica.terminate().await, "exit status: 0");
    // The client may have been sending when the socket was closed; that is not an HTTP/2 error.
    let end = timeout(BOUND, held_open).await.unwrap().unwrap();
    assert!(end.as_ref().err().is_none_or(h2::Error::is_io), "{end:?}");
}

#[tokio::test]
async fn client_certificate_is_required_when_a_client_ca_is_set() {
    let ns = namespace("mtls").await;
    let (ours, theirs) = (Authority::new(), Authority::new());
    let files = Files::new("mtls");
    files.put(&ours.sign(2040));
    std::fs::write(files.path("ca.crt"), &ours.certificate).unwrap();
    let [certificate, key, ca] = ["tls.crt", "tls.key", "ca.crt"].map(|name| files.path(name));
    let flags =
        ["--http-tls-cert", &certificate, "--http-tls-key", &key, "--http-tls-client-ca", &ca];
    let replica = Rollcall::start_with(&ns, "rollcall-0", &flags).await;
    let with = |own: Option<&(String, String)>| client(&ours.certificate, own, "http/1.1");
    let answer = get(replica.http, with(Some(&ours.sign(2040)))).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for own in [None, Some(&theirs.sign(2040)), Some(&ours.sign(2000))] {
        assert!(get(replica.http, with(own)).await.is_err(), "{}", own.is_some());
    }
    assert_eq!(metric(&replica, "rollcall_http_tls_handshakes_failed_total").await, 3.0);
}

#[tokio::test]
async fn unusable_certificate_files_are_named_at_the_start() {
    let ns = namespace("https-bad").await;
    let files = Files::new("https-bad");
    let (certificate, key) = Authority::new().sign(2040);
    let (good, other) = (files.path("tls.crt"), files.path("other.key"));
    files.put(&(certificate, key));
    std::fs::write(&other, Authority::new().sign(2040).1).unwrap();
    std::fs::write(files.path("empty"), "").unwrap();
    let (key, empty, none) = (files.path("tls.key"), files.path("empty"), files.path("none"));
    for (flags, message) in [
        ([&none, &key], "cannot read"),
        ([&empty, &key], "contains no certificate"),
        ([&good, &good], "contains no private key"),
        ([&good, &other], "does not match --http-tls-cert"),
    ] {
        let [certificate, key] = flags;
        let flags = ["--http-tls-cert", certificate, "--http-tls-key", key];
        let replica = Rollcall::launch(&ns, "rollcall-0", &flags).await;
        assert_eq!(replica.until_ended().await, "exit status: 1");
        let log = replica.whole_log();
        assert!(log.contains(message) && log.contains("--http-tls-"), "{log}");
    }
}
