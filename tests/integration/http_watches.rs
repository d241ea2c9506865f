//! Long polls and streams, against real replicas over real connections.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use crate::support::events::{Event, EventStream};
use crate::support::http::{Answer, call, exchange};
use crate::support::{Namespace, Rollcall, eventually, namespace};

const BOUND: Duration = Duration::from_secs(60);

/// How long a test reads a stream on which no event may arrive. An event would arrive at once.
const QUIET_SPAN: Duration = Duration::from_millis(300);

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

fn service_path(ns: &Namespace, service: &str) -> String {
    format!("/v1/namespaces/{}/services/{service}", ns.name)
}

/// Sends a long poll with the ETag of a known set, and returns the answer, which comes within 30 s.
async fn long_poll(to: SocketAddr, path: &str, etag: &str) -> Answer {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nif-none-match: {etag}\r\n\r\n"
    );
    exchange(to, request.as_bytes()).await.unwrap()
}

async fn until_metric(replica: &Rollcall, series: &str, expected: f64) {
    let what = format!("{series} is {expected}");
    eventually(&what, BOUND, async || {
        (replica.metric(series).await == Some(expected)).then_some(())
    })
    .await;
}

fn subscribers(kind: &str) -> String {
    format!("rollcall_http_subscribers{{kind=\"{kind}\"}}")
}

const WOKEN: &str = "rollcall_http_subscribers_woken_total";
const DROPPED: &str = "rollcall_http_subscribers_dropped_total";

async fn next_event(events: &mut EventStream, kind: &str) -> Event {
    let event = events.next().await.expect("the stream has ended");
    assert_eq!(event.kind, kind, "{event:?}");
    event
}

fn names(snapshot: &Event) -> Vec<&str> {
    let instances = snapshot.data["instances"].as_array().unwrap();
    instances.iter().map(|instance| instance["name"].as_str().unwrap()).collect()
}

/// A response that is encoded once for a view has the same bytes as one that is encoded for each request, and is
/// encoded again after each change of the view.
#[tokio::test]
async fn unfiltered_discovery_equals_one_with_a_filter_that_selects_everything() {
    let ns = namespace("plain").await;
    let replica = Rollcall::start(&ns).await;
    let path = service_path(&ns, "orders");
    let (mut registered, mut tags) = (0, BTreeSet::new());
    // Sixty instances are more than is encoded in one piece.
    for count in [0, 1, 2, 60] {
        for at in registered..count {
            register(replica.http, &ns, &format!("a{}", 99 - at), "orders", json!({})).await;
        }
        registered = count;
        let plain = call(replica.http, "GET", &path, None).await;
        let filtered = format!("{path}?selector=%21missing");
        let filtered = call(replica.http, "GET", &filtered, None).await;
        assert_eq!(plain.json()["instances"].as_array().unwrap().len(), count);
        assert_eq!(plain.body, filtered.body);
        let etag = plain.header("etag");
        assert_eq!((etag, plain.header("cache-control")), (filtered.header("etag"), "no-cache"));
        assert!(tags.insert(etag.to_owned()), "{etag} belongs to another set too");
        assert_eq!(call(replica.http, "GET", &path, None).await.body, plain.body);
        let known = long_poll(replica.http, &path, etag).await;
        assert_eq!((known.status, known.header("etag")), (304, etag));
        let head = call(replica.http, "HEAD", &path, None).await;
        assert_eq!((head.header("etag"), head.body.len()), (etag, 0));
    }
}

#[tokio::test]
async fn long_poll_ends_with_a_change_at_another_replica() {
    let ns = namespace("wait").await;
    let (one, other) =
        (Rollcall::start(&ns).await, Rollcall::start_with(&ns, "rollcall-1", &[]).await);
    let path = service_path(&ns, "orders");
    // The service does not exist yet.
    let empty = call(other.http, "GET", &path, None).await;
    let etag = empty.header("etag").to_owned();
    let asked = format!("{path}?wait=12s");
    let change = async {
        until_metric(&other, &subscribers("poll"), 1.0).await;
        register(one.http, &ns, "a", "orders", json!({})).await;
    };
    let (answer, ()) = tokio::join!(long_poll(other.http, &asked, &etag), change);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["instances"][0]["name"], "a");
    assert_eq!(answer.header("rollcall-replica"), "rollcall-1");
    // A poll with an outdated ETag is answered at once, and so is one without an ETag.
    for etag in [etag.as_str(), "\"0\"", "*"] {
        let started = Instant::now();
        let status = long_poll(other.http, &asked, etag).await.status;
        assert_eq!(status, if etag == "*" { 304 } else { 200 });
        assert!(started.elapsed() < Duration::from_secs(12), "the long poll waited too long");
    }
    assert_eq!(call(other.http, "GET", &asked, None).await.status, 200);
    until_metric(&other, &subscribers("poll"), 0.0).await;
}

#[tokio::test]
async fn long_poll_without_a_change_ends_in_time_and_unrelated_changes_do_not_wake_it() {
    let ns = namespace("quiet").await;
    let replica = Rollcall::start(&ns).await;
    register(replica.http, &ns, "a", "orders", json!({"tags": ["x"]})).await;
    let path = format!("{}?tag=x", service_path(&ns, "orders"));
    let first = call(replica.http, "GET", &path, None).await;
    let etag = first.header("etag").to_owned();
    let beats = async {
        until_metric(&replica, &subscribers("poll"), 1.0).await;
        let beat = format!("/v1/namespaces/{}/instances/a/heartbeat", ns.name);
        for _ in 0..20 {
            assert_eq!(call(replica.http, "PUT", &beat, None).await.status, 200);
        }
        register(replica.http, &ns, "b", "ledger", json!({})).await;
        assert_eq!(replica.metric(WOKEN).await, Some(0.0));
        // The instance belongs to the service, but not to the selection.
        register(replica.http, &ns, "c", "orders", json!({})).await;
        until_metric(&replica, WOKEN, 1.0).await;
    };
    let asked = format!("{path}&wait=5s");
    let started = Instant::now();
    let (answer, ()) = tokio::join!(long_poll(replica.http, &asked, &etag), beats);
    assert!(started.elapsed() >= Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!((answer.status, answer.body.len()), (304, 0));
    assert_eq!(answer.header("etag"), etag);
    for header in ["rollcall-replica", "rollcall-index", "rollcall-age", "rollcall-stale"] {
        assert_ne!(answer.header(header), "", "{header}");
    }
}

#[tokio::test]
async fn stream_of_a_service_reports_its_changes() {
    let ns = namespace("stream").await;
    let (one, other) =
        (Rollcall::start(&ns).await, Rollcall::start_with(&ns, "rollcall-1", &[]).await);
    register(one.http, &ns, "a", "orders", json!({"tags": ["x"]})).await;
    let path = service_path(&ns, "orders");
    eventually("the other replica knows it", BOUND, async || {
        let known = call(other.http, "GET", &path, None).await.json();
        known["instances"].as_array().unwrap().first().map(|_| ())
    })
    .await;
    let mut all = EventStream::open(other.http, &format!("{path}/watch"), "").await;
    let mut tagged = EventStream::open(other.http, &format!("{path}/watch?tag=x"), "").await;
    assert!(all.head.starts_with("http/1.1 200"), "{}", all.head);
    for header in ["content-type: text/event-stream", "rollcall-replica: rollcall-1"] {
        assert!(all.head.contains(header), "{}", all.head);
    }
    let snapshot = next_event(&mut all, "snapshot").await;
    assert_eq!(names(&snapshot), ["a"]);
    let retry = all.non_events[0].strip_prefix("retry: ").unwrap().parse::<u64>().unwrap();
    assert!((1_000..5_000).contains(&retry) && all.non_events.len() == 1, "{:?}", all.non_events);
    let set = call(other.http, "GET", &path, None).await.json();
    assert_eq!(snapshot.data, set, "a snapshot equals discovery");
    assert_eq!(snapshot.id, set["revision"].as_str().unwrap());
    assert_eq!(names(&next_event(&mut tagged, "snapshot").await), ["a"]);

    register(one.http, &ns, "z", "ledger", json!({})).await;
    register(one.http, &ns, "b", "orders", json!({})).await;
    let upsert = next_event(&mut all, "upsert").await;
    let set = call(other.http, "GET", &path, None).await.json();
    assert_eq!(upsert.id, set["revision"].as_str().unwrap());
    let mut expected = set["instances"][1].clone();
    expected["revision"] = set["revision"].clone();
    assert_eq!(upsert.data, expected, "the instance as in discovery, with the revision");

    // The instance loses the tag: it is removed from the filtered stream and changed in the other.
    register(one.http, &ns, "a", "orders", json!({"tags": ["y"]})).await;
    assert_eq!(next_event(&mut all, "upsert").await.data["tags"], json!(["y"]));
    let gone = next_event(&mut tagged, "remove").await;
    let expected =
        json!({"namespace": ns.name, "service": "orders", "name": "a", "revision": gone.id});
    assert_eq!(gone.data, expected);

    deregister(one.http, &ns, "a").await;
    deregister(one.http, &ns, "b").await;
    assert_eq!(next_event(&mut all, "remove").await.data["name"], "a");
    assert_eq!(next_event(&mut all, "remove").await.data["name"], "b");
    assert!(tagged.is_quiet(QUIET_SPAN).await);
    drop((all, tagged));
    until_metric(&other, &subscribers("stream"), 0.0).await;
}

#[tokio::test]
async fn stream_of_several_services_resumes_where_it_was() {
    let ns = namespace("resume").await;
    let replica = Rollcall::start(&ns).await;
    let http = replica.http;
    register(http, &ns, "a", "orders", json!({})).await;
    let path = format!("/v1/watch?service={0}/none&service={0}/orders", ns.name);
    let mut events = EventStream::open(http, &path, "").await;
    let first = next_event(&mut events, "snapshot").await;
    assert_eq!((&first.data["service"], first.id.as_str()), (&json!("none"), ""));
    assert_eq!(names(&first), [""; 0], "a missing service is an empty one");
    let second = next_event(&mut events, "snapshot").await;
    let revisions = [&first, &second].map(|event| event.data["revision"].as_str().unwrap());
    assert_eq!(second.id, revisions.join(","), "the revisions of both services");
    drop(events);

    let resume = |id: &str| format!("last-event-id: {id}\r\n");
    let mut events = EventStream::open(http, &path, &resume(&second.id)).await;
    assert!(events.is_quiet(QUIET_SPAN).await, "nothing has changed");
    register(http, &ns, "b", "orders", json!({})).await;
    let upsert = next_event(&mut events, "upsert").await;
    let newest = upsert.data["revision"].as_str().unwrap();
    assert_eq!(upsert.id, [revisions[0], newest].join(","));
    drop(events);

    let mut events = EventStream::open(http, &path, &resume(&second.id)).await;
    let snapshot = next_event(&mut events, "snapshot").await;
    assert_eq!(
        (names(&snapshot), &snapshot.id),
        (vec!["a", "b"], &upsert.id),
        "only the changed service"
    );
    assert!(events.is_quiet(QUIET_SPAN).await);
    for invalid in ["nonsense", revisions[0], "a,b,c", ""] {
        let mut events = EventStream::open(http, &path, &resume(invalid)).await;
        for _ in 0..2 {
            next_event(&mut events, "snapshot").await;
        }
    }
}

#[tokio::test]
async fn shutdown_ends_streams_and_answers_long_polls() {
    let ns = namespace("going").await;
    let replica = Rollcall::start(&ns).await;
    register(replica.http, &ns, "a", "orders", json!({})).await;
    let path = service_path(&ns, "orders");
    let etag = call(replica.http, "GET", &path, None).await.header("etag").to_owned();
    let mut events = EventStream::open(replica.http, &format!("{path}/watch"), "").await;
    next_event(&mut events, "snapshot").await;
    let asked = format!("{path}?wait=5m");
    let stop = async {
        until_metric(&replica, &subscribers("poll"), 1.0).await;
        replica.terminate().await
    };
    let (answer, end, rest) =
        tokio::join!(long_poll(replica.http, &asked, &etag), stop, events.next());
    assert_eq!((answer.status, answer.header("connection")), (304, "close"));
    assert_eq!(rest, None, "the stream ends with its last chunk");
    assert_eq!(end, "exit status: 0");
    assert!(!replica.whole_log().contains("did not end within the drain"), "{}", replica.log());
}

#[tokio::test]
async fn stream_that_is_not_read_is_dropped_and_others_continue() {
    let ns = namespace("stalled").await;
    let replica = Rollcall::start(&ns).await;
    // More than the socket buffers of both sides hold.
    let attributes: serde_json::Map<_, _> =
        (0..60).map(|at| (format!("a{at}"), json!("x".repeat(1_000)))).collect();
    let large = json!({"attributes": attributes});
    let register_one = async |at: usize| {
        let name = format!("a{at:03}");
        register(replica.http, &ns, &name, "orders", large.clone()).await;
    };
    stream::iter((0..200).map(register_one)).buffer_unordered(16).collect::<Vec<()>>().await;
    let path = format!("{}/watch", service_path(&ns, "orders"));
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stalled = socket.connect(replica.http).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    stalled.write_all(request.as_bytes()).await.unwrap();
    let mut other = EventStream::open(replica.http, &path, "").await;
    assert_eq!(names(&next_event(&mut other, "snapshot").await).len(), 200);
    until_metric(&replica, &subscribers("stream"), 2.0).await;
    for weight in 0..5 {
        register(replica.http, &ns, "small", "orders", json!({"weight": weight})).await;
        assert_eq!(next_event(&mut other, "upsert").await.data["weight"], weight);
    }
    until_metric(&replica, DROPPED, 1.0).await;
    assert_eq!(replica.metric(&subscribers("stream")).await, Some(1.0));
    // It still receives what was sent before; then the connection ends without a last chunk.
    let mut rest = Vec::new();
    let _ = stalled.read_to_end(&mut rest).await;
    assert!(!rest.ends_with(b"0\r\n\r\n") && rest.len() < 10_000_000, "{} bytes", rest.len());
    register(replica.http, &ns, "small", "orders", json!({"weight": 9})).await;
    assert_eq!(next_event(&mut other, "upsert").await.data["weight"], 9);
}

/// The number of streams that the limit of open files allows, for a client and a replica on one machine.
fn max_streams(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).maximum;
    // The replica is a child process and inherits the limit.
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
    let limit = usize::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let streams = limit.saturating_sub(1_000).min(wanted);
    if streams < wanted {
        eprintln!("only {limit} files may be open: {streams} streams instead of {wanted}");
    }
    streams
}

/// The CPU time that a process has used, and its memory in MiB.
fn usage(pid: u32) -> (Duration, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = rss.split_whitespace().next().unwrap().parse().unwrap();
    (Duration::from_millis(ticks * 10), kib / 1024)
}

#[tokio::test]
async fn thousands_of_idle_streams_stay_open_and_only_affected_ones_are_woken() {
    let count = max_streams(5_000);
    let ns = namespace("many-streams").await;
    let replica = Rollcall::start(&ns).await;
    register(replica.http, &ns, "a", "s0", json!({})).await;
    let (_, empty) = usage(replica.pid());
    let services = 50;
    let open = |at: usize| {
        let path = format!("{}/watch", service_path(&ns, &format!("s{}", at % services)));
        async move {
            let mut events = EventStream::open(replica.http, &path, "").await;
            next_event(&mut events, "snapshot").await;
            events
        }
    };
    let mut all: Vec<EventStream> =
        stream::iter((0..count).map(open)).buffered(32).collect::<Vec<_>>().await;
    until_metric(&replica, &subscribers("stream"), count as f64).await;
    let (before, full) = usage(replica.pid());
    let started = Instant::now();
    let beat = format!("/v1/namespaces/{}/instances/a/heartbeat", ns.name);
    while started.elapsed() < Duration::from_secs(16) {
        assert_eq!(call(replica.http, "PUT", &beat, None).await.status, 200);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (spent, span) = (usage(replica.pid()).0 - before, started.elapsed());
    println!(
        "{count} streams: {} MiB more; {:.2} % of a core while idle",
        full.saturating_sub(empty),
        100.0 * spent.as_secs_f64() / span.as_secs_f64(),
    );
    assert_eq!(replica.metric(WOKEN).await, Some(0.0), "a heartbeat wakes no stream");
    let started = Instant::now();
    register(replica.http, &ns, "b", "s1", json!({})).await;
    let affected: Vec<_> = all.iter_mut().skip(1).step_by(services).collect();
    let woken = affected.len();
    for events in affected {
        assert_eq!(next_event(events, "upsert").await.data["name"], "b");
    }
    println!("{woken} streams notified in {:?}, including the registration", started.elapsed());
    assert_eq!(replica.metric(WOKEN).await, Some(woken as f64));
    drop(all);
    until_metric(&replica, &subscribers("stream"), 0.0).await;
}
