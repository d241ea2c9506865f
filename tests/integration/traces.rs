//! Spans of requests, as a collector receives them: OTLP over HTTP, decoded here by hand. Needs the feature `otel`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::support::http::{call, exchange};
use crate::support::{Namespace, Rollcall, eventually, namespace};

const BOUND: Duration = Duration::from_secs(60);

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// The value of a field of a protobuf message.
#[derive(Clone, Debug)]
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

/// An exported span.
#[derive(Debug)]
struct Span {
    trace: String,
    parent: String,
    state: String,
    name: String,
    kind: u64,
    attributes: Vec<(String, String)>,
    /// Attributes of the process.
    resource: Vec<(String, String)>,
}

/// A collector that keeps the bodies that a replica exports.
struct Collector {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let kept = bodies.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                let take = service_fn(move |request: Request<Incoming>| {
                    let kept = kept.clone();
                    async move {
                        assert_eq!(request.uri().path(), "/v1/traces");
                        assert_eq!(request.headers()["content-type"], "application/x-protobuf");
                        let body = request.into_body().collect().await?.to_bytes();
                        kept.lock().push(body);
                        hyper::Result::Ok(Response::new(Full::new(Bytes::new())))
                    }
                });
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), take);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        Self { address, bodies }
    }

    /// The spans received so far.
    fn spans(&self) -> Vec<Span> {
        let bodies = self.bodies.lock().clone();
        let all = bodies.iter().flat_map(|body| messages(body, 1));
        let spans_of = |process: Vec<u8>| {
            let resource: Vec<_> = messages(&process, 1).collect();
            let resource = resource.iter().flat_map(|it| attributes(it, 1)).collect::<Vec<_>>();
            let scopes: Vec<_> = messages(&process, 2).collect();
            let spans: Vec<_> = scopes.iter().flat_map(|scope| messages(scope, 2)).collect();
            spans.into_iter().map(move |span| parse_span(&span, resource.clone()))
        };
        all.flat_map(spans_of).collect()
    }

    async fn span(&self, name: &str) -> Span {
        let found = async || self.spans().into_iter().find(|span| span.name == name);
        eventually(&format!("the span {name} is exported"), BOUND, found).await
    }
}

impl Span {
    fn get(&self, key: &str) -> &str {
        let found = self.attributes.iter().chain(&self.resource).find(|(name, _)| name == key);
        found.map_or("", |(_, value)| value)
    }
}

/// Parses a span (opentelemetry/proto/trace/v1/trace.proto).
fn parse_span(span: &[u8], resource: Vec<(String, String)>) -> Span {
    let kind = fields(span).into_iter().find_map(|(at, value)| match value {
        Value::Number(kind) if at == 6 => Some(kind),
        _ => None,
    });
    Span {
        trace: hex(&messages(span, 1).next().unwrap_or_default()),
        parent: hex(&messages(span, 4).next().unwrap_or_default()),
        state: text(span, 3),
        name: text(span, 5),
        kind: kind.unwrap_or_default(),
        attributes: attributes(span, 9),
        resource,
    }
}

/// Parses keys and values (common.proto); numbers become text.
fn attributes(message: &[u8], at: u64) -> Vec<(String, String)> {
    let key_value = |pair: Vec<u8>| {
        let value = messages(&pair, 2).next().unwrap();
        let value = match fields(&value).pop() {
            Some((_, Value::Number(number))) => number.to_string(),
            _ => text(&value, 1),
        };
        (text(&pair, 1), value)
    };
    messages(message, at).map(key_value).collect()
}

fn text(message: &[u8], at: u64) -> String {
    String::from_utf8(messages(message, at).next().unwrap_or_default()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The submessages, strings or bytes in a field.
fn messages(message: &[u8], at: u64) -> impl Iterator<Item = Vec<u8>> {
    fields(message).into_iter().filter_map(move |(number, value)| match value {
        Value::Bytes(bytes) if number == at => Some(bytes),
        _ => None,
    })
}

/// The fields of a message: <https://protobuf.dev/programming-guides/encoding/>.
fn fields(mut message: &[u8]) -> Vec<(u64, Value)> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message);
        let mut take = |length: usize| {
            let (taken, rest) = message.split_at(length);
            message = rest;
            taken.to_vec()
        };
        let value = match tag & 7 {
            1 => Value::Bytes(take(8)),
            5 => Value::Bytes(take(4)),
            2 => {
                let length = varint(&mut message);
                let (taken, rest) = message.split_at(usize::try_from(length).unwrap());
                message = rest;
                Value::Bytes(taken.to_vec())
            }
            _ => Value::Number(varint(&mut message)),
        };
        fields.push((tag >> 3, value));
    }
    fields
}

fn varint(message: &mut &[u8]) -> u64 {
    let mut number = 0;
    for at in 0.. {
        let byte = message[0];
        *message = &message[1..];
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            break;
        }
    }
    number
}

async fn start(ns: &Namespace, collector: &Collector) -> Rollcall {
    let endpoint = format!("http://{}", collector.address);
    let variables =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "200")];
    let replica = Rollcall::launch_with_env(ns, "rollcall-0", &[], &variables).await;
    replica.until_ready().await;
    replica
}

/// Sends a request that belongs to a trace.
async fn ask(replica: &Rollcall, line: &str, flags: &str) -> u16 {
    let request = format!(
        "{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nuser-agent: a test\r\ntracestate: vendor=x\r\n\
         traceparent: 00-{TRACE}-{PARENT}-{flags}\r\ncontent-length: 0\r\n\r\n"
    );
    exchange(replica.http, request.as_bytes()).await.unwrap().status
}

#[tokio::test]
async fn request_is_a_span_of_the_trace_in_its_headers() {
    let ns = namespace("spans").await;
    let collector = Collector::start().await;
    let replica = start(&ns, &collector).await;
    // One call is answered at once, and one after a call to the API server.
    let beat = format!("PUT /v1/namespaces/{}/instances/missing/heartbeat", ns.name);
    for (line, name, status) in [
        ("GET /v1/services", "GET /v1/services", "200"),
        (&*beat, "PUT /v1/namespaces/{namespace}/instances/{name}/heartbeat", "404"),
    ] {
        assert_eq!(ask(&replica, line, "01").await.to_string(), status);
        let span = collector.span(name).await;
        assert_eq!((&*span.trace, &*span.parent, &*span.state), (TRACE, PARENT, "vendor=x"));
        let (method, route) = name.split_once(' ').unwrap();
        for (key, value) in [
            ("http.request.method", method),
            ("http.route", route),
            ("http.response.status_code", status),
            ("url.path", line.split_once(' ').unwrap().1),
            ("url.scheme", "http"),
            ("client.address", "127.0.0.1"),
            ("network.protocol.version", "1.1"),
            ("user_agent.original", "a test"),
            ("service.name", "rollcall"),
            ("service.instance.id", "rollcall-0"),
            ("service.version", env!("CARGO_PKG_VERSION")),
        ] {
            assert_eq!(span.get(key), value, "{key} of {span:?}");
        }
        assert_eq!(span.kind, 2, "the kind of a server span");
    }
    // A request of an unsampled trace is not exported, and a request without a trace starts one.
    assert_eq!(ask(&replica, "DELETE /v1/cluster", "00").await, 405);
    assert_eq!(call(replica.http, "POST", "/v1/cluster", None).await.status, 405);
    let own = collector.span("POST /v1/cluster").await;
    assert!(own.parent.is_empty() && own.trace.len() == 32 && own.trace != TRACE, "{own:?}");
    assert!(collector.spans().iter().all(|span| span.name != "DELETE /v1/cluster"));
}

async fn span_count(replica: &Rollcall, result: &str) -> u64 {
    let text = call(replica.admin, "GET", "/metrics", None).await.body;
    let text = String::from_utf8(text).unwrap();
    let series = format!("rollcall_trace_spans_total{{result=\"{result}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&*series)).map_or(0, |it| it.parse().unwrap())
}

#[tokio::test]
async fn last_spans_are_exported_at_shutdown_and_an_unreachable_collector_delays_no_request() {
    let ns = namespace("last-spans").await;
    let collector = Collector::start().await;
    let replica = start(&ns, &collector).await;
    assert_eq!(call(replica.http, "GET", "/v1/snapshot", None).await.status, 200);
    assert_eq!(replica.terminate().await, "exit status: 0");
    assert!(collector.spans().iter().any(|span| span.name == "GET /v1/snapshot"));

    // This collector accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let collector = Collector { address, bodies: Arc::default() };
    let replica = start(&ns, &collector).await;
    for _ in 0..3_000 {
        assert_eq!(call(replica.http, "GET", "/v1/cluster", None).await.status, 200);
    }
    assert_eq!(
        (span_count(&replica, "begun").await, span_count(&replica, "exported").await),
        (3_000, 0)
    );
    eventually("the failed export is logged", BOUND, async || {
        replica.whole_log().contains("spans cannot be exported").then_some(())
    })
    .await;
    assert!(span_count(&replica, "failed").await > 0);
    let started = std::time::Instant::now();
    assert_eq!(replica.terminate().await, "exit status: 0");
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[tokio::test]
async fn nothing_is_exported_without_an_endpoint_and_an_unusable_endpoint_is_named() {
    let ns = namespace("no-spans").await;
    let replica = Rollcall::start(&ns).await;
    let text = call(replica.admin, "GET", "/metrics", None).await.body;
    assert!(!String::from_utf8(text).unwrap().contains("rollcall_trace_spans"));
    for (name, value, hint) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318", "http://collector:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4318", "http://collector:4318"),
    ] {
        let replica = Rollcall::launch_with_env(&ns, "rollcall-1", &[], &[(name, value)]).await;
        assert_eq!(replica.until_ended().await, "exit status: 1");
        let log = replica.whole_log();
        assert!(log.contains(name) && log.contains(hint), "{log}");
    }
}
