//! Clients that send heartbeats in several ways, and observers that query every replica all the time. Both record the
//! answers that they get.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::api::{Api, ListParams, Patch, PatchParams};
use parking_lot::Mutex;
use rollcall_api::ServiceInstance;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::dns;
use super::eventually;
use super::fleet::{Fleet, REPLICAS};
use super::http::{Answer, try_call};
use super::report::{Beat, ClientLog, Observation, Offset, RunReport, Source, evaluate};

/// All clients are instances of this service.
const SERVICE: &str = "fleet";

/// After this time without an answer a client tries another replica.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The bound for all replicas to return exactly the live instances when a fault is over.
const SETTLED: Duration = Duration::from_secs(60);

/// How a client sends heartbeats.
#[derive(Clone, Copy, Debug)]
pub enum HeartbeatMode {
    /// To this replica, and if it does not answer 200, to the next one.
    Prefer(usize),
    /// Only to this replica, whatever it answers.
    Only(usize),
    /// To each replica in turn.
    RoundRobin,
    /// By annotation.
    Annotation,
}

/// The state that clients and observers share: the addresses of the replicas, and the observations.
struct Targets {
    start: Instant,
    http: Vec<SocketAddr>,
    dns: Vec<SocketAddr>,
    namespace: String,
    api: Api<ServiceInstance>,
    is_over: AtomicBool,
    observations: Mutex<Vec<Observation>>,
}

/// A client's state.
struct Client {
    index: usize,
    mode: HeartbeatMode,
    targets: Arc<Targets>,
    log: Arc<Mutex<ClientLog>>,
    /// The lease of its last answered request.
    lease: Duration,
    /// The lease that the test wants it to have.
    wanted: watch::Receiver<Duration>,
    /// The number of heartbeats so far.
    turn: usize,
}

/// The test's handle of a client.
struct ClientHandle {
    mode: HeartbeatMode,
    log: Arc<Mutex<ClientLog>>,
    lease: watch::Sender<Duration>,
    task: JoinHandle<()>,
    name: String,
}

/// Clients and observers, which end with their test.
pub struct Load {
    targets: Arc<Targets>,
    clients: Vec<ClientHandle>,
    observers: Vec<JoinHandle<()>>,
    lost: Vec<String>,
}

/// Clients in each mode for each replica, with leases of 3, 4 and 5 s.
pub fn mixed() -> Vec<(HeartbeatMode, u64)> {
    let mut clients = Vec::new();
    for at in 0..REPLICAS {
        let lease = 3 + at as u64;
        clients.extend([
            (HeartbeatMode::Prefer(at), lease),
            (HeartbeatMode::Only(at), lease),
            (HeartbeatMode::RoundRobin, lease),
        ]);
    }
    clients.extend([(HeartbeatMode::Annotation, 3), (HeartbeatMode::Annotation, 5)]);
    clients
}

/// The clients of [`mixed`], all with the same lease, in seconds.
pub fn mixed_with_lease(lease: u64) -> Vec<(HeartbeatMode, u64)> {
    mixed().into_iter().map(|(mode, _)| (mode, lease)).collect()
}

impl Load {
    /// Registers all clients (at most 128) and starts them, then waits until all replicas return all of them.
    pub async fn start(fleet: &Fleet, clients: &[(HeartbeatMode, u64)]) -> Self {
        let targets = Arc::new(Targets {
            start: Instant::now(),
            http: fleet.replicas.iter().map(|replica| replica.http).collect(),
            dns: fleet.replicas.iter().map(|replica| replica.dns).collect(),
            namespace: fleet.ns.name.clone(),
            api: fleet.ns.api(),
            is_over: AtomicBool::new(false),
            observations: Mutex::default(),
        });
        let clients = clients.iter().enumerate().map(|(index, (mode, lease))| {
            let (lease, _) = watch::channel(Duration::from_secs(*lease));
            let (log, name) = (Arc::default(), format!("a{index}"));
            let client = Client::new((index, *mode), &targets, &log, &lease);
            ClientHandle { mode: *mode, log, lease, task: tokio::spawn(client.run(true)), name }
        });
        let mut load = Self {
            clients: clients.collect(),
            observers: Vec::new(),
            lost: Vec::new(),
            targets: targets.clone(),
        };
        load.settle().await;
        assert!(load.lost.is_empty(), "not every client could be registered: {:?}", load.lost);
        for at in 0..REPLICAS {
            load.observers.push(tokio::spawn(targets.clone().observe_dns(at)));
            load.observers.push(tokio::spawn(targets.clone().observe_http(at)));
        }
        load.observers.push(tokio::spawn(targets.observe_api()));
        load
    }

    /// Lets the load run for this time.
    pub async fn run(&self, seconds: u64) {
        sleep(Duration::from_secs(seconds)).await;
    }

    /// Stops a client without deregistration.
    pub async fn stop_client(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.task.abort();
        let _ = (&mut client.task).await;
        client.log.lock().stopped = Some(self.targets.start.elapsed());
    }

    /// Stops clients that are all instances of the service, so that the guard holds each of them for one more lease,
    /// and no longer. First waits until each has a recent heartbeat, because otherwise its instance would expire
    /// before the others.
    pub async fn stop_all_clients(&mut self, indices: std::ops::Range<usize>) {
        eventually("every client has sent a heartbeat lately", SETTLED, async || {
            indices.clone().all(|index| self.has_recent_heartbeat(index)).then_some(())
        })
        .await;
        for client in &self.clients[indices.clone()] {
            client.task.abort();
        }
        for index in indices {
            self.stop_client(index).await;
            if let Some(last) = self.clients[index].log.lock().beats.last_mut() {
                last.lease *= 2;
            }
        }
    }

    /// Whether the last heartbeat of a client is younger than two fifths of its lease. A client sends one every third
    /// of its lease, and the guard counts a heartbeat as recent for half a lease.
    fn has_recent_heartbeat(&self, index: usize) -> bool {
        let age = |beat: &Beat| self.targets.start.elapsed() - beat.sent;
        let log = self.clients[index].log.lock();
        log.beats.last().is_some_and(|beat| age(beat) < beat.lease * 2 / 5)
    }

    /// Starts a stopped client again, without a registration.
    pub fn resume_client(&mut self, index: usize) {
        let ClientHandle { mode, log, lease, .. } = &self.clients[index];
        log.lock().stopped = None;
        let client = Client::new((index, *mode), &self.targets, log, lease);
        self.clients[index].task = tokio::spawn(client.run(false));
    }

    /// Allows expired instances to leave the answers this much later than usual.
    pub fn allow_delay(&self, delay: Duration) {
        self.clients.iter().for_each(|client| client.log.lock().delay = delay);
    }

    /// Gives a client another lease, from its next heartbeat on.
    pub fn change_lease(&self, index: usize, seconds: u64) {
        self.clients[index].lease.send_replace(Duration::from_secs(seconds));
    }

    /// Waits until every replica returns exactly the instances of the running clients. If that does not happen, it
    /// records the difference.
    pub async fn settle(&mut self) {
        let live = self.clients.iter().filter(|client| client.log.lock().stopped.is_none());
        let live = live.fold(0, |all, client| all | bit_of_name(&client.name));
        let bound = Instant::now() + SETTLED;
        let mut pending: Vec<usize> = (0..REPLICAS).collect();
        loop {
            let mut wrong = Vec::new();
            for at in pending {
                let discoverable = self.targets.returned_by_http(at).await;
                if discoverable != Some(live) {
                    wrong.push((at, discoverable));
                }
            }
            if wrong.is_empty() {
                return;
            }
            if Instant::now() > bound {
                let difference = |(at, discoverable): &(usize, Option<u128>)| {
                    format!("replica {at} returns {:b} and not {live:b}", discoverable.unwrap_or(0))
                };
                return self.lost.extend(wrong.iter().map(difference));
            }
            pending = wrong.iter().map(|(at, _)| *at).collect();
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until all replicas agree, stops clients and observers, and evaluates the run.
    pub async fn end(mut self, fleet: &Fleet) -> RunReport {
        self.settle().await;
        self.targets.is_over.store(true, Ordering::Relaxed);
        for task in self.observers {
            task.await.unwrap();
        }
        for client in &self.clients {
            client.task.abort();
        }
        let logs: Vec<_> = self.clients.iter().map(|client| client.log.lock().clone()).collect();
        let observations = std::mem::take(&mut *self.targets.observations.lock());
        let mut report = evaluate(&logs, &observations);
        report.lost_registrations = self.lost.len();
        self.lost.into_iter().for_each(|lost| report.record_finding(lost));
        report.api_writes = fleet.api_writes();
        eprintln!("{}", report.line(&fleet.ns.name, self.targets.start.elapsed()));
        report
    }
}

impl Client {
    fn new(
        (index, mode): (usize, HeartbeatMode),
        targets: &Arc<Targets>,
        log: &Arc<Mutex<ClientLog>>,
        lease: &watch::Sender<Duration>,
    ) -> Self {
        let (targets, log, wanted) = (Arc::clone(targets), Arc::clone(log), lease.subscribe());
        let lease = *wanted.borrow();
        Self { index, mode, targets, log, lease, wanted, turn: 0 }
    }

    async fn run(mut self, mut register: bool) {
        loop {
            let next = Instant::now() + self.lease / 3;
            register = !self.send_heartbeat(register).await;
            sleep_until(next).await;
        }
    }

    /// Sends one heartbeat, to one replica after the other until one confirms it. Returns whether the instance is
    /// registered.
    async fn send_heartbeat(&mut self, register: bool) -> bool {
        self.turn += 1;
        if matches!(self.mode, HeartbeatMode::Annotation) && !register {
            return self.send_annotation().await;
        }
        let first = match self.mode {
            HeartbeatMode::Prefer(at) | HeartbeatMode::Only(at) => at,
            HeartbeatMode::RoundRobin | HeartbeatMode::Annotation => self.turn,
        };
        let tries = if matches!(self.mode, HeartbeatMode::Only(_)) { 1 } else { REPLICAS };
        for at in (first..first + tries).map(|at| at % REPLICAS) {
            let (status, denied) = self.send_to(at, register).await;
            if denied && !register {
                self.send_to(at, true).await;
                return true;
            }
            if status == 200 || status == 201 {
                return true;
            }
        }
        !register
    }

    /// Sends a heartbeat or a registration to one replica. Returns the status (0 when it did not answer), and whether that
    /// says that the instance does not exist.
    async fn send_to(&mut self, at: usize, register: bool) -> (u16, bool) {
        let wanted = *self.wanted.borrow();
        let path = format!("/v1/namespaces/{}/instances/a{}", self.targets.namespace, self.index);
        let (path, body, lease) = if register {
            (path, Some(self.registration(wanted)), wanted)
        } else if wanted == self.lease {
            (format!("{path}/heartbeat"), None, wanted)
        } else {
            let body = json!({"durationSeconds": wanted.as_secs()});
            (format!("{path}/lease"), Some(body), wanted)
        };
        let sent = self.targets.start.elapsed();
        let shortest = lease.min(self.lease);
        if shortest < self.lease {
            let beat = Beat { sent, answered: sent, lease: shortest, promised: false };
            self.log.lock().beats.push(beat);
            // The lease may be shorter even if no answer comes.
            self.lease = shortest;
        }
        let answer =
            timeout(RESPONSE_TIMEOUT, try_call(self.targets.http[at], "PUT", &path, body)).await;
        let status = answer.map_or(0, |answer| answer.map_or(0, |answer| answer.status));
        self.record(sent, status, lease);
        (status, matches!(status, 404 | 410))
    }

    fn record(&mut self, sent: Offset, status: u16, lease: Duration) {
        let answered = self.targets.start.elapsed();
        let mut log = self.log.lock();
        match status {
            200 | 201 => {
                self.lease = lease;
                log.beats.push(Beat { sent, answered, lease, promised: true });
            }
            202 => log.recorded += 1,
            404 | 410 => log.denied.push((sent, answered)),
            _ => *log.failed.entry(status).or_default() += 1,
        }
    }

    async fn send_annotation(&mut self) -> bool {
        let value = format!("beat {}", fastrand::u64(..));
        let patch = json!({"metadata": {"annotations": {"rollcall.dev/heartbeat": value}}});
        let (name, sent) = (format!("a{}", self.index), self.targets.start.elapsed());
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
        let call = self.targets.api.patch(&name, &parameters, &patch);
        let status = match timeout(RESPONSE_TIMEOUT, call).await {
            Ok(Ok(_)) => 200,
            Ok(Err(kube::Error::Api(status))) => status.code,
            _ => 0,
        };
        self.record(sent, status, self.lease);
        status != 404
    }

    fn registration(&self, lease: Duration) -> Value {
        json!({
            "service": SERVICE,
            "addresses": [format!("10.1.0.{}", self.index)],
            // An instance that expires by mistake is deleted at once, so that the report shows it.
            "lease": {"durationSeconds": lease.as_secs(), "evictAfterSeconds": 0},
        })
    }
}

impl Targets {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn record(&self, source: Source, asked: Offset, discoverable: Option<u128>) {
        let answered = self.start.elapsed();
        if let Some(discoverable) = discoverable {
            self.observations.lock().push(Observation { source, asked, answered, discoverable });
        }
    }

    async fn observe_dns(self: Arc<Self>, at: usize) {
        let name = format!("{SERVICE}.{}.svc.rollcall.internal", self.namespace);
        while !self.is_over() {
            let asked = self.start.elapsed();
            let answer = timeout(RESPONSE_TIMEOUT / 2, dns::addresses(self.dns[at], &name)).await;
            let addresses = answer.ok().flatten();
            let discoverable =
                addresses.map(|all| all.iter().fold(0, |all, ip| all | bit_of_address(*ip)));
            self.record(Source::Dns(at), asked, discoverable);
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn observe_http(self: Arc<Self>, at: usize) {
        while !self.is_over() {
            let asked = self.start.elapsed();
            let discoverable = self.returned_by_http(at).await;
            self.record(Source::Http(at), asked, discoverable);
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn observe_api(self: Arc<Self>) {
        while !self.is_over() {
            let asked = self.start.elapsed();
            let listed = self.api.list(&ListParams::default()).await.ok();
            let names = |instance: &ServiceInstance| {
                instance.metadata.name.as_deref().map_or(0, bit_of_name)
            };
            let there = listed.map(|all| all.items.iter().fold(0, |all, it| all | names(it)));
            self.record(Source::Api, asked, there);
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn returned_by_http(&self, at: usize) -> Option<u128> {
        let path = format!("/v1/namespaces/{}/services/{SERVICE}", self.namespace);
        let answer = timeout(RESPONSE_TIMEOUT, try_call(self.http[at], "GET", &path, None)).await;
        let answer: Answer = answer.ok()?.ok().filter(|answer| answer.status == 200)?;
        let body = answer.json();
        let names = body["instances"].as_array()?.iter().filter_map(|it| it["name"].as_str());
        Some(names.fold(0, |all, name| all | bit_of_name(name)))
    }
}

/// The bit of a client, by its address.
fn bit_of_address(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => 1 << ip.octets()[3],
        IpAddr::V6(_) => 0,
    }
}

/// The bit of a client, by its name; 0 for other names.
fn bit_of_name(name: &str) -> u128 {
    let index = name.strip_prefix('a').and_then(|index| index.parse::<u32>().ok());
    index.map_or(0, |index| 1 << index)
}
