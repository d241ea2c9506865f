//! Indexes: what an answer covers, and what another replica makes of an index.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::fleet::Fleet;
use crate::support::http::{Answer, call, call_with};
use crate::support::http_proxy::Fault;
use crate::support::{Namespace, Rollcall, namespace};

/// How often each write is tried.
const ROUNDS: usize = 25;

async fn read(replica: &Rollcall, path: &str, index: &str) -> Answer {
    call_with(replica.http, &format!("GET {path}"), ("rollcall-min-index", index), "").await
}

/// Writes at one replica, and reads at another with the index of the answer.
struct Pair<'a> {
    ns: &'a Namespace,
    writes: &'a Rollcall,
    reads: &'a Rollcall,
}

impl Pair<'_> {
    fn path(&self) -> String {
        format!("/v1/namespaces/{}/instances/o1", self.ns.name)
    }

    /// Calls at one, and answers what the other has of the instance then.
    async fn after(&self, (method, path): (&str, &str), body: Option<Value>, status: u16) -> Value {
        let written = match method {
            "PATCH" => {
                let kind = ("content-type", "application/merge-patch+json");
                let body = body.unwrap_or_default().to_string();
                call_with(self.writes.http, &format!("PATCH {path}"), kind, &body).await
            }
            _ => call(self.writes.http, method, path, body).await,
        };
        assert_eq!(written.status, status, "{method} {path}: {}", written.json());
        let read = read(self.reads, &self.path(), written.header("rollcall-index")).await;
        assert_eq!(read.header("rollcall-index-reset"), "");
        let expected = if method == "DELETE" { 404 } else { 200 };
        assert_eq!(read.status, expected, "{method} {path}: {}", read.json());
        read.json()
    }

    async fn each_write_once(&self, round: usize) {
        let path = self.path();
        let mut body = json!({
            "service": "orders", "addresses": ["10.0.0.1"], "weight": round,
            "lease": {"durationSeconds": 300},
        });
        let seen = self.after(("PUT", &path), Some(body.clone()), 201).await;
        assert_eq!(seen["weight"], round);

        body["weight"] = json!(round + 1000);
        body["namespace"] = json!(self.ns.name);
        body["name"] = json!("o1");
        let batch = json!({"instances": [body]});
        let seen = self.after(("POST", "/v1/instances"), Some(batch), 200).await;
        assert_eq!(seen["weight"], round + 1000);

        let beat = json!({"health": "Warning"});
        let seen = self.after(("PUT", &format!("{path}/heartbeat")), Some(beat), 200).await;
        assert_eq!(seen["health"], "Warning");

        let one = json!({"namespace": self.ns.name, "name": "o1", "health": "Critical"});
        let beats = json!({"instances": [one]});
        let seen = self.after(("POST", "/v1/heartbeats"), Some(beats), 200).await;
        assert_eq!(seen["health"], "Critical");

        let length = json!({"durationSeconds": 400 + round});
        let seen = self.after(("PUT", &format!("{path}/lease")), Some(length), 200).await;
        assert_eq!(seen["lease"]["durationSeconds"], 400 + round);

        let patch = json!({"round": round.to_string()});
        let seen = self.after(("PATCH", &format!("{path}/attributes")), Some(patch), 200).await;
        assert_eq!(seen["attributes"]["round"], round.to_string());

        let state = json!({"state": "Draining"});
        let seen = self.after(("PUT", &format!("{path}/state")), Some(state), 200).await;
        assert_eq!(seen["state"], "Draining");

        self.after(("DELETE", &path), None, 204).await;
    }
}

#[tokio::test]
async fn every_write_is_seen_on_another_replica_at_the_index_of_its_answer() {
    let ns = namespace("write-index").await;
    let first = Rollcall::start(&ns).await;
    let second = Rollcall::start_with(&ns, "rollcall-1", &[]).await;
    for round in 0..ROUNDS {
        let (writes, reads) = if round % 2 == 0 { (&first, &second) } else { (&second, &first) };
        Pair { ns: &ns, writes, reads }.each_write_once(round).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deregistration_has_an_index_although_its_own_watch_is_late() {
    let fleet = Fleet::start_behind_http("late-removal").await;
    let pair = Pair { ns: &fleet.ns, writes: &fleet.replicas[0], reads: &fleet.replicas[1] };
    fleet.fail(0, Fault::LateWatches(Duration::from_secs(4)));
    let body = json!({"service": "orders", "addresses": ["10.0.0.1"]});
    for _ in 0..3 {
        pair.after(("PUT", &pair.path()), Some(body.clone()), 201).await;
        pair.after(("DELETE", &pair.path()), None, 204).await;
    }
}

/// How many lists of one object a replica has asked for, as the API server wrote down.
fn lists(ns: &Namespace) -> usize {
    let log = std::fs::read_to_string(&ns.shared.audit_log).unwrap();
    let calls = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_one = |call: &Value| {
        let uri = call["requestURI"].as_str().unwrap_or_default();
        call["objectRef"]["namespace"] == *ns.name && uri.ends_with("limit=1")
    };
    calls.filter(is_one).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_of_another_store_is_answered_at_once_and_costs_few_lists() {
    let ns = namespace("foreign-index").await;
    let rollcall = Rollcall::start(&ns).await;
    let path = format!("/v1/namespaces/{}/services", ns.name);
    for (index, path, status) in [
        ("18446744073709551615", &*path, 200),
        ("999999999999", &path, 200),
        ("999999999999", "/v1/namespaces/nowhere/services/none", 421),
    ] {
        let begun = Instant::now();
        let answer = read(&rollcall, path, index).await;
        assert_eq!((answer.status, answer.header("rollcall-index-reset")), (status, "true"));
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "it was waited for {:?}",
            begun.elapsed()
        );
        let current: u64 = answer.header("rollcall-index").parse().unwrap();
        assert!(current > 0 && current < 999_999_999_999);
        let again = read(&rollcall, path, &current.to_string()).await;
        assert_eq!((again.status, again.header("rollcall-index-reset")), (status, ""));
    }

    let (before, begun) = (lists(&ns), Instant::now());
    let all = (0..100).map(|_| read(&rollcall, &path, "999999999999"));
    for answer in futures::future::join_all(all).await {
        assert_eq!((answer.status, answer.header("rollcall-index-reset")), (200, "true"));
    }
    let (lists, seconds) = (lists(&ns) - before, begun.elapsed().as_secs_f64());
    assert!(lists >= 1, "the audit log has to show them");
    assert!(lists as f64 <= 2.0 + seconds, "{lists} lists in {seconds} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_cannot_be_checked_is_503_as_before() {
    let fleet = Fleet::start_behind_http("unchecked-index").await;
    let path = format!("/v1/namespaces/{}/services", fleet.ns.name);
    fleet.fail(0, Fault::All(503));
    let never = read(&fleet.replicas[0], &path, "999999999999").await;
    let kind = never.json()["type"].as_str().map(str::to_owned);
    assert_eq!((never.status, kind.as_deref()), (503, Some("tag:rollcall.dev,2026:behind")));
    assert_ne!(never.header("retry-after"), "");
    assert_eq!(never.header("rollcall-index-reset"), "");
}
