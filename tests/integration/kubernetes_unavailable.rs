//! Answers to each call while the Kubernetes API is unavailable, slow, or refuses calls: the table in docs/api.md.
//!
//! Each scenario has its own replica that requires tokens, and a proxy between it and the real API server.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _};
use serde_json::{Value, json};

use crate::support::events::EventStream;
use crate::support::http::{Answer, call, call_as};
use crate::support::http_proxy::{Fault, HttpProxy};
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Namespace, Rollcall, eventually, namespace, rbac};

const BOUND: Duration = Duration::from_secs(60);

/// A call to the API server has 5 s; the rest is for a busy machine.
const WITHIN: Duration = Duration::from_secs(8);

/// The proxy between the replica and the API server, with its fault.
enum FaultyProxy {
    Tcp(Proxy, Mode),
    Http(HttpProxy, Fault),
}

/// A replica with three instances: `known`, `other` (the one to change), and `expired`.
struct Scenario {
    ns: Namespace,
    rollcall: Rollcall,
    proxy: FaultyProxy,
    token: String,
    /// A token that the replica has never received.
    unknown_token: String,
}

/// An expected answer: method, path below the namespace (or from the root), body, and the accepted statuses.
type Expectation = (&'static str, &'static str, Value, &'static [u16]);

impl FaultyProxy {
    fn begin(&self) {
        match self {
            Self::Tcp(proxy, mode) => proxy.set(*mode),
            Self::Http(proxy, fault) => proxy.set(*fault),
        }
    }

    fn end(&self) {
        match self {
            Self::Tcp(proxy, _) => proxy.set(Mode::Pass),
            Self::Http(proxy, _) => proxy.set(Fault::None),
        }
    }
}

fn registration(service: &str, seconds: u64) -> Value {
    let lease = json!({"durationSeconds": seconds, "onExpiry": "Retain"});
    json!({"service": service, "addresses": ["10.0.0.7"], "lease": lease})
}

impl Scenario {
    async fn with_tcp_fault(prefix: &str, mode: Mode) -> Self {
        let mut ns = namespace(prefix).await;
        let proxy = Proxy::install(&mut ns).await;
        Self::start(ns, FaultyProxy::Tcp(proxy, mode)).await
    }

    async fn with_http_fault(prefix: &str, fault: Fault) -> Self {
        let mut ns = namespace(prefix).await;
        let (proxy, kubeconfig) = HttpProxy::in_front_of(&ns.rollcall_kubeconfig, &ns.name).await;
        ns.rollcall_kubeconfig = kubeconfig;
        Self::start(ns, FaultyProxy::Http(proxy, fault)).await
    }

    async fn start(ns: Namespace, proxy: FaultyProxy) -> Self {
        let rollcall = Rollcall::start_with(&ns, "rollcall-0", &["--auth", "token"]).await;
        let token = rbac::token(&ns, "operator", "rollcall").await;
        let unknown_token = rbac::token(&ns, "operator", "rollcall").await;
        let right = ("create", None, None);
        rbac::grant(&ns, ("ClusterRole", "rollcall-operator"), "operator", right).await;
        let right = ("update", Some("heartbeat"), None);
        rbac::grant(&ns, ("ClusterRole", "rollcall-workload"), "operator", right).await;
        let scenario = Self { ns, rollcall, proxy, token, unknown_token };
        for (name, seconds) in [("known", 600), ("other", 600), ("expired", 2)] {
            let answer = scenario
                .ask(("PUT", &format!("instances/{name}"), registration(name, seconds)))
                .await;
            assert_eq!(answer.status, 201, "{}", answer.json());
        }
        eventually("the instance has expired", BOUND, async || {
            let instance = scenario.ask(("GET", "instances/expired", Value::Null)).await.json();
            (instance["phase"] == "Expired").then_some(())
        })
        .await;
        // These calls cache every right, so the tests see only whether the calls themselves succeed.
        for (method, path, body) in [
            ("PUT", "instances/known/heartbeat", Value::Null),
            ("PUT", "instances/known/state", json!({"state": "Up"})),
            ("DELETE", "instances/missing", Value::Null),
            (
                "POST",
                "/v1/heartbeats",
                json!({"instances": [{"namespace": scenario.ns.name, "name": "known"}]}),
            ),
        ] {
            let status = scenario.ask((method, path, body)).await.status;
            assert!(matches!(status, 200 | 404), "{method} {path}: {status}");
        }
        scenario
    }

    fn path(&self, path: &str) -> String {
        match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/v1/namespaces/{}/{path}", self.ns.name),
        }
    }

    async fn ask(&self, (method, path, body): (&str, &str, Value)) -> Answer {
        let body = Some(body).filter(|body| !body.is_null());
        call_as(&self.token, self.rollcall.http, (method, &self.path(path)), body).await
    }

    /// Sends every request, `at_a_time` in parallel, and reports all wrong answers together.
    async fn check(&self, at_a_time: usize, rows: Vec<Expectation>) {
        let checked = stream::iter(rows).map(|row| self.check_one(row)).buffered(at_a_time);
        let wrong = checked.collect::<Vec<_>>().await.concat();
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    }

    async fn check_one(&self, (method, path, body, statuses): Expectation) -> Vec<String> {
        let started = Instant::now();
        let answer = self.ask((method, path, body)).await;
        let (status, shown, took) = (answer.status, answer.json(), started.elapsed());
        eprintln!("| {} | {method} {path} | {status} | {took:.2?} |", self.ns.name);
        let mut wrong = Vec::new();
        if !statuses.contains(&status) {
            wrong.push(format!("expected {statuses:?}"));
        }
        if took > WITHIN {
            wrong.push(format!("the answer took {took:?}"));
        }
        wrong.extend(missing_advice(&answer).map(str::to_owned));
        wrong.into_iter().map(|why| format!("{method} {path}: {status}: {why}: {shown}")).collect()
    }

    /// Checks the batches, in which each item has its own result.
    async fn check_batches(&self) {
        let ns = &self.ns.name;
        let item = |name: &str| json!({"namespace": ns, "name": name});
        let beats = json!({"instances": [item("known"), item("missing"), item("expired")]});
        let outcome = self.ask(("POST", "/v1/heartbeats", beats)).await.json();
        let taken = outcome["renewed"].as_u64().unwrap() + outcome["recorded"].as_u64().unwrap();
        assert_eq!((taken, &outcome["unknown"]), (2, &json!([])), "{outcome}");
        assert_eq!(
            outcome["refused"][0]["name"], "missing",
            "its existence is not known: {outcome}"
        );
        let mut new = registration("new", 600);
        new["namespace"] = json!(ns);
        new["name"] = json!("new");
        let batch = json!({"instances": [new]});
        let outcome = self.ask(("POST", "/v1/instances", batch)).await.json();
        assert_eq!(
            (&outcome["failed"], &outcome["results"][0]["status"]),
            (&json!(1), &json!(503)),
            "{outcome}"
        );
    }

    async fn until_breaker(&self, calls: &str, state: &str) {
        eventually(&format!("the breaker of {calls} is {state}"), BOUND, async || {
            let cluster = self.ask(("GET", "/v1/cluster", Value::Null)).await.json();
            (cluster["replicas"][0]["breakers"][calls] == state).then_some(())
        })
        .await;
        let open = self.metric(&format!("rollcall_breaker_open{{calls=\"{calls}\"}}")).await;
        assert_eq!(open, if state == "open" { 1.0 } else { 0.0 }, "{calls}");
    }

    async fn metric(&self, series: &str) -> f64 {
        let text = call(self.rollcall.admin, "GET", "/metrics", None).await.body;
        let text = String::from_utf8(text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Sends a heartbeat with the token that the replica has never received.
    async fn heartbeat_with_unknown_token(&self) -> Answer {
        let path = self.path("instances/known/heartbeat");
        call_as(&self.unknown_token, self.rollcall.http, ("PUT", &path), None).await
    }

    /// Checks that callers refused together get different Retry-After values.
    async fn check_retry_jitter(&self, least: u32) {
        let mut delays = BTreeSet::new();
        for _ in 0..40 {
            let answer = self.ask(("PUT", "instances/new", registration("new", 600))).await;
            assert_eq!(answer.status, 503, "{}", answer.json());
            delays.insert(answer.header("retry-after").parse::<u32>().unwrap());
        }
        assert!(delays.len() > 1 && delays.first().is_some_and(|it| *it >= least), "{delays:?}");
    }

    /// Ends the fault, and checks that everything works again without a restart.
    async fn recover(&self) {
        self.proxy.end();
        eventually("an instance can be registered", BOUND, async || {
            let answer = self.ask(("PUT", "instances/new", registration("new", 600))).await;
            matches!(answer.status, 200 | 201).then_some(())
        })
        .await;
        eventually("heartbeats are answered 200", BOUND, async || {
            let answer = self.ask(("PUT", "instances/known/heartbeat", Value::Null)).await;
            (answer.status == 200).then_some(())
        })
        .await;
        eventually("the other token is accepted", BOUND, async || {
            (self.heartbeat_with_unknown_token().await.status == 200).then_some(())
        })
        .await;
        for calls in ["writes", "reviews"] {
            self.until_breaker(calls, "closed").await;
        }
        let gone = self.ask(("DELETE", "instances/new", Value::Null)).await;
        assert_eq!(gone.status, 204, "{}", gone.json());
    }
}

/// What a 429 or 503 fails to say about the reason and the retry.
fn missing_advice(answer: &Answer) -> Option<&'static str> {
    if !matches!(answer.status, 429 | 503) {
        return None;
    }
    let problem = answer.json();
    let contains = |text: &str| problem["detail"].as_str().is_some_and(|it| it.contains(text));
    if answer.header("retry-after").parse::<u32>().is_err() {
        return Some("no Retry-After");
    }
    (!contains("the Kubernetes API") || !contains("try again"))
        .then_some("neither reason nor advice")
}

/// The calls that work without Kubernetes.
fn reads() -> Vec<Expectation> {
    let get = |path| ("GET", path, Value::Null, &[200_u16] as &[u16]);
    let mut rows: Vec<Expectation> = [
        "services/known",
        "services/missing",
        "services/expired?health=any",
        "services",
        "/v1/services",
        "/v1/snapshot",
        "/v1/cluster",
        "instances/known",
        "instances/expired",
    ]
    .map(get)
    .into();
    rows.push(("HEAD", "services/known", Value::Null, &[200]));
    // Only the API server knows whether this instance exists.
    rows.push(("GET", "instances/missing", Value::Null, &[503]));
    rows
}

/// The calls that write.
fn writes() -> Vec<Expectation> {
    let changed = |weight: Value| {
        let mut facts = registration("other", 600);
        facts["weight"] = weight;
        facts
    };
    vec![
        ("PUT", "instances/new", registration("new", 600), &[503]),
        ("PUT", "instances/new", json!({"service": "new", "addresses": ["10.0.0.9"]}), &[503]),
        ("PUT", "instances/other", changed(json!(7)), &[503]),
        ("POST", "services/new/instances", json!({"addresses": ["10.0.0.9"]}), &[503]),
        ("DELETE", "instances/other", Value::Null, &[503]),
        ("DELETE", "instances/missing", Value::Null, &[503]),
        ("PUT", "instances/other/lease", json!({"durationSeconds": 60}), &[503]),
        ("PATCH", "instances/other/attributes", json!({"a": "b"}), &[503]),
        ("PUT", "instances/other/state", json!({"state": "Draining"}), &[503]),
        ("PUT", "instances/missing/heartbeat", Value::Null, &[503]),
        ("PUT", "instances/other/heartbeat", json!({"health": "Warning"}), &[202]),
        ("PUT", "instances/expired/heartbeat", Value::Null, &[202]),
    ]
}

/// Checks the answers while the API server does not answer, or refuses every call.
async fn check_outage(scenario: Scenario, breaks: bool) {
    scenario.proxy.begin();
    // Within 10 s of the last ledger a heartbeat counts, and an unchanged registration is a heartbeat.
    scenario
        .check(
            1,
            vec![
                ("PUT", "instances/known/heartbeat", Value::Null, &[200]),
                ("PUT", "instances/known", registration("known", 600), &[200]),
            ],
        )
        .await;
    // In parallel, so that each call reaches the API server before the others have opened the breaker.
    scenario.check(20, writes()).await;
    scenario.check(1, writes()).await;
    scenario.check(1, reads()).await;
    scenario.check_batches().await;
    let watch = scenario.path("services/known/watch");
    let mut events = EventStream::open(scenario.rollcall.http, &watch, "").await;
    assert_eq!(events.next().await.map(|event| event.kind).as_deref(), Some("snapshot"));
    let refused = scenario.heartbeat_with_unknown_token().await;
    assert_eq!((refused.status, missing_advice(&refused)), (503, None), "{}", refused.json());
    assert!(refused.json()["detail"].to_string().contains("cannot review the token"));
    eventually("heartbeats are answered 202", BOUND, async || {
        let answer = scenario.ask(("PUT", "instances/known/heartbeat", Value::Null)).await;
        assert!(matches!(answer.status, 200 | 202), "{}", answer.json());
        (answer.status == 202 && answer.header("connection") == "close").then_some(())
    })
    .await;
    // Now an unchanged registration must be stored.
    scenario.check(1, vec![("PUT", "instances/known", registration("known", 600), &[503])]).await;
    if breaks {
        let (path, body) = (scenario.path("instances/new"), registration("new", 600));
        eventually("the breaker refuses writes", BOUND, async || {
            let body = Some(body.clone());
            call_as(&scenario.token, scenario.rollcall.http, ("PUT", &path), body).await;
            let refused = scenario.metric("rollcall_breaker_refused_total{calls=\"writes\"}").await;
            (refused > 0.0).then_some(())
        })
        .await;
        scenario.until_breaker("writes", "open").await;
        eventually("the breaker refuses token reviews", BOUND, async || {
            assert_eq!(scenario.heartbeat_with_unknown_token().await.status, 503);
            let refused =
                scenario.metric("rollcall_breaker_refused_total{calls=\"reviews\"}").await;
            (refused > 0.0).then_some(())
        })
        .await;
        scenario.until_breaker("reviews", "open").await;
    } else {
        scenario.until_breaker("writes", "closed").await;
        scenario.until_breaker("reviews", "closed").await;
    }
    scenario.check_retry_jitter(if breaks { 2 } else { 7 }).await;
    scenario.recover().await;
}

#[tokio::test]
async fn answers_while_the_api_server_is_cut_off() {
    check_outage(Scenario::with_tcp_fault("away-cut", Mode::Cut).await, true).await;
}

#[tokio::test]
async fn answers_while_the_api_server_stalls() {
    check_outage(Scenario::with_tcp_fault("away-stall", Mode::Stall).await, true).await;
}

#[tokio::test]
async fn answers_while_a_gateway_answers_503() {
    check_outage(Scenario::with_http_fault("away-503", Fault::All(503)).await, true).await;
}

#[tokio::test]
async fn answers_while_the_api_server_answers_429() {
    check_outage(Scenario::with_http_fault("away-429", Fault::TooMany).await, false).await;
}

#[tokio::test]
async fn answers_with_a_slow_api_server_are_late_and_complete() {
    let scenario =
        Scenario::with_tcp_fault("away-slow", Mode::Slow(Duration::from_millis(300))).await;
    scenario.proxy.begin();
    let put = |weight: u32| {
        let mut facts = registration("other", 600);
        facts["weight"] = json!(weight);
        facts
    };
    scenario
        .check(
            1,
            vec![
                ("PUT", "instances/known/heartbeat", Value::Null, &[200, 202]),
                ("PUT", "instances/new", registration("new", 600), &[201]),
                ("PUT", "instances/other", put(7), &[200]),
                ("PUT", "instances/other/lease", json!({"durationSeconds": 60}), &[200]),
                ("PATCH", "instances/other/attributes", json!({"a": "b"}), &[200]),
                ("PUT", "instances/other/state", json!({"state": "Draining"}), &[200]),
                ("PUT", "instances/other/heartbeat", json!({"health": "Warning"}), &[200]),
                ("PUT", "instances/missing/heartbeat", Value::Null, &[404]),
                ("PUT", "instances/expired/heartbeat", Value::Null, &[200]),
                ("DELETE", "instances/other", Value::Null, &[204]),
                ("GET", "services/known", Value::Null, &[200]),
                ("GET", "instances/missing", Value::Null, &[404]),
            ],
        )
        .await;
    assert_eq!(scenario.heartbeat_with_unknown_token().await.status, 200);
    scenario.until_breaker("writes", "closed").await;
    scenario.recover().await;
}
