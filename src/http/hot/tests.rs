//! The hot path changes no response: two servers with equal registries and the same clock, one of them without the hot
//! path, answer the same requests with the same bytes, and have the same state afterwards.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use proptest::{collection::vec, option, prelude::*, sample::select};
use rollcall_model::{instance::Health, lease::LeaseMode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
    runtime::Builder,
    sync::Semaphore,
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::HotPath;
use crate::config::Rates;
use crate::http::{
    connection::{self, ConnectionContext, Ticker},
    route::Route,
    table::OPERATIONS,
    testing::{self, Options, PEER, World},
};

/// Requests that are sent together over one connection, and the changes before them.
#[derive(Clone, Debug)]
struct Step {
    /// The time to advance before the requests, in milliseconds. All steps of a case together take less time than the
    /// shortest cache lifetime.
    after: u64,
    event: Event,
    requests: Vec<TextRequest>,
}

#[derive(Clone, Debug)]
enum Event {
    None,
    Put { name: &'static str, weight: u16 },
    Delete(&'static str),
}

/// The number of responses of the hot path, by route and status.
static ANSWERED: Mutex<BTreeMap<(Route, u16), u32>> = Mutex::new(BTreeMap::new());

/// Counts a response of the hot path.
pub(super) fn count(route: Route, status: hyper::StatusCode) {
    *ANSWERED.lock().entry((route, status.as_u16())).or_default() += 1;
}

#[derive(Clone, Debug)]
struct TextRequest {
    method: &'static str,
    target: String,
    headers: Vec<String>,
    body: Option<&'static str>,
}

const NAMES: [&str; 8] =
    ["orders-1", "orders-2", "permanent", "critical", "unknown", "Orders", "orders%2D1", "a/b"];
const SERVICES: [&str; 6] = ["orders", "ledger", "empty", "Orders", "%6frders", "orders/"];
const UIDS: [&str; 8] =
    ["", "?", "?uid=uid-orders-1", "?uid=other", "?uid=", "?x=1", "?uid=a&uid=a", "?uid=%FF"];
const QUERIES: [&str; 5] = ["", "?", "?limit=1", "?zone=", "?health=any"];
/// `{tag}` is replaced by the current entity tag of the service `orders`.
const HEADERS: [&str; 18] = [
    "X-Request-Id: checkout-4711",
    "If-None-Match: {tag}",
    "If-None-Match: \"a\", W/{tag}",
    "If-None-Match: *",
    "If-None-Match: \"0000000000000000\"",
    "If-None-Match: W/\"0000000000000000\", \"known\"",
    "If-Match: *",
    "If-Match: \"101\"",
    "Rollcall-Min-Index: 0",
    "Rollcall-Min-Index: 100",
    "Rollcall-Min-Index: x",
    "Accept: text/html",
    "Accept-Encoding: gzip",
    "Authorization: Bearer strong",
    "Authorization: Bearer weak",
    "Authorization: Bearer bad-1",
    "Authorization: Basic abc",
    "Expect: 100-continue",
];

fn request() -> impl Strategy<Value = TextRequest> {
    let heartbeat = (select(&NAMES), select(&UIDS)).prop_map(|(name, query)| {
        ("PUT", format!("/v1/namespaces/shop/instances/{name}/heartbeat{query}"))
    });
    let discover = (select(&SERVICES), select(&QUERIES)).prop_map(|(service, query)| {
        ("GET", format!("/v1/namespaces/shop/services/{service}{query}"))
    });
    let plain = select(vec![
        ("PUT", "/v1/namespaces/shop/instances/orders-1/heartbeat".to_owned()),
        ("GET", "/v1/namespaces/shop/services/orders".to_owned()),
        ("GET", "/v1/namespaces//services/orders".to_owned()),
        ("GET", "/v1/services".to_owned()),
    ]);
    let token = option::weighted(0.7, Just("Authorization: Bearer strong"));
    let more = option::weighted(0.4, vec(select(&HEADERS), 1..3));
    let method =
        option::weighted(0.15, select(vec!["GET", "HEAD", "HEAD", "PUT", "POST", "OPTIONS"]));
    let body = option::weighted(
        0.15,
        select(vec!["", "{}", "{\"health\": \"Passing\"}", "{\"x\": 1}", "["]),
    );
    (prop_oneof![1 => heartbeat, 1 => discover, 2 => plain], token, more, method, body).prop_map(
        |((usual, target), token, more, method, body)| {
            let more = more.into_iter().flatten();
            let headers = token.into_iter().chain(more).map(str::to_owned).collect();
            TextRequest { method: method.unwrap_or(usual), target, headers, body }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let put = (select(vec!["orders-1", "orders-2"]), 0..3u16);
    let event = prop_oneof![
        3 => Just(Event::None),
        1 => put.prop_map(|(name, weight)| Event::Put { name, weight }),
        1 => Just(Event::Delete("orders-2")),
    ];
    (0..600u64, event, vec(request(), 1..5)).prop_map(|(after, event, requests)| Step {
        after,
        event,
        requests,
    })
}

impl TextRequest {
    fn bytes(&self, tag: &str, is_last: bool) -> Vec<u8> {
        let Self { method, target, headers, body } = self;
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n");
        headers.iter().for_each(|header| text.extend([&*header.replace("{tag}", tag), "\r\n"]));
        if is_last {
            text.push_str("Connection: close\r\n");
        }
        if let Some(body) = body {
            let length = body.len();
            text.push_str(&format!(
                "Content-Type: application/json\r\nContent-Length: {length}\r\n"
            ));
        }
        text.extend(["\r\n", body.unwrap_or_default()]);
        text.into_bytes()
    }
}

/// A server with its registry, and the context of its connections.
struct Server {
    world: World,
    context: ConnectionContext,
}

impl Server {
    fn new(options: Options, is_hot: bool) -> Self {
        let world = World::new(options);
        world.put("orders-1", |_| {});
        world.put("orders-2", |_| {});
        world.put("permanent", |facts| facts.lease.mode = LeaseMode::Permanent);
        world.put("critical", |facts| {
            facts.health = Health::Critical;
            facts.service = "ledger".into();
        });
        let context = ConnectionContext {
            hot: HotPath::new(world.app.clone(), &OPERATIONS, is_hot),
            subscribers: world.app.subscribers.clone(),
            ticker: Arc::new(Ticker::default()),
            streams: Arc::new(Semaphore::new(100)),
            http: Arc::new(connection::protocols(TaskTracker::new())),
        };
        Self { world, context }
    }

    /// All responses to requests that are sent together.
    async fn exchange(&self, sent: &[u8]) -> Vec<u8> {
        // The same jitter on both servers.
        fastrand::seed(7);
        let (mut client, server) = duplex(1024 * 1024);
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let serving = connection::serve(self.context.clone(), PEER, server, permit);
        let asking = async {
            client.write_all(sent).await.unwrap();
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.unwrap();
            received
        };
        let both = async { tokio::join!(serving, asking).1 };
        timeout(Duration::from_secs(20), both).await.expect("Connection: close ends it")
    }

    fn state(&self) -> Vec<String> {
        let directory = self.world.app.intake.directory();
        let slots = ["orders-1", "orders-2", "permanent", "critical"].map(|name| {
            let slot = directory.slot("shop", name);
            format!("{name}: {:?}", slot.map(|slot| directory.deadline(&slot)))
        });
        let index = format!("newest {}", directory.newest());
        slots.into_iter().chain([index]).chain(self.world.counts()).collect()
    }
}

/// The responses with their header fields sorted, and without `Date`, the only field in which two servers can differ.
fn normalised(received: &[u8]) -> String {
    let text = String::from_utf8_lossy(received);
    let sections = text.split("\r\n\r\n").map(|section| {
        let mut lines: Vec<_> =
            section.split("\r\n").filter(|line| !line.starts_with("date: ")).collect();
        // The first line may begin with the body of the previous response.
        lines.get_mut(1..).unwrap_or_default().sort_unstable();
        lines.join("\n")
    });
    sections.collect::<Vec<_>>().join("\n\n")
}

async fn compare(options: Options, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (hot, routed) = (Server::new(options, true), Server::new(options, false));
    for Step { after, event, requests } in steps {
        testing::advance(after);
        for server in [&hot, &routed] {
            match event {
                Event::None => {}
                Event::Put { name, weight } => {
                    server.world.put(name, |facts| facts.weight = weight);
                }
                Event::Delete(name) => server.world.delete(name),
            }
        }
        let last = requests.len() - 1;
        let view = hot.world.app.views.service("shop", "orders").unwrap();
        let tag = format!("\"{}\"", view.discoverable_revision);
        let sent: Vec<_> =
            requests.iter().enumerate().map(|(at, it)| it.bytes(&tag, at == last)).collect();
        let sent = sent.concat();
        let (one, other) = (hot.exchange(&sent).await, routed.exchange(&sent).await);
        let shown = String::from_utf8_lossy(&sent).into_owned();
        prop_assert_eq!(normalised(&one), normalised(&other), "to {}", shown);
        prop_assert_eq!(hot.state(), routed.state(), "after {}", shown);
    }
    Ok(())
}

#[test]
fn the_hot_path_changes_no_response_and_no_state() {
    let options = (any::<bool>(), any::<bool>(), select(vec![0, 1, 1, 1_000]), 0..10).prop_map(
        |(tokens, read_auth, caller, unsynced)| Options {
            tokens,
            read_auth,
            rates: Rates { caller, namespace: 0 },
            synced: unsynced > 0,
        },
    );
    let cases = (options, vec(step(), 1..8));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(1_024));
    let result = runner.run(&cases, |(options, steps)| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(compare(options, steps))
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    // The comparison proves nothing if the hot path answers hardly any of the requests.
    println!("answered by the hot path: {:?}", ANSWERED.lock());
    for (route, status, least) in [
        (Route::Heartbeat, 200, 100),
        (Route::Heartbeat, 429, 50),
        (Route::Service, 200, 100),
        (Route::Service, 304, 10),
        (Route::Service, 429, 50),
    ] {
        let answered = *ANSWERED.lock().get(&(route, status)).unwrap_or(&0);
        assert!(answered >= least, "{route:?} {status}: {answered}");
    }
}

#[test]
fn plain_requests_do_not_reach_the_router() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::new(Options::default(), true);
        let ask = |method, path: &str| {
            let request = hyper::Request::builder().method(method).uri(path);
            let request = request.body(axum::body::Body::empty()).unwrap();
            matches!(server.context.hot.answer(&request), super::HotResult::Response(_))
        };
        assert!(ask("PUT", "/v1/namespaces/shop/instances/orders-1/heartbeat"));
        assert!(ask("PUT", "/v1/namespaces/shop/instances/orders-1/heartbeat?uid=uid-orders-1"));
        assert!(ask("GET", "/v1/namespaces/shop/services/orders"));
        assert!(!ask("GET", "/v1/namespaces/shop/services/unknown"));
        assert!(!ask("PUT", "/v1/namespaces/shop/instances/unknown/heartbeat"));
    });
}
