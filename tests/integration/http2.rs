//! HTTP/2 with prior knowledge: many requests on one connection, streams next to them, and the end of the connection.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use h2::{
    RecvStream,
    client::{Builder, SendRequest},
};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};

use crate::support::{Namespace, Rollcall, eventually, http::call, namespace, proxy};

const BOUND: Duration = Duration::from_secs(60);

/// A connection, and its task.
pub struct Connection {
    send: SendRequest<Bytes>,
    end: JoinHandle<Result<(), h2::Error>>,
}

impl Connection {
    async fn open(to: SocketAddr, builder: &Builder) -> Self {
        let stream = TcpStream::connect(to).await.unwrap();
        let (send, connection) = builder.handshake(stream).await.unwrap();
        Self { send, end: tokio::spawn(connection) }
    }

    async fn send(&self, request: Request<()>, body: Option<Value>) -> Response<RecvStream> {
        let mut send = self.send.clone().ready().await.unwrap();
        let (response, mut stream) = send.send_request(request, body.is_none()).unwrap();
        if let Some(body) = body {
            stream.send_data(body.to_string().into(), true).unwrap();
        }
        timeout(BOUND, response).await.unwrap().unwrap()
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let answer = self.send(request(method, path), body).await;
        let status = answer.status();
        let body = read_body(answer.into_body()).await;
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }
}

fn request(method: Method, path: &str) -> Request<()> {
    let request = Request::builder().method(method).uri(format!("http://rollcall{path}"));
    request.header("content-type", "application/json").body(()).unwrap()
}

async fn read_body(mut body: RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(bytes) = timeout(BOUND, body.data()).await.unwrap() {
        let bytes = bytes.unwrap();
        body.flow_control().release_capacity(bytes.len()).unwrap();
        all.extend_from_slice(&bytes);
    }
    all
}

/// Reads events until one contains this text, and returns all that was read.
async fn until_event(body: &mut RecvStream, text: &str) -> String {
    let mut all = String::new();
    while !all.contains(text) {
        let bytes = timeout(BOUND, body.data()).await.unwrap();
        let bytes = bytes.unwrap_or_else(|| panic!("the stream ended: {all}")).unwrap();
        body.flow_control().release_capacity(bytes.len()).unwrap();
        all.push_str(&String::from_utf8_lossy(&bytes));
    }
    all
}

fn instance_path(ns: &Namespace, name: &str) -> String {
    format!("/v1/namespaces/{}/instances/{name}", ns.name)
}

fn service_path(ns: &Namespace, name: &str) -> String {
    format!("/v1/namespaces/{}/services/{name}", ns.name)
}

fn orders(attributes: usize) -> Value {
    let attributes: BTreeMap<_, _> =
        (0..attributes).map(|at| (format!("a{at}"), "x".repeat(1_000))).collect();
    json!({"service": "orders", "addresses": ["10.0.0.7"], "attributes": attributes})
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let ns = namespace("h2-many").await;
    let replica = Rollcall::start(&ns).await;
    let connection = Connection::open(replica.http, &Builder::new()).await;
    let registered = join_all((0..50).map(|at| {
        let path = instance_path(&ns, &format!("a{at:02}"));
        let connection = &connection;
        async move { connection.call(Method::PUT, &path, Some(orders(30))).await.0 }
    }));
    assert!(registered.await.iter().all(|status| *status == StatusCode::CREATED));
    let beats = join_all((0..50).map(|at| {
        let path = format!("{}/heartbeat", instance_path(&ns, &format!("a{at:02}")));
        let connection = &connection;
        async move { connection.call(Method::PUT, &path, None).await.0 }
    }));
    assert!(beats.await.iter().all(|status| *status == StatusCode::OK));
    // Several responses that are larger than any window, at the same time.
    let path = service_path(&ns, "orders");
    for (status, set) in join_all((0..8).map(|_| connection.call(Method::GET, &path, None))).await {
        assert_eq!(status, StatusCode::OK);
        assert_eq!(set["instances"].as_array().unwrap().len(), 50);
    }
    let head = connection.send(request(Method::HEAD, &path), None).await;
    let length: usize = head.headers()["content-length"].to_str().unwrap().parse().unwrap();
    assert!(length > 1_500_000, "{length}");
    assert_eq!(read_body(head.into_body()).await.len(), 0);
    let (status, problem) = connection.call(Method::GET, "/v1/nothing", None).await;
    assert_eq!((status, &problem["status"]), (StatusCode::NOT_FOUND, &json!(404)));
    let (status, _) = connection.call(Method::DELETE, &instance_path(&ns, "a00"), None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn streams_continue_next_to_requests_until_the_replica_shuts_down() {
    let ns = namespace("h2-streams").await;
    let replica = Rollcall::start(&ns).await;
    let connection = Connection::open(replica.http, &Builder::new()).await;
    let path = service_path(&ns, "orders");
    let watch = format!("{path}/watch");
    let mut streams = Vec::new();
    for _ in 0..3 {
        let answer = connection.send(request(Method::GET, &watch), None).await;
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        streams.push(answer.into_body());
        until_event(streams.last_mut().unwrap(), "event: snapshot").await;
    }
    let (status, _) = connection.call(Method::PUT, &instance_path(&ns, "a"), Some(orders(1))).await;
    assert_eq!(status, StatusCode::CREATED);
    for stream in &mut streams {
        until_event(stream, "event: upsert").await;
    }
    let etag = call(replica.http, "GET", &path, None).await.header("etag").to_owned();
    let wait = Request::builder().uri(format!("http://rollcall{path}?wait=4m"));
    let wait = wait.header("if-none-match", etag).body(()).unwrap();
    let leave = async {
        eventually("a request waits", BOUND, async || {
            let metrics = call(replica.admin, "GET", "/metrics", None).await;
            let text = String::from_utf8(metrics.body).unwrap();
            text.contains("rollcall_http_subscribers{kind=\"poll\"} 1").then_some(())
        })
        .await;
        replica.terminate().await
    };
    let (waited, end) = tokio::join!(connection.send(wait, None), leave);
    assert_eq!(waited.status(), StatusCode::NOT_MODIFIED, "the waiting request is answered");
    for stream in streams {
        read_body(stream).await;
    }
    // A client treats GOAWAY without an error as an orderly end.
    timeout(BOUND, connection.end).await.unwrap().unwrap().unwrap();
    assert_eq!(end, "exit status: 0");
    assert!(!replica.whole_log().contains("did not end within the drain"), "{}", replica.log());
}

#[tokio::test]
async fn stream_without_window_is_dropped() {
    let ns = namespace("h2-stalled").await;
    let replica = Rollcall::start(&ns).await;
    call(replica.http, "PUT", &instance_path(&ns, "a"), Some(orders(1))).await;
    // Without a window no byte of any body can be sent, while the connection itself stays open.
    let connection = Connection::open(replica.http, Builder::new().initial_window_size(0)).await;
    let watch = format!("{}/watch", service_path(&ns, "orders"));
    let answer = connection.send(request(Method::GET, &watch), None).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let cut_off = timeout(BOUND, answer.into_body().data()).await.unwrap();
    cut_off.unwrap().unwrap_err();
    let metrics = call(replica.admin, "GET", "/metrics", None).await;
    let text = String::from_utf8(metrics.body).unwrap();
    assert!(text.contains("rollcall_http_subscribers_dropped_total 1"), "{text}");
    assert!(text.contains("rollcall_http_subscribers{kind=\"stream\"} 0"), "{text}");
}

#[tokio::test]
async fn connection_that_reads_no_small_responses_is_closed_and_a_slow_one_is_not() {
    let ns = namespace("h2-small").await;
    let replica = Rollcall::start(&ns).await;
    // A window of one byte: a response can be produced, and cannot be sent.
    let stalled = Connection::open(replica.http, Builder::new().initial_window_size(1)).await;
    let moving = Connection::open(replica.http, &Builder::new()).await;
    let mut answers = Vec::new();
    for _ in 0..50 {
        let answer = stalled.send(request(Method::GET, "/v1/cluster"), None).await;
        assert_eq!(answer.status(), StatusCode::OK);
        answers.push(answer.into_body());
    }
    let ended = async { timeout(BOUND, stalled.end).await.unwrap() };
    let requests = async {
        loop {
            let (status, _) = moving.call(Method::GET, "/v1/services", None).await;
            assert_eq!(status, StatusCode::OK);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        _ = ended => {}
        () = requests => {}
    }
    // The unread responses are dropped, and the other connection still works.
    let (status, _) = moving.call(Method::GET, "/v1/services", None).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn heartbeat_answered_202_closes_the_connection() {
    let mut ns = namespace("h2-fenced").await;
    let proxy = proxy::Proxy::install(&mut ns).await;
    let separated = Rollcall::start(&ns).await;
    let _other = Rollcall::start_with(&ns, "rollcall-1", &[]).await;
    call(separated.http, "PUT", &instance_path(&ns, "a"), Some(orders(1))).await;
    proxy.set(proxy::Mode::Cut);
    let beat = format!("{}/heartbeat", instance_path(&ns, "a"));
    eventually("heartbeats are answered 202", BOUND, async || {
        (call(separated.http, "PUT", &beat, None).await.status == 202).then_some(())
    })
    .await;
    let connection = Connection::open(separated.http, &Builder::new()).await;
    let (status, _) = connection.call(Method::PUT, &beat, None).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    timeout(BOUND, connection.end).await.unwrap().unwrap().unwrap();
}
