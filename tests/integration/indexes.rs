//! Indexes: what the index of an answer covers, and how another replica uses it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::fleet::Fleet;
use crate::support::http::{Answer, call, call_with};
use crate::support::http_proxy::Fault;
use crate::support::{Namespace, Rollcall, namespace};

/// How often each write is tested.
const ROUNDS: usize = 25;

async fn read(replica: &Rollcall, path: &str, index: &str) -> Answer {
    call_with(replica.http, &format!("GET {path}"), ("rollcall-min-index", index), "").await
}

/// Writes through one replica, and reads from another with the index of the answer.
struct ReplicaPair<'a> {
    ns: &'a Namespace,
    writes: &'a Rollcall,
    reads: &'a Rollcall,
}

impl ReplicaPair<'_> {
    fn path(&self) -> String {
        format!("/v1/namespaces/{}/instances/o1", self.ns.name)
    }

    /// Sends a write to one replica, and returns the instance that the other replica then reads.
    async fn write_and_read(
        &self,
        (method, path): (&str, &str),
        body: Option<Value>,
        status: u16,
    ) -> Value {
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

    async fn check_each_write(&self, round: usize) {
        let path = self.path();
        let mut body = json!({
            "service": "orders", "addresses": ["10.0.0.1"], "weight": round,
            "lease": {"durationSeconds": 300},
        });
        let read = self.write_and_read(("PUT", &path), Some(body.clone()), 201).await;
        assert_eq!(read["weight"], round);

        body["weight"] = json!(round + 1000);
        body["namespace"] = json!(self.ns.name);
        body["name"] = json!("o1");
        let batch = json!({"instances": [body]});
        let read = self.write_and_read(("POST", "/v1/instances"), Some(batch), 200).await;
        assert_eq!(read["weight"], round + 1000);

        let beat = json!({"health": "Warning"});
        let read =
            self.write_and_read(("PUT", &format!("{path}/heartbeat")), Some(beat), 200).await;
        assert_eq!(read["health"], "Warning");

        let beat = json!({"namespace": self.ns.name, "name": "o1", "health": "Critical"});
        let beats = json!({"instances": [beat]});
        let read = self.write_and_read(("POST", "/v1/heartbeats"), Some(beats), 200).await;
        assert_eq!(read["health"], "Critical");

        let length = json!({"durationSeconds": 400 + round});
        let read = self.write_and_read(("PUT", &format!("{path}/lease")), Some(length), 200).await;
        assert_eq!(read["lease"]["durationSeconds"], 400 + round);

        let patch = json!({"round": round.to_string()});
        let read =
            self.write_and_read(("PATCH", &format!("{path}/attributes")), Some(patch), 200).await;
        assert_eq!(read["attributes"]["round"], round.to_string());

        let state = json!({"state": "Draining"});
        let read = self.write_and_read(("PUT", &format!("{path}/state")), Some(state), 200).await;
        assert_eq!(read["state"], "Draining");

        self.write_and_read(("DELETE", &path), None, 204).await;
    }
}

#[tokio::test]
async fn every_write_is_visible_on_another_replica_at_the_index_of_its_answer() {
    let ns = namespace("write-index").await;
    let first = Rollcall::start(&ns).await;
    let second = Rollcall::start_with(&ns, "rollcall-1", &[]).await;
    for round in 0..ROUNDS {
        let (writes, reads) = if round % 2 == 0 { (&first, &second) } else { (&second, &first) };
        ReplicaPair { ns: &ns, writes, reads }.check_each_write(round).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deregistration_has_an_index_even_if_its_watch_event_is_late() {
    let fleet = Fleet::start_behind_http("late-removal").await;
    let pair = ReplicaPair { ns: &fleet.ns, writes: &fleet.replicas[0], reads: &fleet.replicas[1] };
    fleet.fail(0, Fault::LateWatches(Duration::from_secs(4)));
    let body = json!({"service": "orders", "addresses": ["10.0.0.1"]});
    for _ in 0..3 {
        pair.write_and_read(("PUT", &pair.path()), Some(body.clone()), 201).await;
        pair.write_and_read(("DELETE", &pair.path()), None, 204).await;
    }
}

/// The number of lists of one object that a replica sent, from the API server's audit log.
fn count_lists(ns: &Namespace) -> usize {
    let log = std::fs::read_to_string(&ns.shared.audit_log).unwrap();
    let calls = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_one = |call: &Value| {
        let uri = call["requestURI"].as_str().unwrap_or_default();
        call["objectRef"]["namespace"] == *ns.name && uri.ends_with("limit=1")
    };
    calls.filter(is_one).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn index_of_another_store_is_answered_at_once_and_causes_few_lists() {
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
            "the read waited for {:?}",
            begun.elapsed()
        );
        let current: u64 = answer.header("rollcall-index").parse().unwrap();
        assert!(current > 0 && current < 999_999_999_999);
        let again = read(&rollcall, path, &current.to_string()).await;
        assert_eq!((again.status, again.header("rollcall-index-reset")), (status, ""));
    }

    let (before, begun) = (count_lists(&ns), Instant::now());
    let all = (0..100).map(|_| read(&rollcall, &path, "999999999999"));
    for answer in futures::future::join_all(all).await {
        assert_eq!((answer.status, answer.header("rollcall-index-reset")), (200, "true"));
    }
    let (lists, seconds) = (count_lists(&ns) - before, begun.elapsed().as_secs_f64());
    assert!(lists >= 1, "the audit log must show the lists");
    assert!(lists as f64 <= 2.0 + seconds, "{lists} lists in {seconds} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn index_that_cannot_be_checked_is_answered_503() {
    let fleet = Fleet::start_behind_http("unchecked-index").await;
    let path = format!("/v1/namespaces/{}/services", fleet.ns.name);
    fleet.fail(0, Fault::All(503));
    let never = read(&fleet.replicas[0], &path, "999999999999").await;
    let kind = never.json()["type"].as_str().map(str::to_owned);
    assert_eq!((never.status, kind.as_deref()), (503, Some("tag:rollcall.dev,2026:behind")));
    assert_ne!(never.header("retry-after"), "");
    assert_eq!(never.header("rollcall-index-reset"), "");
}
