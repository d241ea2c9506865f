//! Faults in the answers of the real API server: an HTTP proxy that refuses some calls, holds writes back, or delays what
//! watches tell.
//!
//! The replica speaks plain HTTP to it, and it speaks TLS to the API server as the user of the replica's kubeconfig: so
//! there is no certificate to make, and a fault can be said in terms of requests. Owns what becomes of requests;
//! does not own what becomes of bytes (`proxy`).

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

/// What becomes of calls. A watch that is open goes on, as one does at an API server that begins to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// All is well.
    None,
    /// Everything is answered 429: come back in 7 seconds.
    TooMany,
    /// Everything is answered with this status of a gateway or a failing server.
    All(u16),
    /// A third of all calls is answered 500.
    Third,
    /// Reads and watches are answered; what would write is answered 500 or 503, and not done.
    ReadOnly,
    /// The keys of the cluster, and who signs, are answered 500.
    Keys,
    /// What a watch tells arrives so much later. All else is quick.
    LateWatches(Duration),
    /// Writes of the instance of this name wait in the proxy, and arrive when the fault is over.
    HeldWrites(&'static str),
}

/// A proxy between one replica and the API server. It ends with its test's runtime.
pub struct HttpProxy {
    fault: watch::Sender<Fault>,
    /// How many writes wait.
    held: Arc<AtomicUsize>,
}

/// What a connection sees of the fault.
#[derive(Clone)]
struct Faults {
    now: watch::Receiver<Fault>,
    held: Arc<AtomicUsize>,
}

type Failure = Box<dyn Error + Send + Sync>;
type Answer = Response<UnsyncBoxBody<Bytes, Failure>>;

/// For how long a 429 asks to stay away.
const RETRY_AFTER_SECONDS: u32 = 7;

/// What a watch has told and is still to arrive, in frames of some events: more than ten seconds tell.
const ON_THE_WAY: usize = 4096;

impl HttpProxy {
    /// A proxy to the server of a kubeconfig, and the kubeconfig that leads to the proxy. `name` is that of its file.
    pub async fn of(kubeconfig: &Path, name: &str) -> (Self, PathBuf) {
        let text = std::fs::read_to_string(kubeconfig).unwrap();
        let server = Kubeconfig::from_yaml(&text).unwrap();
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(server, &options).await.unwrap();
        config.proxy_url = None;
        config.default_retry = false; // a refusal is for the replica to see
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

    /// From now on.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

impl Fault {
    /// The status with which it refuses a call, if it does.
    fn refuses(self, method: &Method, path: &str) -> Option<u16> {
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
    /// Waits while the fault holds a call back. No deadline: the replica has one.
    async fn let_pass(&mut self, method: &Method, path: &str) {
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
        let service = service_fn(move |request| answer(request, server.clone(), faults.clone()));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(replica), service);
        // It ends when either side closes it.
        tokio::spawn(async move { drop(connection.await) });
    }
}

/// An error closes the connection, as when the API server is not there.
async fn answer(
    request: Request<Incoming>,
    server: Client,
    mut faults: Faults,
) -> Result<Answer, Failure> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    faults.let_pass(&head.method, head.uri.path()).await;
    let refused = faults.now.borrow().refuses(&head.method, head.uri.path());
    if let Some(code) = refused {
        return refusal(code);
    }
    // The client puts its own there.
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

/// As an API server refuses.
fn refusal(code: u16) -> Result<Answer, Failure> {
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

/// Each frame as much later as the fault of its time says, and in order.
fn delayed(mut body: Body, faults: watch::Receiver<Fault>) -> UnsyncBoxBody<Bytes, Failure> {
    let (sender, frames) = mpsc::channel(ON_THE_WAY);
    tokio::spawn(async move {
        // A watch that breaks ends: the replica goes on from where it is.
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
