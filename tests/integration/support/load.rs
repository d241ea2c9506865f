//! Clients that beat, each in its way, and observers that ask everybody all the time; both write down what
//! they were answered.

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

use super::account::{Account, At, Beat, Diary, Door, Seen, draw_up};
use super::dns;
use super::eventually;
use super::fleet::{Fleet, REPLICAS};
use super::http::{Answer, try_call};

/// All clients are instances of this service.
const SERVICE: &str = "fleet";

/// After this a client tries another replica.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long whoever lives may take to be discoverable by everybody again when a fault is over, and whoever is dead to be discoverable by nobody.
const SETTLED: Duration = Duration::from_secs(60);

/// How a client beats.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// At this replica, and if it does not promise to keep it, at the next one.
    From(usize),
    /// At this replica and no other, whatever it says.
    Only(usize),
    /// At each replica in turn.
    InTurn,
    /// By annotation.
    Annotation,
}

/// Where everybody is.
struct Net {
    start: Instant,
    http: Vec<SocketAddr>,
    dns: Vec<SocketAddr>,
    namespace: String,
    api: Api<ServiceInstance>,
    over: AtomicBool,
    seen: Mutex<Vec<Seen>>,
}

/// One client's end of what it shares with its test.
struct Client {
    index: usize,
    way: Way,
    net: Arc<Net>,
    diary: Arc<Mutex<Diary>>,
    lease: Duration,
    wanted: watch::Receiver<Duration>,
    turn: usize,
}

/// The test's end.
struct Handle {
    way: Way,
    diary: Arc<Mutex<Diary>>,
    lease: watch::Sender<Duration>,
    task: JoinHandle<()>,
    name: String,
}

/// Clients and observers; they end with their test.
pub struct Load {
    net: Arc<Net>,
    clients: Vec<Handle>,
    observers: Vec<JoinHandle<()>>,
    lost: Vec<String>,
}

/// One client of each way at each replica, with leases of 3, 4 and 5 s.
pub fn mixed() -> Vec<(Way, u64)> {
    let mut clients = Vec::new();
    for at in 0..REPLICAS {
        let lease = 3 + at as u64;
        clients.extend([(Way::From(at), lease), (Way::Only(at), lease), (Way::InTurn, lease)]);
    }
    clients.extend([(Way::Annotation, 3), (Way::Annotation, 5)]);
    clients
}

/// The same with one lease for all, in seconds.
pub fn alike(lease: u64) -> Vec<(Way, u64)> {
    mixed().into_iter().map(|(way, _)| (way, lease)).collect()
}

impl Load {
    /// Registers all clients (at most 128), and has them beat; then waits until all replicas offer all.
    pub async fn start(fleet: &Fleet, clients: &[(Way, u64)]) -> Self {
        let net = Arc::new(Net {
            start: Instant::now(),
            http: fleet.replicas.iter().map(|replica| replica.http).collect(),
            dns: fleet.replicas.iter().map(|replica| replica.dns).collect(),
            namespace: fleet.ns.name.clone(),
            api: fleet.ns.api(),
            over: AtomicBool::new(false),
            seen: Mutex::default(),
        });
        let clients = clients.iter().enumerate().map(|(index, (way, lease))| {
            let (lease, _) = watch::channel(Duration::from_secs(*lease));
            let (diary, name) = (Arc::default(), format!("a{index}"));
            let client = Client::new((index, *way), &net, &diary, &lease);
            Handle { way: *way, diary, lease, task: tokio::spawn(client.live(true)), name }
        });
        let mut load = Self {
            clients: clients.collect(),
            observers: Vec::new(),
            lost: Vec::new(),
            net: net.clone(),
        };
        load.settle().await;
        assert!(load.lost.is_empty(), "not everybody could be registered: {:?}", load.lost);
        for at in 0..REPLICAS {
            load.observers.push(tokio::spawn(net.clone().ask_dns(at)));
            load.observers.push(tokio::spawn(net.clone().ask_http(at)));
        }
        load.observers.push(tokio::spawn(net.ask_api()));
        load
    }

    /// The load goes on for so long.
    pub async fn run(&self, seconds: u64) {
        sleep(Duration::from_secs(seconds)).await;
    }

    /// A client dies.
    pub async fn bury(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.task.abort();
        let _ = (&mut client.task).await;
        client.diary.lock().died = Some(self.net.start.elapsed());
    }

    /// Those clients die who are all that the service has: the guard keeps each of them for one lease more, and no longer.
    /// Each has beaten lately when they do, or it would have died before the others.
    pub async fn bury_all(&mut self, indices: std::ops::Range<usize>) {
        eventually("all have beaten lately", SETTLED, async || {
            indices.clone().all(|index| self.has_beaten_lately(index)).then_some(())
        })
        .await;
        for client in &self.clients[indices.clone()] {
            client.task.abort();
        }
        for index in indices {
            self.bury(index).await;
            if let Some(last) = self.clients[index].diary.lock().beats.last_mut() {
                last.lease *= 2;
            }
        }
    }

    /// Whether its last beat is so young that it is a tenth of a lease short of the half that the guard asks for. It beats
    /// each third.
    fn has_beaten_lately(&self, index: usize) -> bool {
        let age = |beat: &Beat| self.net.start.elapsed() - beat.sent;
        let diary = self.clients[index].diary.lock();
        diary.beats.last().is_some_and(|beat| age(beat) < beat.lease * 2 / 5)
    }

    /// Beats again, and knows that it is registered.
    pub fn wake(&mut self, index: usize) {
        let Handle { way, diary, lease, .. } = &self.clients[index];
        diary.lock().died = None;
        let client = Client::new((index, *way), &self.net, diary, lease);
        self.clients[index].task = tokio::spawn(client.live(false));
    }

    /// Whoever is dead may leave the answers so much later than usual.
    pub fn allow(&self, delay: Duration) {
        self.clients.iter().for_each(|client| client.diary.lock().delay = delay);
    }

    /// From its next beat on a client has a lease of another length.
    pub fn renew(&self, index: usize, seconds: u64) {
        self.clients[index].lease.send_replace(Duration::from_secs(seconds));
    }

    /// Waits until every replica offers exactly those who live, and notes who is missing if that does
    /// not come to be.
    pub async fn settle(&mut self) {
        let living = self.clients.iter().filter(|client| client.diary.lock().died.is_none());
        let living = living.fold(0, |all, client| all | bit_of(&client.name));
        let bound = Instant::now() + SETTLED;
        let mut open: Vec<usize> = (0..REPLICAS).collect();
        loop {
            let mut offers = Vec::new();
            for at in open {
                let discoverable = self.net.offered_by_http(at).await;
                if discoverable != Some(living) {
                    offers.push((at, discoverable));
                }
            }
            if offers.is_empty() {
                return;
            }
            if Instant::now() > bound {
                let missing = |(at, discoverable): &(usize, Option<u128>)| {
                    format!(
                        "replica {at} offers {:b} and not {living:b}",
                        discoverable.unwrap_or(0)
                    )
                };
                return self.lost.extend(offers.iter().map(missing));
            }
            open = offers.iter().map(|(at, _)| *at).collect();
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until everybody is well again, ends clients and observers, and draws up the account.
    pub async fn end(mut self, fleet: &Fleet) -> Account {
        self.settle().await;
        self.net.over.store(true, Ordering::Relaxed);
        for task in self.observers {
            task.await.unwrap();
        }
        for client in &self.clients {
            client.task.abort();
        }
        let diaries: Vec<_> = self.clients.iter().map(|it| it.diary.lock().clone()).collect();
        let seen = std::mem::take(&mut *self.net.seen.lock());
        let mut account = draw_up(&diaries, &seen);
        account.lost_registrations = self.lost.len();
        self.lost.into_iter().for_each(|lost| account.find(lost));
        account.api_writes = fleet.api_writes();
        eprintln!("{}", account.line(&fleet.ns.name, self.net.start.elapsed()));
        account
    }
}

impl Client {
    fn new(
        (index, way): (usize, Way),
        net: &Arc<Net>,
        diary: &Arc<Mutex<Diary>>,
        lease: &watch::Sender<Duration>,
    ) -> Self {
        let (net, diary, wanted) = (Arc::clone(net), Arc::clone(diary), lease.subscribe());
        let lease = *wanted.borrow();
        Self { index, way, net, diary, lease, wanted, turn: 0 }
    }

    async fn live(mut self, mut register: bool) {
        loop {
            let next = Instant::now() + self.lease / 3;
            register = !self.beat(register).await;
            sleep_until(next).await;
        }
    }

    /// One beat, at as many replicas as it takes. Answers whether the instance is known to be there.
    async fn beat(&mut self, register: bool) -> bool {
        self.turn += 1;
        if matches!(self.way, Way::Annotation) && !register {
            return self.annotate().await;
        }
        let first = match self.way {
            Way::From(at) | Way::Only(at) => at,
            Way::InTurn | Way::Annotation => self.turn,
        };
        let tries = if matches!(self.way, Way::Only(_)) { 1 } else { REPLICAS };
        for at in (first..first + tries).map(|at| at % REPLICAS) {
            let (status, denied) = self.beat_at(at, register).await;
            if denied && !register {
                self.beat_at(at, true).await;
                return true;
            }
            if status == 200 || status == 201 {
                return true;
            }
        }
        !register
    }

    /// A beat or a registration at one replica: its status (0 when it did not answer), and whether that
    /// says that there is no such instance.
    async fn beat_at(&mut self, at: usize, register: bool) -> (u16, bool) {
        let wanted = *self.wanted.borrow();
        let path = format!("/v1/namespaces/{}/instances/a{}", self.net.namespace, self.index);
        let (path, body, lease) = if register {
            (path, Some(self.registration(wanted)), wanted)
        } else if wanted == self.lease {
            (format!("{path}/heartbeat"), None, wanted)
        } else {
            let body = json!({"durationSeconds": wanted.as_secs()});
            (format!("{path}/lease"), Some(body), wanted)
        };
        let sent = self.net.start.elapsed();
        let shortest = lease.min(self.lease);
        if shortest < self.lease {
            let beat = Beat { sent, answered: sent, lease: shortest, promised: false };
            self.diary.lock().beats.push(beat);
            // Whether or not the answer comes.
            self.lease = shortest;
        }
        let answer = timeout(PATIENCE, try_call(self.net.http[at], "PUT", &path, body)).await;
        let status = answer.map_or(0, |answer| answer.map_or(0, |answer| answer.status));
        self.note(sent, status, lease);
        (status, matches!(status, 404 | 410))
    }

    fn note(&mut self, sent: At, status: u16, lease: Duration) {
        let answered = self.net.start.elapsed();
        let mut diary = self.diary.lock();
        match status {
            200 | 201 => {
                self.lease = lease;
                diary.beats.push(Beat { sent, answered, lease, promised: true });
            }
            202 => diary.recorded += 1,
            404 | 410 => diary.denied.push((sent, answered)),
            _ => *diary.failed.entry(status).or_default() += 1,
        }
    }

    async fn annotate(&mut self) -> bool {
        let value = format!("beat {}", fastrand::u64(..));
        let patch = json!({"metadata": {"annotations": {"rollcall.dev/heartbeat": value}}});
        let (name, sent) = (format!("a{}", self.index), self.net.start.elapsed());
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
        let call = self.net.api.patch(&name, &parameters, &patch);
        let status = match timeout(PATIENCE, call).await {
            Ok(Ok(_)) => 200,
            Ok(Err(kube::Error::Api(status))) => status.code,
            _ => 0,
        };
        self.note(sent, status, self.lease);
        status != 404
    }

    fn registration(&self, lease: Duration) -> Value {
        json!({
            "service": SERVICE,
            "addresses": [format!("10.1.0.{}", self.index)],
            // Whoever is judged by mistake is deleted at once.
            "lease": {"durationSeconds": lease.as_secs(), "evictAfterSeconds": 0},
        })
    }
}

impl Net {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn note(&self, door: Door, asked: At, discoverable: Option<u128>) {
        let answered = self.start.elapsed();
        if let Some(discoverable) = discoverable {
            self.seen.lock().push(Seen { door, asked, answered, discoverable });
        }
    }

    async fn ask_dns(self: Arc<Self>, at: usize) {
        let name = format!("{SERVICE}.{}.svc.rollcall.internal", self.namespace);
        while !self.is_over() {
            let asked = self.start.elapsed();
            let answer = timeout(PATIENCE / 2, dns::addresses(self.dns[at], &name)).await;
            let addresses = answer.ok().flatten();
            let discoverable = addresses.map(|all| all.iter().fold(0, |all, ip| all | bit(*ip)));
            self.note(Door::Dns(at), asked, discoverable);
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn ask_http(self: Arc<Self>, at: usize) {
        while !self.is_over() {
            let asked = self.start.elapsed();
            let discoverable = self.offered_by_http(at).await;
            self.note(Door::Http(at), asked, discoverable);
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn ask_api(self: Arc<Self>) {
        while !self.is_over() {
            let asked = self.start.elapsed();
            let listed = self.api.list(&ListParams::default()).await.ok();
            let names =
                |instance: &ServiceInstance| instance.metadata.name.as_deref().map_or(0, bit_of);
            let there = listed.map(|all| all.items.iter().fold(0, |all, it| all | names(it)));
            self.note(Door::Api, asked, there);
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn offered_by_http(&self, at: usize) -> Option<u128> {
        let path = format!("/v1/namespaces/{}/services/{SERVICE}", self.namespace);
        let answer = timeout(PATIENCE, try_call(self.http[at], "GET", &path, None)).await;
        let answer: Answer = answer.ok()?.ok().filter(|answer| answer.status == 200)?;
        let said = answer.json();
        let names = said["instances"].as_array()?.iter().filter_map(|it| it["name"].as_str());
        Some(names.fold(0, |all, name| all | bit_of(name)))
    }
}

/// Of a client's address.
fn bit(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => 1 << ip.octets()[3],
        IpAddr::V6(_) => 0,
    }
}

/// Of a client's name; none of others'.
fn bit_of(name: &str) -> u128 {
    let index = name.strip_prefix('a').and_then(|index| index.parse::<u32>().ok());
    index.map_or(0, |index| 1 << index)
}
