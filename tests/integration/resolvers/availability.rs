//! A ready replica answers every query, and never denies an existing name: while another replica is killed, while the API
//! server is stopped, and while a replica starts without an API server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use parking_lot::Mutex;
use rollcall::dev::child::Signal;
use rollcall::dev::replicas;
use serde_json::json;
use tokio::time::sleep;

use super::{BOUND, below, permanent, register};
use crate::support::control_plane::own;
use crate::support::{Rollcall, dns, eventually, namespace_in};

/// A replica that is queried without pause, and the results.
struct Probe {
    dns: SocketAddr,
    admin: SocketAddr,
    /// The number of the current process, from 1; it is incremented before the old process is killed.
    process: AtomicUsize,
    /// The process for which `/readyz` last returned 200.
    ready: AtomicUsize,
    stop: AtomicBool,
    results: Mutex<Results>,
}

#[derive(Debug, Default)]
struct Results {
    answers: usize,
    /// SERVFAIL answers before the replica was ready.
    early: usize,
    wrong: Vec<String>,
}

impl Results {
    fn record(
        &mut self,
        answer: Option<(ResponseCode, usize)>,
        was_ready: bool,
        must_answer: bool,
        describe: impl Fn() -> String,
    ) {
        match answer {
            Some((ResponseCode::NoError, 1..)) => self.answers += 1,
            Some((ResponseCode::ServFail, _)) if !was_ready => self.early += 1,
            // The process is being killed, or does not listen yet.
            None if !must_answer => {}
            answer => self.wrong.push(format!("{}: {answer:?}", describe())),
        }
    }
}

impl Probe {
    fn new(rollcall: &Rollcall) -> Arc<Self> {
        Arc::new(Self {
            dns: rollcall.dns,
            admin: rollcall.admin,
            process: AtomicUsize::new(1),
            ready: AtomicUsize::new(1),
            stop: AtomicBool::new(false),
            results: Mutex::default(),
        })
    }

    /// Stops requiring answers from the current process.
    fn expect_restart(&self) {
        self.process.fetch_add(1, Ordering::SeqCst);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    async fn poll_readiness(self: Arc<Self>) {
        while !self.is_stopped() {
            let process = self.process.load(Ordering::SeqCst);
            let status = replicas::status(self.admin, "/readyz").await;
            if status == Some(200) && self.process.load(Ordering::SeqCst) == process {
                self.ready.store(process, Ordering::SeqCst);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Queries without pause.
    async fn query(self: Arc<Self>, name: String, kind: RecordType) {
        while !self.is_stopped() {
            let process = self.process.load(Ordering::SeqCst);
            let was_ready = self.ready.load(Ordering::SeqCst) == process;
            // `ask_all` falls back to TCP when the rate limit truncates errors.
            let answer = dns::ask_all(self.dns, &name, kind).await;
            let is_same_process = self.process.load(Ordering::SeqCst) == process;
            let result =
                answer.as_ref().map(|answer| (answer.metadata.response_code, answer.answers.len()));
            let describe = || format!("{name} {kind} (ready: {was_ready})");
            self.results.lock().record(result, was_ready, was_ready && is_same_process, describe);
            // The pause is longer while the process does not run.
            sleep(Duration::from_millis(if result.is_none() { 50 } else { 1 })).await;
        }
    }
}

/// Registers instances; returns names that exist during the whole test.
async fn populate(
    rollcall: &Rollcall,
    ns: &crate::support::Namespace,
) -> Vec<(String, RecordType)> {
    let mut body = permanent("web", "10.8.0.1");
    body["attributes"] = json!({"team": "blue"});
    body["tags"] = json!(["canary"]);
    register(rollcall.http, ns, "web-1", body).await;
    register(rollcall.http, ns, "web-2", permanent("web", "10.8.0.2")).await;
    let mut leased = permanent("leased", "10.8.0.3");
    leased["lease"] = json!({"durationSeconds": 600});
    register(rollcall.http, ns, "leased-1", leased).await;
    let web = below(ns, "web");
    vec![
        (web.clone(), RecordType::A),
        (format!("_http._tcp.{web}"), RecordType::SRV),
        (format!("web-1.{web}"), RecordType::TXT),
        (format!("canary._tag.{web}"), RecordType::A),
        (below(ns, "leased"), RecordType::A),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ready_replica_never_fails_and_never_denies_existing_names() {
    let ns = namespace_in(own("steady", &[]).await, "steady").await;
    let first = Rollcall::start_with(&ns, "rollcall-0", &[]).await;
    let mut second = Rollcall::start_with(&ns, "rollcall-1", &[]).await;
    let names = populate(&first, &ns).await;
    for (name, kind) in &names {
        eventually("both replicas have all names", BOUND, async || {
            for to in [first.dns, second.dns] {
                let answer = dns::ask(to, name, *kind).await?;
                (!answer.answers.is_empty()).then_some(())?;
            }
            Some(())
        })
        .await;
    }
    let probes = [Probe::new(&first), Probe::new(&second)];
    let mut tasks = Vec::new();
    for probe in &probes {
        tasks.push(tokio::spawn(probe.clone().poll_readiness()));
        for (name, kind) in &names {
            tasks.push(tokio::spawn(probe.clone().query(name.clone(), *kind)));
        }
    }
    sleep(Duration::from_secs(1)).await;
    probes[1].expect_restart();
    second.restart().await;
    sleep(Duration::from_secs(1)).await;
    // The API server is stopped until after the horizon is stale; in this time a replica starts that cannot list instances.
    let api = &ns.shared.control_plane.apiserver;
    assert!(api.signal(Signal::STOP));
    sleep(Duration::from_secs(2)).await;
    probes[1].expect_restart();
    second.relaunch().await;
    sleep(Duration::from_secs(14)).await;
    assert!(api.signal(Signal::CONT));
    second.until_ready().await;
    sleep(Duration::from_secs(2)).await;
    probes.iter().for_each(|probe| probe.stop.store(true, Ordering::Relaxed));
    for task in tasks {
        task.await.unwrap();
    }
    for (probe, at) in probes.iter().zip(0..) {
        let results = probe.results.lock();
        eprintln!("replica {at}: {} answers, {} early SERVFAIL", results.answers, results.early);
        let few: Vec<_> = results.wrong.iter().take(5).collect();
        assert!(
            few.is_empty(),
            "replica {at}: {} wrong results, such as {few:#?}",
            results.wrong.len()
        );
        assert!(results.answers > 1_000, "{results:?}");
    }
    let early = probes[1].results.lock().early;
    assert!(early > 0, "a replica that is not synced answers SERVFAIL");
}
