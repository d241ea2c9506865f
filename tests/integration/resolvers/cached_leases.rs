//! Leases hold through caches: a resolver that honours TTLs does not answer with an expired instance for longer than
//! rollcall.

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

/// Without faults, rollcall itself answers with an instance for at most this long after the end of its lease.
const GRACE: Duration = Duration::from_secs(2);

/// TTLs are whole seconds, and so is the clock by which resolvers count them down.
const ROUNDING: Duration = Duration::from_secs(1);

/// The leases of the services in seconds, shorter and longer than the TTL of 5 s. Each service has instances `a`, `b` and
/// `c`.
const LEASES: [u8; 3] = [2, 5, 8];

/// Sends heartbeats for the live instances until it is dropped.
struct Heartbeats {
    live: Arc<Mutex<Vec<String>>>,
    /// The moments at which the last heartbeats were sent and answered.
    last: Arc<Mutex<(Instant, Instant)>>,
    task: JoinHandle<()>,
}

impl Heartbeats {
    fn start(http: SocketAddr, ns: &Namespace, names: Vec<String>) -> Self {
        let namespace = ns.name.clone();
        let live = Arc::new(Mutex::new(names));
        let last = Arc::new(Mutex::new((Instant::now(), Instant::now())));
        let (names, moments) = (live.clone(), last.clone());
        let task = tokio::spawn(async move {
            loop {
                let live = names.lock().await;
                let sent = Instant::now();
                let beat = |name: &String| json!({"namespace": namespace, "name": name});
                let body = json!({"instances": live.iter().map(beat).collect::<Vec<_>>()});
                let answer = try_call(http, "POST", "/v1/heartbeats", Some(body)).await.unwrap();
                assert_eq!(answer.json()["renewed"], live.len(), "{}", answer.json());
                *moments.lock().await = (sent, Instant::now());
                drop(live);
                sleep(Duration::from_millis(200)).await;
            }
        });
        Self { live, last, task }
    }

    /// Stops the heartbeats of some instances; returns when the last one was sent and answered.
    async fn stop(&self, stopped: impl Fn(&str) -> bool) -> (Instant, Instant) {
        let mut live = self.live.lock().await;
        live.retain(|name| !stopped(name));
        *self.last.lock().await
    }
}

impl Drop for Heartbeats {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One answer.
struct Observation {
    asked: Instant,
    answered: Instant,
    /// `None` when no answer came.
    code: Option<ResponseCode>,
    /// The TTL of the expiring instance, if it is in the answer.
    expiring: Option<u32>,
    others: usize,
}

/// The names at which the expiring instance is queried.
#[derive(Clone, Copy, Debug)]
enum QueryForm {
    Service,
    Port,
    Instance,
}

/// A question that is sent to one server again and again.
struct Poll {
    resolver: &'static str,
    to: SocketAddr,
    lease: u8,
    form: QueryForm,
    ns: String,
}

impl Poll {
    fn question(&self) -> (String, RecordType) {
        let service = format!("s{}.{}.svc.{ZONE}", self.lease, self.ns);
        match self.form {
            QueryForm::Service => (service, RecordType::A),
            QueryForm::Port => (format!("_http._tcp.{service}"), RecordType::SRV),
            QueryForm::Instance => (format!("s{}-c.{service}", self.lease), RecordType::A),
        }
    }

    fn parse(&self, answer: &Message) -> (Option<u32>, usize) {
        let expiring = IpAddr::from([10, 7, self.lease, 3]);
        let name = format!("s{}-c.", self.lease);
        let is_expiring = |data: &RData| match data {
            RData::A(ip) => IpAddr::from(ip.0) == expiring,
            RData::SRV(srv) => srv.target.to_ascii().starts_with(&name),
            _ => false,
        };
        let (expiring, others): (Vec<_>, Vec<_>) =
            answer.answers.iter().partition(|record| is_expiring(&record.data));
        (expiring.first().map(|record| record.ttl), others.len())
    }

    /// Queries every 100 ms until `stop` is set.
    async fn run(self, stop: Arc<AtomicBool>) -> (Self, Vec<Observation>) {
        let (name, kind) = self.question();
        let mut all = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let asked = Instant::now();
            let answer = dns::ask(self.to, &name, kind).await;
            let code = answer.as_ref().map(|answer| answer.metadata.response_code);
            let (expiring, others) = answer.as_ref().map_or((None, 0), |answer| self.parse(answer));
            all.push(Observation { asked, answered: Instant::now(), code, expiring, others });
            sleep(Duration::from_millis(100)).await;
        }
        (self, all)
    }
}

/// Registers three services with three instances each; returns the names of the instances.
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

/// The last answer that has the expiring instance.
fn last_answer_with_expiring(observations: &[Observation]) -> Option<&Observation> {
    observations.iter().rfind(|observation| observation.expiring.is_some())
}

/// Checks the answers of a server against the moments of the last heartbeat. `direct` is the moment at which rollcall
/// itself last answered with the expiring instance.
fn check(
    poll: &Poll,
    observations: &[Observation],
    (sent, answered): (Instant, Instant),
    direct: Instant,
) {
    let what = format!("{} about s{} ({:?})", poll.resolver, poll.lease, poll.form);
    let lease = Duration::from_secs(poll.lease.into());
    let (soonest, end) = (sent + lease, answered + lease);
    for observation in observations {
        assert_eq!(observation.code, Some(ResponseCode::NoError), "{what}");
        let others = if matches!(poll.form, QueryForm::Instance) { 0 } else { 2 };
        assert_eq!(observation.others, others, "{what}: live instances");
        assert!(
            observation.expiring.is_some() || observation.answered >= soonest,
            "{what}: the expiring instance left before the end of its lease"
        );
        let Some(ttl) = observation.expiring.map(u64::from) else { continue };
        if observation.asked > end {
            assert!(ttl <= 1, "{what}: a TTL of {ttl} s after the end of the lease");
        } else if observation.asked > answered {
            let until = observation.asked + Duration::from_secs(ttl);
            assert!(until <= end + ROUNDING, "{what}: a TTL of {ttl} s exceeds the lease");
        }
    }
    let last = last_answer_with_expiring(observations).unwrap();
    let beyond = last.asked.saturating_duration_since(end);
    eprintln!("{what}: discoverable {:.1} s beyond its lease", beyond.as_secs_f64());
    let bound = (end + GRACE).max(direct) + ROUNDING;
    assert!(last.asked <= bound, "{what}: {beyond:?} beyond its lease");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caches_do_not_answer_with_expired_instances_for_longer_than_rollcall() {
    let ns = namespace("lease-true").await;
    let rollcall = Rollcall::start(&ns).await;
    let names = populate(&rollcall, &ns).await;
    let beats = Heartbeats::start(rollcall.http, &ns, names);
    for seconds in LEASES {
        let service = below(&ns, &format!("s{seconds}"));
        eventually("all instances are discoverable", super::BOUND, async || {
            (dns::addresses(rollcall.dns, &service).await?.len() == 3).then_some(())
        })
        .await;
    }
    let stub = Daemon::unbound("stub", rollcall.dns, &[(ZONE, Upstream::Stub)]).await;
    let forward = Daemon::unbound("forward", rollcall.dns, &[(ZONE, Upstream::Forward)]).await;
    let dnsmasq = Daemon::dnsmasq("lease-true", rollcall.dns, ZONE).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut polls = Vec::new();
    for (resolver, to) in [
        ("rollcall", rollcall.dns),
        ("unbound (stub-zone)", stub.address),
        ("unbound (forward-zone)", forward.address),
        ("dnsmasq", dnsmasq.address),
    ] {
        for lease in LEASES {
            for form in [QueryForm::Service, QueryForm::Port, QueryForm::Instance] {
                let poll = Poll { resolver, to, lease, form, ns: ns.name.clone() };
                polls.push(tokio::spawn(poll.run(stop.clone())));
            }
        }
    }
    // Time for the caches to fill; then queries continue until after the end of the longest lease.
    sleep(Duration::from_secs(3)).await;
    let last = beats.stop(|name| name.ends_with("-c")).await;
    let longest = Duration::from_secs(LEASES.into_iter().max().unwrap().into());
    sleep(longest + 2 * GRACE + ROUNDING).await;
    stop.store(true, Ordering::Relaxed);
    let mut results = Vec::new();
    for poll in polls {
        results.push(poll.await.unwrap());
    }
    let direct = |lease: u8| {
        let direct_polls =
            results.iter().filter(|(poll, _)| poll.to == rollcall.dns && poll.lease == lease);
        direct_polls
            .filter_map(|(_, observations)| last_answer_with_expiring(observations))
            .map(|observation| observation.answered)
            .max()
            .unwrap()
    };
    for (poll, observations) in &results {
        check(poll, observations, last, direct(poll.lease));
    }
}
