//! Whoever is ready answers, and never that something is not there which is: while another replica is killed, while
//! the API server stands still, and while a replica starts that cannot know anything yet.

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

/// One replica as its clients see it.
struct Watched {
    dns: SocketAddr,
    admin: SocketAddr,
    /// Which of its processes this is, from 1; a new number is given before the old process is killed.
    life: AtomicUsize,
    /// The life of which `/readyz` has said yes.
    ready: AtomicUsize,
    over: AtomicBool,
    account: Mutex<Account>,
}

#[derive(Debug, Default)]
struct Account {
    answers: usize,
    /// SERVFAIL before it was ready.
    early: usize,
    wrong: Vec<String>,
}

impl Account {
    fn enter(
        &mut self,
        said: Option<(ResponseCode, usize)>,
        was_ready: bool,
        must_answer: bool,
        what: impl Fn() -> String,
    ) {
        match said {
            Some((ResponseCode::NoError, 1..)) => self.answers += 1,
            Some((ResponseCode::ServFail, _)) if !was_ready => self.early += 1,
            // A process that is being killed, or does not listen yet.
            None if !must_answer => {}
            said => self.wrong.push(format!("{}: {said:?}", what())),
        }
    }
}

impl Watched {
    fn of(rollcall: &Rollcall) -> Arc<Self> {
        Arc::new(Self {
            dns: rollcall.dns,
            admin: rollcall.admin,
            life: AtomicUsize::new(1),
            ready: AtomicUsize::new(1),
            over: AtomicBool::new(false),
            account: Mutex::default(),
        })
    }

    /// Nothing is expected of the process that runs now.
    fn give_up(&self) {
        self.life.fetch_add(1, Ordering::SeqCst);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    async fn watch(self: Arc<Self>) {
        while !self.is_over() {
            let life = self.life.load(Ordering::SeqCst);
            let says = replicas::status(self.admin, "/readyz").await;
            if says == Some(200) && self.life.load(Ordering::SeqCst) == life {
                self.ready.store(life, Ordering::SeqCst);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks without pause.
    async fn ask(self: Arc<Self>, name: String, kind: RecordType) {
        while !self.is_over() {
            let life = self.life.load(Ordering::SeqCst);
            let was_ready = self.ready.load(Ordering::SeqCst) == life;
            // Over TCP where too many errors have already been said.
            let answer = dns::ask_all(self.dns, &name, kind).await;
            let same = self.life.load(Ordering::SeqCst) == life;
            let said =
                answer.as_ref().map(|answer| (answer.metadata.response_code, answer.answers.len()));
            let what = || format!("{name} {kind} (ready: {was_ready})");
            self.account.lock().enter(said, was_ready, was_ready && same, what);
            // Nobody listens on a port whose process was killed: not in a circle.
            sleep(Duration::from_millis(if said.is_none() { 50 } else { 1 })).await;
        }
    }
}

/// Names that exist all the time.
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
async fn whoever_is_ready_never_fails_and_never_denies_what_is_there() {
    let ns = namespace_in(own("steady", &[]).await, "steady").await;
    let first = Rollcall::start_with(&ns, "rollcall-0", &[]).await;
    let mut second = Rollcall::start_with(&ns, "rollcall-1", &[]).await;
    let names = populate(&first, &ns).await;
    for (name, kind) in &names {
        eventually("both offer all", BOUND, async || {
            for to in [first.dns, second.dns] {
                let answer = dns::ask(to, name, *kind).await?;
                (!answer.answers.is_empty()).then_some(())?;
            }
            Some(())
        })
        .await;
    }
    let watched = [Watched::of(&first), Watched::of(&second)];
    let mut tasks = Vec::new();
    for one in &watched {
        tasks.push(tokio::spawn(one.clone().watch()));
        for (name, kind) in &names {
            tasks.push(tokio::spawn(one.clone().ask(name.clone(), *kind)));
        }
    }
    sleep(Duration::from_secs(1)).await;
    watched[1].give_up();
    second.restart().await;
    sleep(Duration::from_secs(1)).await;
    // For longer than it takes to call what is known stale; meanwhile one starts that cannot know anything.
    let api = &ns.shared.control_plane.apiserver;
    assert!(api.signal(Signal::STOP));
    sleep(Duration::from_secs(2)).await;
    watched[1].give_up();
    second.relaunch().await;
    sleep(Duration::from_secs(14)).await;
    assert!(api.signal(Signal::CONT));
    second.until_ready().await;
    sleep(Duration::from_secs(2)).await;
    watched.iter().for_each(|one| one.over.store(true, Ordering::Relaxed));
    for task in tasks {
        task.await.unwrap();
    }
    for (one, at) in watched.iter().zip(0..) {
        let account = one.account.lock();
        eprintln!("replica {at}: {} answers, {} early SERVFAIL", account.answers, account.early);
        let few: Vec<_> = account.wrong.iter().take(5).collect();
        assert!(few.is_empty(), "replica {at}: {} wrong, as {few:#?}", account.wrong.len());
        assert!(account.answers > 1_000, "{account:?}");
    }
    let early = watched[1].account.lock().early;
    assert!(early > 0, "who knows nothing says so");
}
