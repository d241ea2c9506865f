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

/// Who reads nothing is dropped after 35 s in which nothing was taken; the kernel may take some once or twice, as its buffers
/// grow.
const MOST_UNREAD: Duration = Duration::from_secs(110);

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

/// A registration but for its body.
fn put(ns: &str, headers: &str) -> Vec<u8> {
    format!(
        "PUT /v1/namespaces/{ns}/instances/slow HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n{headers}\r\n"
    )
    .into_bytes()
}

/// A head has 10 to 15 s.
fn heads() -> Vec<Client> {
    let head = b"GET /v1/services HTTP/1.1\r\nhost: a\r\nx-a: ";
    let drips = Sent::Dripping([head.as_slice(), &[b'b'; 200]].concat(), DRIP);
    let stalls = Sent::Bytes(head.to_vec());
    [("a head that drips", drips), ("a head that stalls", stalls)]
        .map(|(what, sent)| Client {
            what,
            sent: vec![sent],
            status: None,
            least: seconds(9),
            most: seconds(15),
        })
        .into()
}

/// A body has 10 s.
fn bodies(ns: &str) -> Vec<Client> {
    let late =
        |what, sent| Client { what, sent, status: Some(408), least: seconds(9), most: seconds(10) };
    let drips = |what, headers: &str, drip: &[u8]| {
        late(what, vec![Sent::Bytes(put(ns, headers)), Sent::Dripping(drip.to_vec(), DRIP)])
    };
    let stalls = |what, tail: &str| {
        let chunked = put(ns, "transfer-encoding: chunked\r\n");
        late(what, vec![Sent::Bytes([chunked, tail.as_bytes().to_vec()].concat())])
    };
    let chunks = "1\r\n \r\n".repeat(30);
    let asked = "content-length: 1000\r\nexpect: 100-continue\r\n";
    vec![
        drips("a body that drips", "content-length: 1000\r\n", &[b' '; 200]),
        drips("chunks that drip", "transfer-encoding: chunked\r\n", chunks.as_bytes()),
        drips("a body that was asked for and drips", asked, &[b' '; 200]),
        stalls("a stall in the size of a chunk", "1"),
        stalls("a stall in an extension", "1;aaa"),
        stalls("a stall in a chunk", "10\r\n{"),
        stalls("a stall behind a chunk", "2\r\n{}"),
        stalls("a stall in a trailer", "2\r\n{}\r\n0\r\na: "),
        stalls("a stall before the last line", "2\r\n{}\r\n0\r\n"),
    ]
}

/// Bodies that are not wanted: the answer does not wait for them, and the connection is over.
fn unread() -> Vec<Client> {
    let size = 5 * 1024 * 1024;
    let request =
        |line: &str, headers: &str| format!("{line} HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
    let length = "content-length: 1000\r\n";
    let chunked = "transfer-encoding: chunked\r\n";
    let large = format!("expect: 100-continue\r\ncontent-length: {size}\r\n");
    [
        ("a body that nobody reads", request("GET /v1/services", length), 200),
        ("a body for nobody", request("POST /v1/nothing", length) + "{", 404),
        ("chunks for nobody", request("DELETE /v1/services", chunked) + "5", 405),
        ("a body that is announced too large", request("POST /v1/heartbeats", &large), 413),
    ]
    .map(|(what, request, status)| Client {
        what,
        sent: vec![Sent::Bytes(request.into_bytes())],
        status: Some(status),
        least: Duration::ZERO,
        most: seconds(15),
    })
    .into()
}

fn clients(ns: &str) -> Vec<Client> {
    [heads(), bodies(ns), unread()].into_iter().flatten().collect()
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
    timeout(MOST_UNREAD + SLACK, writing).await.expect("it is dropped in the end");
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
    let lease = serde_json::json!({"mode": "Permanent"});
    let body = serde_json::json!({"service": "alive", "addresses": ["10.0.0.1"], "lease": lease});
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
        assert!(took >= seconds(29) && took < MOST_UNREAD, "dropped after {took:?}");
    }
    // Less than any of the stalls, on whatever machine.
    assert!(longest < seconds(8), "somebody else waited {longest:?}");
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
