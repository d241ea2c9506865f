//! Clients that take their time, or never read what they asked for: each ends by itself, and nobody else waits.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;
use tokio::time::{sleep, timeout};

use super::wire::{Sent, Talk, talk};
use super::{peak, registered};
use crate::support::http::call;
use crate::support::{Rollcall, namespace};

/// For a busy machine, beyond the time that something takes.
const SLACK: Duration = Duration::from_secs(10);

const DRIP: Duration = Duration::from_millis(300);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A client, and what is to come of it: a status if any, and how long at least that takes.
struct Client {
    what: &'static str,
    sent: Vec<Sent>,
    status: Option<u16>,
    least: Duration,
    most: Duration,
}

fn clients(ns: &str) -> Vec<Client> {
    let put = |headers: &str| {
        format!(
            "PUT /v1/namespaces/{ns}/instances/slow HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n{headers}\r\n"
        )
        .into_bytes()
    };
    let chunked = || put("transfer-encoding: chunked\r\n");
    let stall = |what, tail: &str| Client {
        what,
        sent: vec![Sent::Bytes([chunked(), tail.as_bytes().to_vec()].concat())],
        status: Some(408),
        least: seconds(9),
        most: seconds(10),
    };
    let head = b"GET /v1/services HTTP/1.1\r\nhost: a\r\nx-a: ";
    let body = |what, headers: &str, drip: &[u8]| Client {
        what,
        sent: vec![Sent::Bytes(put(headers)), Sent::Dripping(drip.to_vec(), DRIP)],
        status: Some(408),
        least: seconds(9),
        most: seconds(10),
    };
    let unread = |what, request: &str, status| Client {
        what,
        sent: vec![Sent::Bytes(request.as_bytes().to_vec())],
        status: Some(status),
        least: Duration::ZERO,
        most: seconds(15),
    };
    vec![
        Client {
            what: "a head that drips",
            sent: vec![Sent::Dripping([head.as_slice(), &[b'b'; 200]].concat(), DRIP)],
            status: None,
            least: seconds(9),
            most: seconds(15),
        },
        Client {
            what: "a head that stalls",
            sent: vec![Sent::Bytes(head.to_vec())],
            status: None,
            least: seconds(9),
            most: seconds(15),
        },
        body("a body that drips", "content-length: 1000\r\n", &[b' '; 200]),
        body(
            "chunks that drip",
            "transfer-encoding: chunked\r\n",
            "1\r\n \r\n".repeat(30).as_bytes(),
        ),
        body(
            "a body that was asked for and drips",
            "content-length: 1000\r\nexpect: 100-continue\r\n",
            &[b' '; 200],
        ),
        stall("a stall in the size of a chunk", "1"),
        stall("a stall in an extension", "1;aaa"),
        stall("a stall in a chunk", "10\r\n{"),
        stall("a stall behind a chunk", "2\r\n{}"),
        stall("a stall in a trailer", "2\r\n{}\r\n0\r\na: "),
        stall("a stall before the last line", "2\r\n{}\r\n0\r\n"),
        unread(
            "a body that nobody reads",
            "GET /v1/services HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n",
            200,
        ),
        unread(
            "a body for nobody",
            "POST /v1/nothing HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{",
            404,
        ),
        unread(
            "chunks for nobody",
            "DELETE /v1/services HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5",
            405,
        ),
        unread(
            "a body that is announced too large",
            &format!(
                "POST /v1/heartbeats HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
                5 * 1024 * 1024
            ),
            413,
        ),
    ]
}

/// Says what is wrong with the end of a client, if anything is.
fn wrong(client: &Client, talk: &Talk) -> Option<String> {
    let Client { what, status, least, most, .. } = client;
    let came = talk.answer().map(|answer| answer.status);
    let is_right = talk.has_ended
        && came == *status
        && talk.took >= *least
        && talk.took < *most + SLACK
        // What was said to be too large was not asked for.
        && !(came == Some(413) && talk.came.starts_with(b"HTTP/1.1 100"));
    (!is_right).then(|| {
        format!(
            "{what}: {came:?} after {:?}, ended: {}; expected {status:?}",
            talk.took, talk.has_ended
        )
    })
}

/// Pipelines requests and reads nothing, until the server has had enough.
async fn never_reads(rollcall: &Rollcall) -> Duration {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(rollcall.http).await.unwrap();
    let started = Instant::now();
    let requests = "GET /v1/cluster HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1_000);
    let writing = async { while stream.write_all(requests.as_bytes()).await.is_ok() {} };
    timeout(seconds(90), writing).await.expect("it is dropped in the end");
    started.elapsed()
}

/// The longest that anybody else waits meanwhile, for a read or for a beat.
async fn others(rollcall: &Rollcall, ns: &str, until: Duration) -> Duration {
    let (started, mut longest) = (Instant::now(), Duration::ZERO);
    let beat = format!("/v1/namespaces/{ns}/instances/alive/heartbeat");
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
    let body = serde_json::json!({"service": "alive", "addresses": ["10.0.0.1"]});
    let path = format!("/v1/namespaces/{ns}/instances/alive");
    assert_eq!(call(rollcall.http, "PUT", &path, Some(body)).await.status, 201);
}

#[tokio::test]
async fn who_takes_his_time_ends_by_himself_and_nobody_else_waits() {
    let ns = namespace("hostile-slow").await;
    let rollcall = Rollcall::start(&ns).await;
    register(&rollcall, &ns.name).await;
    let before = peak(rollcall.pid());
    // Twenty of each at a time.
    let crowd: Vec<Client> = (0..20).flat_map(|_| clients(&ns.name)).collect();
    let slow =
        futures::future::join_all(crowd.iter().map(|client| talk(rollcall.http, &client.sent)));
    let unread = futures::future::join_all((0..20).map(|_| never_reads(&rollcall)));
    let (slow, unread, longest) =
        tokio::join!(slow, unread, others(&rollcall, &ns.name, seconds(20)));
    let wrong: Vec<_> =
        crowd.iter().zip(&slow).filter_map(|(client, talk)| wrong(client, talk)).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    for took in unread {
        assert!(took >= seconds(29) && took < seconds(45) + SLACK, "dropped after {took:?}");
    }
    assert!(longest < seconds(2), "somebody else waited {longest:?}");
    let after = peak(rollcall.pid());
    assert!(after < before + 64, "{before} MiB before, {after} MiB after");
    assert_eq!(registered(&rollcall, &ns).await, ["alive"]);
}

#[tokio::test]
async fn a_thousand_requests_in_a_row_are_answered_in_their_order() {
    let ns = namespace("pipelined").await;
    let rollcall = Rollcall::start(&ns).await;
    let one = |at: usize| {
        let close = if at == 999 { "connection: close\r\n" } else { "" };
        format!("GET /v1/namespaces/{}/services/s{at} HTTP/1.1\r\nhost: a\r\n{close}\r\n", ns.name)
    };
    let all: String = (0..1_000).map(one).collect();
    let came = talk(rollcall.http, &[Sent::Bytes(all.into_bytes())]).await;
    let text = String::from_utf8(came.came.clone()).unwrap();
    assert_eq!((came.answers(), text.matches("HTTP/1.1 200 OK").count()), (1_000, 1_000));
    let services =
        text.split("\"service\":\"s").skip(1).map(|rest| rest.split('"').next().unwrap());
    assert!(services.eq((0..1_000).map(|at| at.to_string()).collect::<Vec<_>>()));
}

#[tokio::test]
async fn who_says_that_he_has_no_more_to_say_has_gone() {
    let ns = namespace("half-closed").await;
    let rollcall = Rollcall::start(&ns).await;
    let get = |path: &str, more: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: a\r\n{more}\r\n").into_bytes()
    };
    let path = format!("/v1/namespaces/{}/services/orders", ns.name);
    let known = talk(rollcall.http, &[Sent::Bytes(get(&path, "")), Sent::HalfClose]).await;
    // Whoever goes away does just this; an answer that is there at once may have been quicker.
    assert!(known.has_ended && known.took < SLACK);
    assert!(known.answer().is_none_or(|answer| answer.status == 200));
    let etag = call(rollcall.http, "GET", &path, None).await.header("etag").to_owned();
    let waits = get(&format!("{path}?wait=5m"), &format!("if-none-match: {etag}\r\n"));
    let waits = talk(rollcall.http, &[Sent::Bytes(waits), Sent::HalfClose]).await;
    assert_eq!((waits.has_ended, waits.answers()), (true, 0));
    assert!(waits.took < seconds(5) + SLACK);
    // A body that ends before its length is none, nor is one that ends before its last chunk.
    for headers in ["content-length: 100\r\n", "transfer-encoding: chunked\r\n"] {
        let put = format!(
            "PUT /v1/namespaces/{}/instances/half HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n{headers}\r\n",
            ns.name
        );
        let sent = [Sent::Bytes(put.into_bytes()), Sent::HalfClose];
        let came = talk(rollcall.http, &sent).await;
        assert!(came.has_ended && came.took < seconds(5) + SLACK);
        assert!(came.answer().is_none_or(|answer| answer.status == 400), "{headers}");
    }
    assert_eq!(registered(&rollcall, &ns).await, [""; 0]);
}
