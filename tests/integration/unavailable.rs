//! What each call is answered while the Kubernetes API is away, slow, or refuses: the table of docs/api.md.
//!
//! Each scenario has a replica of its own that asks for tokens, and a proxy between it and the real API server.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _};
use serde_json::{Value, json};

use crate::support::events::Events;
use crate::support::http::{Answer, call, call_as};
use crate::support::http_proxy::{Fault, HttpProxy};
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Namespace, Rollcall, eventually, namespace, rbac};

const BOUND: Duration = Duration::from_secs(60);

/// A call to the API server has 5 s, and a busy machine some more.
const WITHIN: Duration = Duration::from_secs(8);

/// Between the replica and the API server.
enum Between {
    Bytes(Proxy, Mode),
    Calls(HttpProxy, Fault),
}

/// A replica with three instances: `known`, `other` to be changed, and `expired`.
struct Scene {
    ns: Namespace,
    rollcall: Rollcall,
    between: Between,
    token: String,
    /// Never seen by the replica before.
    stranger: String,
}

/// What is expected of a call: its method, the path below the namespace (or from the root), its body, and
/// the statuses that are right.
type Row = (&'static str, &'static str, Value, &'static [u16]);

impl Between {
    fn begin(&self) {
        match self {
            Self::Bytes(proxy, mode) => proxy.set(*mode),
            Self::Calls(proxy, fault) => proxy.set(*fault),
        }
    }

    fn end(&self) {
        match self {
            Self::Bytes(proxy, _) => proxy.set(Mode::Pass),
            Self::Calls(proxy, _) => proxy.set(Fault::None),
        }
    }
}

fn facts(service: &str, seconds: u64) -> Value {
    let lease = json!({"durationSeconds": seconds, "onExpiry": "Retain"});
    json!({"service": service, "addresses": ["10.0.0.7"], "lease": lease})
}

impl Scene {
    async fn bytes(prefix: &str, mode: Mode) -> Self {
        let mut ns = namespace(prefix).await;
        let proxy = Proxy::before(&mut ns).await;
        Self::set(ns, Between::Bytes(proxy, mode)).await
    }

    async fn calls(prefix: &str, fault: Fault) -> Self {
        let mut ns = namespace(prefix).await;
        let (proxy, kubeconfig) = HttpProxy::of(&ns.rollcall_kubeconfig, &ns.name).await;
        ns.rollcall_kubeconfig = kubeconfig;
        Self::set(ns, Between::Calls(proxy, fault)).await
    }

    async fn set(ns: Namespace, between: Between) -> Self {
        let rollcall = Rollcall::start_with(&ns, "rollcall-0", &["--auth", "token"]).await;
        let token = rbac::token(&ns, "operator", "rollcall").await;
        let stranger = rbac::token(&ns, "operator", "rollcall").await;
        let right = ("create", None, None);
        rbac::grant(&ns, ("ClusterRole", "rollcall-operator"), "operator", right).await;
        let right = ("update", Some("heartbeat"), None);
        rbac::grant(&ns, ("ClusterRole", "rollcall-workload"), "operator", right).await;
        let scene = Self { ns, rollcall, between, token, stranger };
        for (name, seconds) in [("known", 600), ("other", 600), ("expired", 2)] {
            let answer =
                scene.ask(("PUT", &format!("instances/{name}"), facts(name, seconds))).await;
            assert_eq!(answer.status, 201, "{}", answer.json());
        }
        eventually("one has expired", BOUND, async || {
            let said = scene.ask(("GET", "instances/expired", Value::Null)).await.json();
            (said["phase"] == "Expired").then_some(())
        })
        .await;
        // Every right is known: what is asked for now is whether the call can be done.
        for (method, path, body) in [
            ("PUT", "instances/known/heartbeat", Value::Null),
            ("PUT", "instances/known/state", json!({"state": "Up"})),
            ("DELETE", "instances/nobody", Value::Null),
            (
                "POST",
                "/v1/heartbeats",
                json!({"instances": [{"namespace": scene.ns.name, "name": "known"}]}),
            ),
        ] {
            let status = scene.ask((method, path, body)).await.status;
            assert!(matches!(status, 200 | 404), "{method} {path}: {status}");
        }
        scene
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

    /// Asks every row, so many at a time, and says all that is wrong at once.
    async fn hold(&self, at_a_time: usize, rows: Vec<Row>) {
        let asked = stream::iter(rows).map(|row| self.hold_one(row)).buffered(at_a_time);
        let wrong = asked.collect::<Vec<_>>().await.concat();
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    }

    async fn hold_one(&self, (method, path, body, statuses): Row) -> Vec<String> {
        let started = Instant::now();
        let answer = self.ask((method, path, body)).await;
        let (status, shown, took) = (answer.status, answer.json(), started.elapsed());
        eprintln!("| {} | {method} {path} | {status} | {took:.2?} |", self.ns.name);
        let mut wrong = Vec::new();
        if !statuses.contains(&status) {
            wrong.push(format!("not {statuses:?}"));
        }
        if took > WITHIN {
            wrong.push(format!("after {took:?}"));
        }
        wrong.extend(unsaid(&answer).map(str::to_owned));
        wrong.into_iter().map(|why| format!("{method} {path}: {status}: {why}: {shown}")).collect()
    }

    /// The batches, of which each has its own result.
    async fn hold_batches(&self) {
        let ns = &self.ns.name;
        let one = |name: &str| json!({"namespace": ns, "name": name});
        let beats = json!({"instances": [one("known"), one("nobody"), one("expired")]});
        let said = self.ask(("POST", "/v1/heartbeats", beats)).await.json();
        let taken = said["renewed"].as_u64().unwrap() + said["recorded"].as_u64().unwrap();
        assert_eq!((taken, &said["unknown"]), (2, &json!([])), "{said}");
        assert_eq!(said["refused"][0]["name"], "nobody", "it could not be asked for: {said}");
        let mut new = facts("new", 600);
        new["namespace"] = json!(ns);
        new["name"] = json!("new");
        let batch = json!({"instances": [new]});
        let said = self.ask(("POST", "/v1/instances", batch)).await.json();
        assert_eq!(
            (&said["failed"], &said["results"][0]["status"]),
            (&json!(1), &json!(503)),
            "{said}"
        );
    }

    async fn breaker(&self, calls: &str, word: &str) {
        eventually(&format!("the breaker of {calls} is {word}"), BOUND, async || {
            let said = self.ask(("GET", "/v1/cluster", Value::Null)).await.json();
            (said["replicas"][0]["breakers"][calls] == word).then_some(())
        })
        .await;
        let open = self.figure(&format!("rollcall_breaker_open{{calls=\"{calls}\"}}")).await;
        assert_eq!(open, if word == "open" { 1.0 } else { 0.0 }, "{calls}");
    }

    async fn figure(&self, series: &str) -> f64 {
        let text = call(self.rollcall.admin, "GET", "/metrics", None).await.body;
        let text = String::from_utf8(text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// What comes of one whom the replica has never seen.
    async fn strange(&self) -> Answer {
        let path = self.path("instances/known/heartbeat");
        call_as(&self.stranger, self.rollcall.http, ("PUT", &path), None).await
    }

    /// Who is refused together is not told to come back together.
    async fn hold_chance(&self, least: u32) {
        let mut told = BTreeSet::new();
        for _ in 0..40 {
            let answer = self.ask(("PUT", "instances/new", facts("new", 600))).await;
            assert_eq!(answer.status, 503, "{}", answer.json());
            told.insert(answer.header("retry-after").parse::<u32>().unwrap());
        }
        assert!(told.len() > 1 && told.first().is_some_and(|it| *it >= least), "{told:?}");
    }

    /// All is as before, without a restart.
    async fn recover(&self) {
        self.between.end();
        eventually("somebody can be registered", BOUND, async || {
            let answer = self.ask(("PUT", "instances/new", facts("new", 600))).await;
            matches!(answer.status, 200 | 201).then_some(())
        })
        .await;
        eventually("beats are promised", BOUND, async || {
            let answer = self.ask(("PUT", "instances/known/heartbeat", Value::Null)).await;
            (answer.status == 200).then_some(())
        })
        .await;
        eventually("the other token is let in", BOUND, async || {
            (self.strange().await.status == 200).then_some(())
        })
        .await;
        for calls in ["writes", "reviews"] {
            self.breaker(calls, "closed").await;
        }
        let gone = self.ask(("DELETE", "instances/new", Value::Null)).await;
        assert_eq!(gone.status, 204, "{}", gone.json());
    }
}

/// What a 429 or 503 lacks.
fn unsaid(answer: &Answer) -> Option<&'static str> {
    if !matches!(answer.status, 429 | 503) {
        return None;
    }
    let problem = answer.json();
    let says = |word: &str| problem["detail"].as_str().is_some_and(|it| it.contains(word));
    if answer.header("retry-after").parse::<u32>().is_err() {
        return Some("no Retry-After");
    }
    (!says("the Kubernetes API") || !says("try again")).then_some("no word of why and what to do")
}

/// What goes on without Kubernetes.
fn reads() -> Vec<Row> {
    let get = |path| ("GET", path, Value::Null, &[200_u16] as &[u16]);
    let mut rows: Vec<Row> = [
        "services/known",
        "services/nobody",
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
    // Whether it is anywhere only the API server knows.
    rows.push(("GET", "instances/nobody", Value::Null, &[503]));
    rows
}

/// What would be written.
fn writes() -> Vec<Row> {
    let changed = |more: Value| {
        let mut facts = facts("other", 600);
        facts["weight"] = more;
        facts
    };
    vec![
        ("PUT", "instances/new", facts("new", 600), &[503]),
        ("PUT", "instances/new", json!({"service": "new", "addresses": ["10.0.0.9"]}), &[503]),
        ("PUT", "instances/other", changed(json!(7)), &[503]),
        ("POST", "services/new/instances", json!({"addresses": ["10.0.0.9"]}), &[503]),
        ("DELETE", "instances/other", Value::Null, &[503]),
        ("DELETE", "instances/nobody", Value::Null, &[503]),
        ("PUT", "instances/other/lease", json!({"durationSeconds": 60}), &[503]),
        ("PATCH", "instances/other/attributes", json!({"a": "b"}), &[503]),
        ("PUT", "instances/other/state", json!({"state": "Draining"}), &[503]),
        ("PUT", "instances/nobody/heartbeat", Value::Null, &[503]),
        ("PUT", "instances/other/heartbeat", json!({"health": "Warning"}), &[202]),
        ("PUT", "instances/expired/heartbeat", Value::Null, &[202]),
    ]
}

/// The same for everything that keeps the API server from answering, or from doing what it is asked.
async fn nothing_is_done(scene: Scene, breaks: bool) {
    scene.between.begin();
    // Within 10 s of the last ledger: a beat counts, and the same facts again are a beat.
    scene
        .hold(
            1,
            vec![
                ("PUT", "instances/known/heartbeat", Value::Null, &[200]),
                ("PUT", "instances/known", facts("known", 600), &[200]),
            ],
        )
        .await;
    // At once, so that each meets the server itself and not the breaker that the others have opened.
    scene.hold(20, writes()).await;
    scene.hold(1, writes()).await;
    scene.hold(1, reads()).await;
    scene.hold_batches().await;
    let watch = scene.path("services/known/watch");
    let mut events = Events::open(scene.rollcall.http, &watch, "").await;
    assert_eq!(events.next().await.map(|event| event.kind).as_deref(), Some("snapshot"));
    let strange = scene.strange().await;
    assert_eq!((strange.status, unsaid(&strange)), (503, None), "{}", strange.json());
    assert!(strange.json()["detail"].to_string().contains("cannot review the token"));
    eventually("nothing is promised any more", BOUND, async || {
        let answer = scene.ask(("PUT", "instances/known/heartbeat", Value::Null)).await;
        assert!(matches!(answer.status, 200 | 202), "{}", answer.json());
        (answer.status == 202 && answer.header("connection") == "close").then_some(())
    })
    .await;
    // Now it would have to be stored.
    scene.hold(1, vec![("PUT", "instances/known", facts("known", 600), &[503])]).await;
    if breaks {
        let (path, body) = (scene.path("instances/new"), facts("new", 600));
        eventually("calls fail at once", BOUND, async || {
            let body = Some(body.clone());
            call_as(&scene.token, scene.rollcall.http, ("PUT", &path), body).await;
            let held = scene.figure("rollcall_breaker_refused_total{calls=\"writes\"}").await;
            (held > 0.0).then_some(())
        })
        .await;
        scene.breaker("writes", "open").await;
        eventually("nor is anybody asked who is calling", BOUND, async || {
            assert_eq!(scene.strange().await.status, 503);
            let held = scene.figure("rollcall_breaker_refused_total{calls=\"reviews\"}").await;
            (held > 0.0).then_some(())
        })
        .await;
        scene.breaker("reviews", "open").await;
    } else {
        scene.breaker("writes", "closed").await;
        scene.breaker("reviews", "closed").await;
    }
    scene.hold_chance(if breaks { 2 } else { 7 }).await;
    scene.recover().await;
}

#[tokio::test]
async fn with_the_api_server_cut_off() {
    nothing_is_done(Scene::bytes("away-cut", Mode::Cut).await, true).await;
}

#[tokio::test]
async fn with_an_api_server_that_never_answers() {
    nothing_is_done(Scene::bytes("away-stall", Mode::Stall).await, true).await;
}

#[tokio::test]
async fn with_a_gateway_before_an_api_server_that_is_away() {
    nothing_is_done(Scene::calls("away-503", Fault::All(503)).await, true).await;
}

#[tokio::test]
async fn with_an_api_server_that_takes_no_more() {
    nothing_is_done(Scene::calls("away-429", Fault::TooMany).await, false).await;
}

#[tokio::test]
async fn with_an_api_server_that_is_slow_everything_is_done_only_later() {
    let scene = Scene::bytes("away-slow", Mode::Slow(Duration::from_millis(300))).await;
    scene.between.begin();
    let put = |weight: u32| {
        let mut facts = facts("other", 600);
        facts["weight"] = json!(weight);
        facts
    };
    scene
        .hold(
            1,
            vec![
                ("PUT", "instances/known/heartbeat", Value::Null, &[200, 202]),
                ("PUT", "instances/new", facts("new", 600), &[201]),
                ("PUT", "instances/other", put(7), &[200]),
                ("PUT", "instances/other/lease", json!({"durationSeconds": 60}), &[200]),
                ("PATCH", "instances/other/attributes", json!({"a": "b"}), &[200]),
                ("PUT", "instances/other/state", json!({"state": "Draining"}), &[200]),
                ("PUT", "instances/other/heartbeat", json!({"health": "Warning"}), &[200]),
                ("PUT", "instances/nobody/heartbeat", Value::Null, &[404]),
                ("PUT", "instances/expired/heartbeat", Value::Null, &[200]),
                ("DELETE", "instances/other", Value::Null, &[204]),
                ("GET", "services/known", Value::Null, &[200]),
                ("GET", "instances/nobody", Value::Null, &[404]),
            ],
        )
        .await;
    assert_eq!(scene.strange().await.status, 200);
    scene.breaker("writes", "closed").await;
    scene.recover().await;
}
