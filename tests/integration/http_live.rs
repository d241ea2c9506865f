//! Waiting for what changes: long polls and streams, against real replicas over real connections.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use crate::support::events::{Event, Events};
use crate::support::http::{Answer, call, exchange};
use crate::support::{Namespace, Rollcall, eventually, namespace};

/// Long enough for a busy machine.
const BOUND: Duration = Duration::from_secs(60);

/// A look at one that should stay quiet: what is there to be told is told at once.
const MOMENT: Duration = Duration::from_millis(300);

/// Registers an instance of a service, with one more field.
async fn register(to: SocketAddr, ns: &Namespace, name: &str, service: &str, more: Value) {
    let path = format!("/v1/namespaces/{}/instances/{name}", ns.name);
    let mut body = json!({"service": service, "addresses": ["10.0.0.7"]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body["lease"] = json!({"durationSeconds": 600});
    let answer = call(to, "PUT", &path, Some(body)).await;
    assert!(matches!(answer.status, 200 | 201), "{}", answer.json());
}

async fn deregister(to: SocketAddr, ns: &Namespace, name: &str) {
    let path = format!("/v1/namespaces/{}/instances/{name}", ns.name);
    assert_eq!(call(to, "DELETE", &path, None).await.status, 204);
}

fn service(ns: &Namespace, service: &str) -> String {
    format!("/v1/namespaces/{}/services/{service}", ns.name)
}

/// Asks for a set that the client knows already, and answers within 30 s.
async fn wait_for(to: SocketAddr, path: &str, etag: &str) -> Answer {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nif-none-match: {etag}\r\n\r\n"
    );
    exchange(to, request.as_bytes()).await.unwrap()
}

async fn until_figure(replica: &Rollcall, series: &str, wanted: f64) {
    let what = format!("{series} is {wanted}");
    eventually(&what, BOUND, async || (replica.figure(series).await == Some(wanted)).then_some(()))
        .await;
}

fn subscribers(kind: &str) -> String {
    format!("rollcall_http_subscribers{{kind=\"{kind}\"}}")
}

const WOKEN: &str = "rollcall_http_subscribers_woken_total";
const DROPPED: &str = "rollcall_http_subscribers_dropped_total";

async fn next(events: &mut Events, kind: &str) -> Event {
    let event = events.next().await.expect("the stream has ended");
    assert_eq!(event.kind, kind, "{event:?}");
    event
}

fn names(snapshot: &Event) -> Vec<&str> {
    let instances = snapshot.data["instances"].as_array().unwrap();
    instances.iter().map(|instance| instance["name"].as_str().unwrap()).collect()
}

/// What is made once for a view is, to the octet, what is made for each request, and follows the view.
#[tokio::test]
async fn a_plain_discovery_is_one_with_a_filter_that_lets_everybody_pass() {
    let ns = namespace("plain").await;
    let replica = Rollcall::start(&ns).await;
    let path = service(&ns, "orders");
    let (mut there, mut tags) = (0, BTreeSet::new());
    // So many are beyond what is kept in one piece.
    for count in [0, 1, 2, 60] {
        for at in there..count {
            register(replica.http, &ns, &format!("a{}", 99 - at), "orders", json!({})).await;
        }
        there = count;
        let plain = call(replica.http, "GET", &path, None).await;
        let chosen = format!("{path}?selector=%21nobody");
        let chosen = call(replica.http, "GET", &chosen, None).await;
        assert_eq!(plain.json()["instances"].as_array().unwrap().len(), count);
        assert_eq!(plain.body, chosen.body);
        let etag = plain.header("etag");
        assert_eq!((etag, plain.header("cache-control")), (chosen.header("etag"), "no-cache"));
        assert!(tags.insert(etag.to_owned()), "{etag} was that of another set");
        assert_eq!(call(replica.http, "GET", &path, None).await.body, plain.body);
        let known = wait_for(replica.http, &path, etag).await;
        assert_eq!((known.status, known.header("etag")), (304, etag));
        let head = call(replica.http, "HEAD", &path, None).await;
        assert_eq!((head.header("etag"), head.body.len()), (etag, 0));
    }
}

#[tokio::test]
async fn a_wait_ends_with_a_change_that_another_replica_took() {
    let ns = namespace("wait").await;
    let (one, other) =
        (Rollcall::start(&ns).await, Rollcall::start_with(&ns, "rollcall-1", &[]).await);
    let path = service(&ns, "orders");
    // Of a service that nobody knows yet.
    let empty = call(other.http, "GET", &path, None).await;
    let etag = empty.header("etag").to_owned();
    let asked = format!("{path}?wait=12s");
    let change = async {
        until_figure(&other, &subscribers("poll"), 1.0).await;
        register(one.http, &ns, "a", "orders", json!({})).await;
    };
    let (answer, ()) = tokio::join!(wait_for(other.http, &asked, &etag), change);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["instances"][0]["name"], "a");
    assert_eq!(answer.header("rollcall-replica"), "rollcall-1");
    // Who knows less is answered at once, and so is who says nothing of what it knows.
    for etag in [etag.as_str(), "\"0\"", "*"] {
        let started = Instant::now();
        let status = wait_for(other.http, &asked, etag).await.status;
        assert_eq!(status, if etag == "*" { 304 } else { 200 });
        assert!(started.elapsed() < Duration::from_secs(12), "it waited");
    }
    assert_eq!(call(other.http, "GET", &asked, None).await.status, 200);
    until_figure(&other, &subscribers("poll"), 0.0).await;
}

#[tokio::test]
async fn a_wait_that_brings_nothing_ends_in_time_and_neither_beats_nor_strangers_wake_it() {
    let ns = namespace("quiet").await;
    let replica = Rollcall::start(&ns).await;
    register(replica.http, &ns, "a", "orders", json!({"tags": ["x"]})).await;
    let path = format!("{}?tag=x", service(&ns, "orders"));
    let first = call(replica.http, "GET", &path, None).await;
    let etag = first.header("etag").to_owned();
    let beats = async {
        until_figure(&replica, &subscribers("poll"), 1.0).await;
        let beat = format!("/v1/namespaces/{}/instances/a/heartbeat", ns.name);
        for _ in 0..20 {
            assert_eq!(call(replica.http, "PUT", &beat, None).await.status, 200);
        }
        register(replica.http, &ns, "b", "ledger", json!({})).await;
        assert_eq!(replica.figure(WOKEN).await, Some(0.0));
        // In the service, but not in what was asked for.
        register(replica.http, &ns, "c", "orders", json!({})).await;
        until_figure(&replica, WOKEN, 1.0).await;
    };
    let asked = format!("{path}&wait=5s");
    let started = Instant::now();
    let (answer, ()) = tokio::join!(wait_for(replica.http, &asked, &etag), beats);
    assert!(started.elapsed() >= Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!((answer.status, answer.body.len()), (304, 0));
    assert_eq!(answer.header("etag"), etag);
    for header in ["rollcall-replica", "rollcall-index", "rollcall-age", "rollcall-stale"] {
        assert_ne!(answer.header(header), "", "{header}");
    }
}

#[tokio::test]
async fn a_stream_tells_of_one_service_what_changes_in_it() {
    let ns = namespace("stream").await;
    let (one, other) =
        (Rollcall::start(&ns).await, Rollcall::start_with(&ns, "rollcall-1", &[]).await);
    register(one.http, &ns, "a", "orders", json!({"tags": ["x"]})).await;
    let path = service(&ns, "orders");
    eventually("the other replica knows it", BOUND, async || {
        let known = call(other.http, "GET", &path, None).await.json();
        known["instances"].as_array().unwrap().first().map(|_| ())
    })
    .await;
    let mut all = Events::open(other.http, &format!("{path}/watch"), "").await;
    let mut tagged = Events::open(other.http, &format!("{path}/watch?tag=x"), "").await;
    assert!(all.head.starts_with("http/1.1 200"), "{}", all.head);
    for header in ["content-type: text/event-stream", "rollcall-replica: rollcall-1"] {
        assert!(all.head.contains(header), "{}", all.head);
    }
    let snapshot = next(&mut all, "snapshot").await;
    assert_eq!(names(&snapshot), ["a"]);
    let retry = all.beside[0].strip_prefix("retry: ").unwrap().parse::<u64>().unwrap();
    assert!((1_000..5_000).contains(&retry) && all.beside.len() == 1, "{:?}", all.beside);
    let set = call(other.http, "GET", &path, None).await.json();
    assert_eq!(snapshot.data, set, "a snapshot is a discovery");
    assert_eq!(snapshot.id, set["revision"].as_str().unwrap());
    assert_eq!(names(&next(&mut tagged, "snapshot").await), ["a"]);

    register(one.http, &ns, "z", "ledger", json!({})).await;
    register(one.http, &ns, "b", "orders", json!({})).await;
    let upsert = next(&mut all, "upsert").await;
    let set = call(other.http, "GET", &path, None).await.json();
    assert_eq!(upsert.id, set["revision"].as_str().unwrap());
    let mut expected = set["instances"][1].clone();
    expected["revision"] = set["revision"].clone();
    assert_eq!(upsert.data, expected, "an instance as discovery shows it, and the revision");

    // It loses the tag: gone for who asked for that, changed for the others.
    register(one.http, &ns, "a", "orders", json!({"tags": ["y"]})).await;
    assert_eq!(next(&mut all, "upsert").await.data["tags"], json!(["y"]));
    let gone = next(&mut tagged, "remove").await;
    let expected =
        json!({"namespace": ns.name, "service": "orders", "name": "a", "revision": gone.id});
    assert_eq!(gone.data, expected);

    deregister(one.http, &ns, "a").await;
    deregister(one.http, &ns, "b").await;
    assert_eq!(next(&mut all, "remove").await.data["name"], "a");
    assert_eq!(next(&mut all, "remove").await.data["name"], "b");
    assert!(tagged.is_quiet(MOMENT).await);
    drop((all, tagged));
    until_figure(&other, &subscribers("stream"), 0.0).await;
}

#[tokio::test]
async fn a_stream_of_several_goes_on_where_it_was() {
    let ns = namespace("resume").await;
    let replica = Rollcall::start(&ns).await;
    let http = replica.http;
    register(http, &ns, "a", "orders", json!({})).await;
    let path = format!("/v1/watch?service={0}/none&service={0}/orders", ns.name);
    let mut events = Events::open(http, &path, "").await;
    let first = next(&mut events, "snapshot").await;
    assert_eq!((&first.data["service"], first.id.as_str()), (&json!("none"), ""));
    assert_eq!(names(&first), [""; 0], "a service that is not there is an empty one");
    let second = next(&mut events, "snapshot").await;
    let revisions = [&first, &second].map(|event| event.data["revision"].as_str().unwrap());
    assert_eq!(second.id, revisions.join(","), "what is known when all is told");
    drop(events);

    let resume = |id: &str| format!("last-event-id: {id}\r\n");
    let mut events = Events::open(http, &path, &resume(&second.id)).await;
    assert!(events.is_quiet(MOMENT).await, "nothing is new");
    register(http, &ns, "b", "orders", json!({})).await;
    let upsert = next(&mut events, "upsert").await;
    let newest = upsert.data["revision"].as_str().unwrap();
    assert_eq!(upsert.id, [revisions[0], newest].join(","));
    drop(events);

    let mut events = Events::open(http, &path, &resume(&second.id)).await;
    let snapshot = next(&mut events, "snapshot").await;
    assert_eq!((names(&snapshot), &snapshot.id), (vec!["a", "b"], &upsert.id), "of one alone");
    assert!(events.is_quiet(MOMENT).await);
    for strange in ["nonsense", revisions[0], "a,b,c", ""] {
        let mut events = Events::open(http, &path, &resume(strange)).await;
        for _ in 0..2 {
            next(&mut events, "snapshot").await;
        }
    }
}

#[tokio::test]
async fn a_replica_that_stops_ends_its_streams_and_answers_who_waits() {
    let ns = namespace("going").await;
    let replica = Rollcall::start(&ns).await;
    register(replica.http, &ns, "a", "orders", json!({})).await;
    let path = service(&ns, "orders");
    let etag = call(replica.http, "GET", &path, None).await.header("etag").to_owned();
    let mut events = Events::open(replica.http, &format!("{path}/watch"), "").await;
    next(&mut events, "snapshot").await;
    let asked = format!("{path}?wait=5m");
    let stop = async {
        until_figure(&replica, &subscribers("poll"), 1.0).await;
        replica.terminate().await
    };
    let (answer, end, rest) =
        tokio::join!(wait_for(replica.http, &asked, &etag), stop, events.next());
    assert_eq!((answer.status, answer.header("connection")), (304, "close"));
    assert_eq!(rest, None, "the stream ends with its last chunk");
    assert_eq!(end, "exit status: 0");
    assert!(!replica.whole_log().contains("did not end within the drain"), "{}", replica.log());
}

#[tokio::test]
async fn who_takes_nothing_of_a_stream_is_dropped_and_others_go_on() {
    let ns = namespace("stalled").await;
    let replica = Rollcall::start(&ns).await;
    // More than the kernel holds for one connection on both sides together.
    let attributes: serde_json::Map<_, _> =
        (0..60).map(|at| (format!("a{at}"), json!("x".repeat(1_000)))).collect();
    let large = json!({"attributes": attributes});
    let register_one = async |at: usize| {
        let name = format!("a{at:03}");
        register(replica.http, &ns, &name, "orders", large.clone()).await;
    };
    stream::iter((0..200).map(register_one)).buffer_unordered(16).collect::<Vec<()>>().await;
    let path = format!("{}/watch", service(&ns, "orders"));
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stalled = socket.connect(replica.http).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    stalled.write_all(request.as_bytes()).await.unwrap();
    let mut other = Events::open(replica.http, &path, "").await;
    assert_eq!(names(&next(&mut other, "snapshot").await).len(), 200);
    until_figure(&replica, &subscribers("stream"), 2.0).await;
    for weight in 0..5 {
        register(replica.http, &ns, "small", "orders", json!({"weight": weight})).await;
        assert_eq!(next(&mut other, "upsert").await.data["weight"], weight);
    }
    until_figure(&replica, DROPPED, 1.0).await;
    assert_eq!(replica.figure(&subscribers("stream")).await, Some(1.0));
    // What it was sent before is still there for it; then comes the end, and no last chunk.
    let mut rest = Vec::new();
    let _ = stalled.read_to_end(&mut rest).await;
    assert!(!rest.ends_with(b"0\r\n\r\n") && rest.len() < 10_000_000, "{} bytes", rest.len());
    register(replica.http, &ns, "small", "orders", json!({"weight": 9})).await;
    assert_eq!(next(&mut other, "upsert").await.data["weight"], 9);
}

/// How many streams this environment allows, for a client and a replica on one machine.
fn room(wanted: usize) -> usize {
    let most = getrlimit(Resource::Nofile).maximum;
    // The replica is a child, and has as much.
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let most = usize::try_from(most.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let room = most.saturating_sub(1_000).min(wanted);
    if room < wanted {
        eprintln!("only {most} files may be open: {room} streams in the place of {wanted}");
    }
    room
}

/// CPU time of a process so far, and its memory in MiB.
fn cost(pid: u32) -> (Duration, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = rss.split_whitespace().next().unwrap().parse().unwrap();
    (Duration::from_millis(ticks * 10), kib / 1024)
}

#[tokio::test]
async fn thousands_of_streams_stay_open_while_nothing_happens_and_only_those_concerned_are_woken() {
    let count = room(5_000);
    let ns = namespace("crowd").await;
    let replica = Rollcall::start(&ns).await;
    register(replica.http, &ns, "a", "s0", json!({})).await;
    let (_, empty) = cost(replica.pid());
    let services = 50;
    let open = |at: usize| {
        let path = format!("{}/watch", service(&ns, &format!("s{}", at % services)));
        async move {
            let mut events = Events::open(replica.http, &path, "").await;
            next(&mut events, "snapshot").await;
            events
        }
    };
    let mut all: Vec<Events> =
        stream::iter((0..count).map(open)).buffered(32).collect::<Vec<_>>().await;
    until_figure(&replica, &subscribers("stream"), count as f64).await;
    let (before, full) = cost(replica.pid());
    let started = Instant::now();
    let beat = format!("/v1/namespaces/{}/instances/a/heartbeat", ns.name);
    while started.elapsed() < Duration::from_secs(16) {
        assert_eq!(call(replica.http, "PUT", &beat, None).await.status, 200);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (spent, span) = (cost(replica.pid()).0 - before, started.elapsed());
    println!(
        "{count} streams: {} MiB more; {:.2} % of a core while nothing happens",
        full.saturating_sub(empty),
        100.0 * spent.as_secs_f64() / span.as_secs_f64(),
    );
    assert_eq!(replica.figure(WOKEN).await, Some(0.0), "a beat wakes nobody");
    let started = Instant::now();
    register(replica.http, &ns, "b", "s1", json!({})).await;
    let concerned: Vec<_> = all.iter_mut().skip(1).step_by(services).collect();
    let told = concerned.len();
    for events in concerned {
        assert_eq!(next(events, "upsert").await.data["name"], "b");
    }
    println!("{told} of them told in {:?}, the registration included", started.elapsed());
    assert_eq!(replica.figure(WOKEN).await, Some(told as f64));
    drop(all);
    until_figure(&replica, &subscribers("stream"), 0.0).await;
}
