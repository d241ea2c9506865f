//! Faults in the answers of the real API server: an HTTP proxy that refuses some calls, holds writes back, or delays watch
//! events.
//!
//! The replica sends plain HTTP to the proxy, so the proxy needs no certificate and can apply a fault to single
//! requests. The proxy calls the API server over TLS as the user of the replica's kubeconfig. Owns: what happens to
//! requests. Does not own: what happens to bytes (`proxy`).

use std::convert::Infallible;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, TRANSFER_ENCODING,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::control_plane::state_dir;

/// What happens to calls. An open watch continues, as with an API server that begins to refuse calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No fault.
    None,
    /// Every call is answered 429 with `Retry-After: 7`.
    TooMany,
    /// Every call is answered with this status, as from a gateway or a failing server.
    All(u16),
    /// A third of all calls is answered 500.
    Third,
    /// Reads and watches pass; writes are answered 500 or 503 and are not executed.
    ReadOnly,
    /// The signing keys and the issuer of the cluster are answered 500.
    Keys,
    /// Watch events arrive this much later, and everything else at once.
    LateWatches(Duration),
    /// Writes of the instance with this name wait in the proxy, and pass when the fault is over.
    HeldWrites(&'static str),
}

/// A proxy between one replica and the API server. It ends with its test's runtime.
pub struct HttpProxy {
    fault: watch::Sender<Fault>,
    /// The number of waiting writes.
    held: Arc<AtomicUsize>,
}

/// The state that connections share.
#[derive(Clone)]
struct Faults {
    now: watch::Receiver<Fault>,
    held: Arc<AtomicUsize>,
}

type Failure = Box<dyn Error + Send + Sync>;
type ProxyResponse = Response<UnsyncBoxBody<Bytes, Failure>>;

/// The Retry-After of a 429.
const RETRY_AFTER_SECONDS: u32 = 7;

/// The most delayed frames of a watch. A frame has several events, and ten seconds bring fewer frames than this.
const MAX_DELAYED: usize = 4096;

impl HttpProxy {
    /// Starts a proxy to the server of a kubeconfig, and writes a kubeconfig that leads to the proxy, in a file of this name.
    pub async fn in_front_of(kubeconfig: &Path, name: &str) -> (Self, PathBuf) {
        let text = std::fs::read_to_string(kubeconfig).unwrap();
        let server = Kubeconfig::from_yaml(&text).unwrap();
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(server, &options).await.unwrap();
        config.proxy_url = None;
        config.default_retry = false; // the replica must see each refusal
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = format!("http://{}", listener.local_addr().unwrap());
        let theirs = config.cluster_url.to_string();
        let path: PathBuf = state_dir("proxy").join(format!("{name}.kubeconfig"));
        std::fs::write(&path, text.replace(theirs.trim_end_matches('/'), &ours)).unwrap();
        let (fault, faults) = watch::channel(Fault::None);
        let held = Arc::new(AtomicUsize::new(0));
        let faults = Faults { now: faults, held: held.clone() };
        tokio::spawn(accept(listener, Client::try_from(config).unwrap(), faults));
        (Self { fault, held }, path)
    }

    /// Waits until a write is held back (see [`Fault::HeldWrites`]).
    pub async fn until_held(&self) {
        super::eventually("a write is held back", Duration::from_secs(60), async || {
            (self.held.load(Ordering::Relaxed) > 0).then_some(())
        })
        .await;
    }

    /// Sets what happens to calls from now on.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

impl Fault {
    /// The status of a refused call; `None` if the call passes.
    fn refusal_status(self, method: &Method, path: &str) -> Option<u16> {
        let chance = |one_in: u8| fastrand::u8(..one_in) == 0;
        match self {
            Self::TooMany => Some(429),
            Self::All(code) => Some(code),
            Self::Third => chance(3).then_some(500),
            Self::Keys => path.contains("openid").then_some(500),
            Self::ReadOnly if method != Method::GET => Some(if chance(2) { 500 } else { 503 }),
            _ => None,
        }
    }

    fn holds(self, method: &Method, path: &str) -> bool {
        let Self::HeldWrites(name) = self else { return false };
        let instance = path.rsplit_once("/serviceinstances/").map(|(_, instance)| instance);
        method != Method::GET && instance == Some(name)
    }

    fn delay(self) -> Duration {
        if let Self::LateWatches(delay) = self { delay } else { Duration::ZERO }
    }
}

impl Faults {
    /// Waits while the fault holds a call back. It has no deadline because the replica has one.
    async fn until_passed(&mut self, method: &Method, path: &str) {
        if self.now.borrow().holds(method, path) {
            self.held.fetch_add(1, Ordering::Relaxed);
            let _ = self.now.wait_for(|fault| !fault.holds(method, path)).await;
            self.held.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

async fn accept(listener: TcpListener, server: Client, faults: Faults) {
    while let Ok((replica, _)) = listener.accept().await {
        let (server, faults) = (server.clone(), faults.clone());
        let service = service_fn(move |request| forward(request, server.clone(), faults.clone()));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(replica), service);
        // The task ends when either side closes the connection.
        tokio::spawn(async move { drop(connection.await) });
    }
}

/// Forwards a call or refuses it. An error closes the connection, as when the API server is down.
async fn forward(
    request: Request<Incoming>,
    server: Client,
    mut faults: Faults,
) -> Result<ProxyResponse, Failure> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    faults.until_passed(&head.method, head.uri.path()).await;
    let refused = faults.now.borrow().refusal_status(&head.method, head.uri.path());
    if let Some(code) = refused {
        return refusal(code);
    }
    // The client sets its own.
    for name in [HOST, AUTHORIZATION, CONNECTION] {
        head.headers.remove(name);
    }
    let is_watch = head.uri.query().is_some_and(|query| query.contains("watch=true"));
    let answer = server.send(Request::from_parts(head, Body::from(body))).await?;
    let (mut head, body) = answer.into_parts();
    for name in [TRANSFER_ENCODING, CONNECTION] {
        head.headers.remove(name);
    }
    let body =
        if is_watch { delayed(body, faults.now) } else { body.map_err(Into::into).boxed_unsync() };
    Ok(Response::from_parts(head, body))
}

/// A refusal as an API server sends it.
fn refusal(code: u16) -> Result<ProxyResponse, Failure> {
    let reason = if code == 429 { "TooManyRequests" } else { "InternalError" };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "refused by the proxy of a test", "reason": reason, "code": code,
        "details": if code == 429 { json!({"retryAfterSeconds": RETRY_AFTER_SECONDS}) } else { json!(null) },
    });
    let body = Full::from(status.to_string()).map_err(|error: Infallible| match error {});
    let mut answer = Response::builder().status(code).header(CONTENT_TYPE, "application/json");
    if code == 429 {
        answer = answer.header(RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    Ok(answer.body(body.boxed_unsync())?)
}

/// Delays each frame by the delay that was set when it arrived, and keeps their order.
fn delayed(mut body: Body, faults: watch::Receiver<Fault>) -> UnsyncBoxBody<Bytes, Failure> {
    let (sender, frames) = mpsc::channel(MAX_DELAYED);
    tokio::spawn(async move {
        // A broken watch ends here too, and the replica continues from its last event.
        while let Some(Ok(frame)) = body.frame().await {
            let due = Instant::now() + faults.borrow().delay();
            if sender.send((due, frame)).await.is_err() {
                return;
            }
        }
    });
    let next = async |mut frames: mpsc::Receiver<(Instant, _)>| {
        let (due, frame) = frames.recv().await?;
        sleep_until(due).await;
        Some((Ok(frame), frames))
    };
    StreamBody::new(stream::unfold(frames, next)).boxed_unsync()
}
