//! The promise of leases reaches those who ask a cache: no resolver that honours TTLs offers the dead for longer than
//! rollcall does.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::{ZONE, below, register};
use crate::support::daemon::{Daemon, Upstream};
use crate::support::http::try_call;
use crate::support::{Namespace, Rollcall, dns, eventually, namespace};

/// While all is well, rollcall itself offers nobody for longer than this beyond the lease.
const GRACE: Duration = Duration::from_secs(2);

/// TTLs are whole seconds, and so is the clock by which resolvers count them down.
const ROUNDING: Duration = Duration::from_secs(1);

/// Each has three instances, `a`, `b` and `c`, and such leases, in seconds; beyond the TTL of 5 s, too.
const LEASES: [u8; 3] = [2, 5, 8];

/// Beats for all who live, until it is dropped.
struct Beats {
    living: Arc<Mutex<Vec<String>>>,
    /// Of the last beats: when they were sent, and answered.
    last: Arc<Mutex<(Instant, Instant)>>,
    task: JoinHandle<()>,
}

impl Beats {
    fn start(http: SocketAddr, ns: &Namespace, names: Vec<String>) -> Self {
        let namespace = ns.name.clone();
        let living = Arc::new(Mutex::new(names));
        let last = Arc::new(Mutex::new((Instant::now(), Instant::now())));
        let (names, moments) = (living.clone(), last.clone());
        let task = tokio::spawn(async move {
            loop {
                let held = names.lock().await;
                let sent = Instant::now();
                let beat = |name: &String| json!({"namespace": namespace, "name": name});
                let body = json!({"instances": held.iter().map(beat).collect::<Vec<_>>()});
                let answer = try_call(http, "POST", "/v1/heartbeats", Some(body)).await.unwrap();
                assert_eq!(answer.json()["renewed"], held.len(), "{}", answer.json());
                *moments.lock().await = (sent, Instant::now());
                drop(held);
                sleep(Duration::from_millis(200)).await;
            }
        });
        Self { living, last, task }
    }

    /// Nobody beats for these any more; when the last beat was sent, and answered.
    async fn bury(&self, dead: impl Fn(&str) -> bool) -> (Instant, Instant) {
        let mut living = self.living.lock().await;
        living.retain(|name| !dead(name));
        *self.last.lock().await
    }
}

impl Drop for Beats {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What one answer said.
struct Seen {
    asked: Instant,
    answered: Instant,
    /// None when no answer came.
    code: Option<ResponseCode>,
    /// The TTL of whoever will die, if it is discoverable.
    dying: Option<u32>,
    others: usize,
}

/// The names under which the dying are looked for.
#[derive(Clone, Copy, Debug)]
enum Form {
    Service,
    Port,
    Instance,
}

/// Who asks whom about what.
struct Poll {
    resolver: &'static str,
    to: SocketAddr,
    lease: u8,
    form: Form,
    ns: String,
}

impl Poll {
    fn question(&self) -> (String, RecordType) {
        let service = format!("s{}.{}.svc.{ZONE}", self.lease, self.ns);
        match self.form {
            Form::Service => (service, RecordType::A),
            Form::Port => (format!("_http._tcp.{service}"), RecordType::SRV),
            Form::Instance => (format!("s{}-c.{service}", self.lease), RecordType::A),
        }
    }

    fn read(&self, answer: &Message) -> (Option<u32>, usize) {
        let dying = IpAddr::from([10, 7, self.lease, 3]);
        let name = format!("s{}-c.", self.lease);
        let is_dying = |data: &RData| match data {
            RData::A(ip) => IpAddr::from(ip.0) == dying,
            RData::SRV(srv) => srv.target.to_ascii().starts_with(&name),
            _ => false,
        };
        let (dying, others): (Vec<_>, Vec<_>) =
            answer.answers.iter().partition(|record| is_dying(&record.data));
        (dying.first().map(|record| record.ttl), others.len())
    }

    /// Asks every 100 ms until it is over.
    async fn run(self, over: Arc<AtomicBool>) -> (Self, Vec<Seen>) {
        let (name, kind) = self.question();
        let mut all = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let asked = Instant::now();
            let answer = dns::ask(self.to, &name, kind).await;
            let code = answer.as_ref().map(|answer| answer.metadata.response_code);
            let (dying, others) = answer.as_ref().map_or((None, 0), |answer| self.read(answer));
            all.push(Seen { asked, answered: Instant::now(), code, dying, others });
            sleep(Duration::from_millis(100)).await;
        }
        (self, all)
    }
}

/// Three services and everybody in them.
async fn populate(rollcall: &Rollcall, ns: &Namespace) -> Vec<String> {
    let mut names = Vec::new();
    for seconds in LEASES {
        for (at, letter) in ["a", "b", "c"].iter().enumerate() {
            let name = format!("s{seconds}-{letter}");
            let body = json!({
                "service": format!("s{seconds}"),
                "addresses": [format!("10.7.{seconds}.{}", at + 1)],
                "ports": [{"name": "http", "port": 8080}],
                "lease": {"durationSeconds": seconds, "onExpiry": "Retain"},
            });
            register(rollcall.http, ns, &name, body).await;
            names.push(name);
        }
    }
    names
}

/// The latest offer of the dying, after what was promised to them.
fn last_offer(seen: &[Seen]) -> Option<&Seen> {
    seen.iter().rfind(|seen| seen.dying.is_some())
}

/// Holds what a resolver said to the moments of the last beat; `direct` is when rollcall itself discoverable it last.
fn judge(poll: &Poll, seen: &[Seen], (sent, answered): (Instant, Instant), direct: Instant) {
    let who = format!("{} about s{} ({:?})", poll.resolver, poll.lease, poll.form);
    let lease = Duration::from_secs(poll.lease.into());
    let (soonest, end) = (sent + lease, answered + lease);
    for seen in seen {
        assert_eq!(seen.code, Some(ResponseCode::NoError), "{who}");
        let others = if matches!(poll.form, Form::Instance) { 0 } else { 2 };
        assert_eq!(seen.others, others, "{who}: those who live");
        assert!(seen.dying.is_some() || seen.answered >= soonest, "{who}: gone before its end");
        let Some(ttl) = seen.dying.map(u64::from) else { continue };
        if seen.asked > end {
            assert!(ttl <= 1, "{who}: promised for {ttl} s more after its end");
        } else if seen.asked > answered {
            let until = seen.asked + Duration::from_secs(ttl);
            assert!(until <= end + ROUNDING, "{who}: a TTL of {ttl} s outlives it");
        }
    }
    let last = last_offer(seen).unwrap();
    let beyond = last.asked.saturating_duration_since(end);
    eprintln!("{who}: discoverable {:.1} s beyond its lease", beyond.as_secs_f64());
    let bound = (end + GRACE).max(direct) + ROUNDING;
    assert!(last.asked <= bound, "{who}: {beyond:?} beyond its lease");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_cache_offers_the_dead_for_longer_than_rollcall() {
    let ns = namespace("lease-true").await;
    let rollcall = Rollcall::start(&ns).await;
    let names = populate(&rollcall, &ns).await;
    let beats = Beats::start(rollcall.http, &ns, names);
    for seconds in LEASES {
        let service = below(&ns, &format!("s{seconds}"));
        eventually("all are discoverable", super::BOUND, async || {
            (dns::addresses(rollcall.dns, &service).await?.len() == 3).then_some(())
        })
        .await;
    }
    let stub = Daemon::unbound("stub", rollcall.dns, &[(ZONE, Upstream::Stub)]).await;
    let forward = Daemon::unbound("forward", rollcall.dns, &[(ZONE, Upstream::Forward)]).await;
    let dnsmasq = Daemon::dnsmasq("lease-true", rollcall.dns, ZONE).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut polls = Vec::new();
    for (resolver, to) in [
        ("rollcall", rollcall.dns),
        ("unbound (stub-zone)", stub.address),
        ("unbound (forward-zone)", forward.address),
        ("dnsmasq", dnsmasq.address),
    ] {
        for lease in LEASES {
            for form in [Form::Service, Form::Port, Form::Instance] {
                let poll = Poll { resolver, to, lease, form, ns: ns.name.clone() };
                polls.push(tokio::spawn(poll.run(over.clone())));
            }
        }
    }
    // Caches fill, and are asked until after the end of the longest lease.
    sleep(Duration::from_secs(3)).await;
    let last = beats.bury(|name| name.ends_with("-c")).await;
    let longest = Duration::from_secs(LEASES.into_iter().max().unwrap().into());
    sleep(longest + 2 * GRACE + ROUNDING).await;
    over.store(true, Ordering::Relaxed);
    let mut told = Vec::new();
    for poll in polls {
        told.push(poll.await.unwrap());
    }
    let direct = |lease: u8| {
        let of = told.iter().filter(|(poll, _)| poll.to == rollcall.dns && poll.lease == lease);
        of.filter_map(|(_, seen)| last_offer(seen)).map(|seen| seen.answered).max().unwrap()
    };
    for (poll, seen) in &told {
        judge(poll, seen, last, direct(poll.lease));
    }
}
