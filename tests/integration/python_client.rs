//! The Python client: with two replicas that are killed while it runs, and its own tests with malformed answers.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::http::{call, try_call};
use crate::support::{Namespace, Rollcall, eventually, namespace};

/// The bound for every step, on a busy machine.
const BOUND: Duration = Duration::from_secs(90);

/// The client's lease, as set in clients/python/drive.py.
const LEASE: Duration = Duration::from_secs(6);

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python");

/// An index higher than any of the store. clients/python/drive.py starts with it, like a client from before a restore.
const INDEX_BEFORE_RESTORE: u64 = 1_000_000_000_000_000;

/// The driver process, and the lines that it has printed.
struct Client {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// The newest line of each kind.
    newest: HashMap<String, Value>,
    /// The number of lines of each kind.
    counts: HashMap<String, usize>,
    /// Lines whose set lacks the client's own instance, although the set before had it.
    lost: Vec<Value>,
}

impl Client {
    fn start(ns: &Namespace, first: &Rollcall, second: &Rollcall) -> Self {
        let (first, second) = (first.http.to_string(), second.http.to_string());
        let mut child = Command::new("python3")
            .args(["-B", "-W", "error", "drive.py", &ns.name, &first, &second])
            .current_dir(FOLDER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("python3 cannot be started ({error}): install python3"));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, newest: HashMap::new(), counts: HashMap::new(), lost: Vec::new() }
    }

    /// Reads lines until the condition holds.
    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let reading = async {
            while !holds(self) {
                let line = self.lines.next_line().await.unwrap().expect("the client has ended");
                let line: Value = serde_json::from_str(&line).unwrap();
                let via = line["via"].as_str().unwrap().to_owned();
                let has = |set: &Value| {
                    set["names"].as_array().is_some_and(|names| names.contains(&json!("python")))
                };
                if line["names"].is_array() && !has(&line) && self.newest.get(&via).is_some_and(has)
                {
                    self.lost.push(line.clone());
                }
                *self.counts.entry(via.clone()).or_default() += 1;
                self.newest.insert(via, line);
            }
        };
        let done = timeout(BOUND, reading).await;
        assert!(done.is_ok(), "not within {BOUND:?}: {what}; newest lines: {:?}", self.newest);
    }

    fn shows(&self, names: &[&str]) -> bool {
        ["stream", "poll"]
            .iter()
            .all(|via| self.newest.get(*via).is_some_and(|line| line["names"] == json!(names)))
    }

    /// Waits for `count` further answered heartbeats.
    async fn until_heartbeats(&mut self, count: usize) {
        let begun = self.counts.get("beat").copied().unwrap_or_default();
        self.until("heartbeats are answered", |it| {
            let beat = it.newest.get("beat");
            it.counts.get("beat").is_some_and(|now| *now >= begun + count)
                && beat.is_some_and(|line| line.get("failed").is_none())
        })
        .await;
    }
}

async fn put(at: &Rollcall, ns: &Namespace, name: &str) {
    let path = format!("/v1/namespaces/{}/instances/{name}", ns.name);
    let body =
        json!({"service": "orders", "addresses": ["10.0.0.8"], "lease": {"mode": "Permanent"}});
    let registered = eventually("the instance is registered", BOUND, async || {
        let answer = try_call(at.http, "PUT", &path, Some(body.clone())).await.ok()?;
        [200, 201].contains(&answer.status).then_some(())
    });
    registered.await;
}

async fn uid(at: &Rollcall, ns: &Namespace) -> String {
    let path = format!("/v1/namespaces/{}/instances/python", ns.name);
    let answer = call(at.http, "GET", &path, None).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    answer.json()["uid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn client_keeps_its_lease_and_its_watches_when_replicas_are_killed() {
    let ns = namespace("python").await;
    let mut first = Rollcall::launch(&ns, "rollcall-0", &[]).await;
    let second = Rollcall::launch(&ns, "rollcall-1", &[]).await;
    first.until_ready().await;
    second.until_ready().await;
    let mut client = Client::start(&ns, &first, &second);
    client.until("it sees its own instance", |it| it.shows(&["python"])).await;
    for via in ["stream index", "poll index"] {
        client.until(via, |it| it.newest.contains_key(via)).await;
        let index = client.newest[via]["index"].as_u64().unwrap();
        assert!((1..INDEX_BEFORE_RESTORE).contains(&index), "{via} was not reset: {index}");
    }
    let first_uid = uid(&second, &ns).await;
    client.until_heartbeats(1).await;
    put(&first, &ns, "a").await;
    client.until("it sees a", |it| it.shows(&["a", "python"])).await;

    // The client sends its heartbeats to this replica.
    first.kill().await;
    let killed = Instant::now();
    put(&second, &ns, "b").await;
    client.until("it sees b", |it| it.shows(&["a", "b", "python"])).await;
    client.until_heartbeats(3).await;
    while killed.elapsed() < 2 * LEASE {
        client.until_heartbeats(1).await;
    }
    assert_eq!(uid(&second, &ns).await, first_uid, "the instance was evicted");

    // The client now uses this replica for heartbeats and watches.
    first.restart().await;
    second.kill().await;
    put(&first, &ns, "c").await;
    client.until("it sees c", |it| it.shows(&["a", "b", "c", "python"])).await;
    client.until_heartbeats(3).await;
    assert_eq!(uid(&first, &ns).await, first_uid, "the instance was evicted");
    assert!(
        client.lost.is_empty(),
        "the own instance of the client was missing: {:?}",
        client.lost
    );

    drop(client.child.stdin.take());
    client.until("it has deregistered", |it| it.newest.contains_key("stopped")).await;
    let path = format!("/v1/namespaces/{}/instances/python", ns.name);
    assert_eq!(call(first.http, "GET", &path, None).await.status, 404);
}

#[tokio::test]
async fn python_client_survives_malformed_answers() {
    let tests = Command::new("python3")
        .args(["-B", "-W", "error", "-m", "unittest"])
        .current_dir(FOLDER)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(BOUND, tests).await.expect("the client's tests end").unwrap();
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}");
    // Before Python 3.12 unittest succeeds when it finds no test.
    assert!(report.contains("\nRan ") && !report.contains("\nRan 0 tests"), "{report}");
}
