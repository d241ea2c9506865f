//! Clients that send slowly or never read: each connection ends at a timeout, and other clients do not wait.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;
use tokio::time::{sleep, timeout};

use super::wire::{ClientStep, Exchange, run_steps};
use super::{peak_memory, registered_services};
use crate::support::http::call;
use crate::support::{Rollcall, namespace};

/// Extra time for a busy machine.
const SLACK: Duration = Duration::from_secs(10);

/// A client that does not read is disconnected 35 s after the last successful write. The kernel can accept more data once
/// or twice, because its buffers grow.
const MAX_UNREAD: Duration = Duration::from_secs(110);

const BYTE_INTERVAL: Duration = Duration::from_millis(300);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A client and its expected end: the status, if there is an answer, and the range of the duration.
struct Client {
    name: &'static str,
    sent: Vec<ClientStep>,
    status: Option<u16>,
    min: Duration,
    max: Duration,
}

/// The head of a registration.
fn put(ns: &str, headers: &str) -> Vec<u8> {
    format!(
        "PUT /v1/namespaces/{ns}/instances/slow HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n{headers}\r\n"
    )
    .into_bytes()
}

/// A head times out after 10 to 15 s.
fn slow_heads() -> Vec<Client> {
    let head = b"GET /v1/services HTTP/1.1\r\nhost: a\r\nx-a: ";
    let drips = ClientStep::Dripping([head.as_slice(), &[b'b'; 200]].concat(), BYTE_INTERVAL);
    let stalls = ClientStep::Bytes(head.to_vec());
    [("a slow head", drips), ("a stalled head", stalls)]
        .map(|(name, sent)| Client {
            name,
            sent: vec![sent],
            status: None,
            min: seconds(9),
            max: seconds(15),
        })
        .into()
}

/// A body times out after 10 s.
fn slow_bodies(ns: &str) -> Vec<Client> {
    let timed_out =
        |name, sent| Client { name, sent, status: Some(408), min: seconds(9), max: seconds(10) };
    let drips = |name, headers: &str, body: &[u8]| {
        timed_out(
            name,
            vec![
                ClientStep::Bytes(put(ns, headers)),
                ClientStep::Dripping(body.to_vec(), BYTE_INTERVAL),
            ],
        )
    };
    let stalls = |name, tail: &str| {
        let chunked = put(ns, "transfer-encoding: chunked\r\n");
        timed_out(name, vec![ClientStep::Bytes([chunked, tail.as_bytes().to_vec()].concat())])
    };
    let chunks = "1\r\n \r\n".repeat(30);
    let expects_continue = "content-length: 1000\r\nexpect: 100-continue\r\n";
    vec![
        drips("a slow body", "content-length: 1000\r\n", &[b' '; 200]),
        drips("slow chunks", "transfer-encoding: chunked\r\n", chunks.as_bytes()),
        drips("a slow body after 100 Continue", expects_continue, &[b' '; 200]),
        stalls("a stall in the size of a chunk", "1"),
        stalls("a stall in an extension", "1;aaa"),
        stalls("a stall in a chunk", "10\r\n{"),
        stalls("a stall after a chunk", "2\r\n{}"),
        stalls("a stall in a trailer", "2\r\n{}\r\n0\r\na: "),
        stalls("a stall before the last line", "2\r\n{}\r\n0\r\n"),
    ]
}

/// Bodies that the server does not need: it answers without waiting for them, and closes the connection.
fn unneeded_bodies() -> Vec<Client> {
    let size = 5 * 1024 * 1024;
    let request =
        |line: &str, headers: &str| format!("{line} HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
    let length = "content-length: 1000\r\n";
    let chunked = "transfer-encoding: chunked\r\n";
    let large = format!("expect: 100-continue\r\ncontent-length: {size}\r\n");
    [
        ("a body of a GET", request("GET /v1/services", length), 200),
        ("a body for an unknown path", request("POST /v1/nothing", length) + "{", 404),
        ("chunks for an invalid method", request("DELETE /v1/services", chunked) + "5", 405),
        ("a body with too large a Content-Length", request("POST /v1/heartbeats", &large), 413),
    ]
    .map(|(name, request, status)| Client {
        name,
        sent: vec![ClientStep::Bytes(request.into_bytes())],
        status: Some(status),
        min: Duration::ZERO,
        max: seconds(15),
    })
    .into()
}

fn clients(ns: &str) -> Vec<Client> {
    [slow_heads(), slow_bodies(ns), unneeded_bodies()].into_iter().flatten().collect()
}

/// Describes the difference from the expected end of a client, if there is one.
fn mismatch(client: &Client, exchange: &Exchange) -> Option<String> {
    let Client { name, status, min, max, .. } = client;
    let actual = exchange.answer().map(|answer| answer.status);
    let is_right = exchange.is_closed
        && actual == *status
        && exchange.duration >= *min
        && exchange.duration < *max + SLACK
        // A body that is too large gets no 100 Continue.
        && !(actual == Some(413) && exchange.received.starts_with(b"HTTP/1.1 100"));
    (!is_right).then(|| {
        format!(
            "{name}: {actual:?} after {:?}, ended: {}; expected {status:?}",
            exchange.duration, exchange.is_closed
        )
    })
}

/// Pipelines requests without reading, until the server disconnects; returns how long that took.
async fn send_without_reading(rollcall: &Rollcall) -> Duration {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(rollcall.http).await.unwrap();
    let started = Instant::now();
    let requests = "GET /v1/cluster HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1_000);
    let writing = async { while stream.write_all(requests.as_bytes()).await.is_ok() {} };
    timeout(MAX_UNREAD + SLACK, writing).await.expect("the server disconnects the client");
    started.elapsed()
}

/// The longest time that another client waits for a read and a heartbeat.
async fn longest_wait(rollcall: &Rollcall, ns: &str, until: Duration) -> Duration {
    let (started, mut longest) = (Instant::now(), Duration::ZERO);
    let beat = format!("/v1/namespaces/{ns}/instances/steady/heartbeat");
    while started.elapsed() < until {
        let asked = Instant::now();
        assert_eq!(call(rollcall.http, "GET", "/v1/services", None).await.status, 200);
        assert_eq!(call(rollcall.http, "PUT", &beat, None).await.status, 200);
        longest = longest.max(asked.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    longest
}

async fn register(rollcall: &Rollcall, ns: &str) {
    let lease = serde_json::json!({"mode": "Permanent"});
    let body = serde_json::json!({"service": "steady", "addresses": ["10.0.0.1"], "lease": lease});
    let path = format!("/v1/namespaces/{ns}/instances/steady");
    assert_eq!(call(rollcall.http, "PUT", &path, Some(body)).await.status, 201);
}

#[tokio::test]
async fn slow_clients_time_out_and_other_clients_do_not_wait() {
    let ns = namespace("hostile-slow").await;
    let rollcall = Rollcall::start(&ns).await;
    register(&rollcall, &ns.name).await;
    let before = peak_memory(rollcall.pid());
    // Twenty of each at the same time.
    let all_clients: Vec<Client> = (0..20).flat_map(|_| clients(&ns.name)).collect();
    let slow = futures::future::join_all(
        all_clients.iter().map(|client| run_steps(rollcall.http, &client.sent)),
    );
    let unread = futures::future::join_all((0..20).map(|_| send_without_reading(&rollcall)));
    let (slow, unread, longest) =
        tokio::join!(slow, unread, longest_wait(&rollcall, &ns.name, seconds(20)));
    let mismatches: Vec<_> = all_clients
        .iter()
        .zip(&slow)
        .filter_map(|(client, exchange)| mismatch(client, exchange))
        .collect();
    assert!(mismatches.is_empty(), "{} mismatches:\n{}", mismatches.len(), mismatches.join("\n"));
    for took in unread {
        assert!(took >= seconds(29) && took < MAX_UNREAD, "disconnected after {took:?}");
    }
    // Less than any of the timeouts, even on a slow machine.
    assert!(longest < seconds(8), "another client waited {longest:?}");
    let after = peak_memory(rollcall.pid());
    assert!(after < before + 64, "{before} MiB before, {after} MiB after");
    assert_eq!(registered_services(&rollcall, &ns).await, ["steady"]);
}

#[tokio::test]
async fn a_thousand_pipelined_requests_are_answered_in_order() {
    let ns = namespace("pipelined").await;
    let rollcall = Rollcall::start(&ns).await;
    let request = |at: usize| {
        let close = if at == 999 { "connection: close\r\n" } else { "" };
        format!("GET /v1/namespaces/{}/services/s{at} HTTP/1.1\r\nhost: a\r\n{close}\r\n", ns.name)
    };
    let all: String = (0..1_000).map(request).collect();
    let exchange = run_steps(rollcall.http, &[ClientStep::Bytes(all.into_bytes())]).await;
    let text = String::from_utf8(exchange.received.clone()).unwrap();
    assert_eq!((exchange.answers(), text.matches("HTTP/1.1 200 OK").count()), (1_000, 1_000));
    let services =
        text.split("\"service\":\"s").skip(1).map(|rest| rest.split('"').next().unwrap());
    assert!(services.eq((0..1_000).map(|at| at.to_string()).collect::<Vec<_>>()));
}

#[tokio::test]
async fn half_closed_connection_counts_as_closed() {
    let ns = namespace("half-closed").await;
    let rollcall = Rollcall::start(&ns).await;
    let get = |path: &str, more: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: a\r\n{more}\r\n").into_bytes()
    };
    let path = format!("/v1/namespaces/{}/services/orders", ns.name);
    let immediate =
        run_steps(rollcall.http, &[ClientStep::Bytes(get(&path, "")), ClientStep::HalfClose]).await;
    // A client that disconnects looks the same, so the server may drop the answer; it can also be sent before that.
    assert!(immediate.is_closed && immediate.duration < SLACK);
    assert!(immediate.answer().is_none_or(|answer| answer.status == 200));
    let etag = call(rollcall.http, "GET", &path, None).await.header("etag").to_owned();
    let request = get(&format!("{path}?wait=5m"), &format!("if-none-match: {etag}\r\n"));
    let waiting =
        run_steps(rollcall.http, &[ClientStep::Bytes(request), ClientStep::HalfClose]).await;
    assert_eq!((waiting.is_closed, waiting.answers()), (true, 0));
    assert!(waiting.duration < seconds(5) + SLACK);
    // A body that ends before its length or before its last chunk is not accepted.
    for headers in ["content-length: 100\r\n", "transfer-encoding: chunked\r\n"] {
        let put = format!(
            "PUT /v1/namespaces/{}/instances/half HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n{headers}\r\n",
            ns.name
        );
        let sent = [ClientStep::Bytes(put.into_bytes()), ClientStep::HalfClose];
        let exchange = run_steps(rollcall.http, &sent).await;
        assert!(exchange.is_closed && exchange.duration < seconds(5) + SLACK);
        assert!(exchange.answer().is_none_or(|answer| answer.status == 400), "{headers}");
    }
    assert_eq!(registered_services(&rollcall, &ns).await, [""; 0]);
}
