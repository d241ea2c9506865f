//! Three replicas with a control plane of their own, and the instances that they know.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use kube::{Api, Client};
use rollcall_api::ServiceInstance;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{
    Run,
    common::{
        ask::{eventually, query},
        dev::Dev,
        kubernetes,
    },
    connection::Connection,
    scrape::scrape,
};

/// How many replicas there are.
pub const REPLICAS: usize = 3;

/// Instances of one service: a DNS answer over UDP holds as many.
pub const PER_SERVICE: usize = 40;

/// Instances that are made at a time.
const AT_A_TIME: usize = 100;

/// Where the instances are.
pub const NAMESPACE: &str = "bench";

/// One of them.
pub struct Replica {
    pub identity: String,
    pub pid: u32,
    pub http: SocketAddr,
    pub dns: SocketAddr,
    pub admin: SocketAddr,
}

/// All of it.
pub struct Fleet {
    dev: Dev,
    /// The leader first.
    pub replicas: Vec<Replica>,
    pub runtime: Runtime,
    pub client: Client,
    pub run: Run,
    /// Whom the crowd beats for, by number.
    pub roll: Arc<Vec<AtomicBool>>,
    /// How many instances every replica knows.
    pub known: Arc<AtomicUsize>,
}

impl Fleet {
    /// Starts them, with no instances but themselves.
    pub fn start(run: Run) -> Self {
        let dev = Dev::start(REPLICAS);
        let text = |i, what| dev.replica(i, what).as_str().unwrap().to_owned();
        let replica = |i| Replica {
            identity: text(i, "identity"),
            pid: dev.replica(i, "pid").as_u64().unwrap() as u32,
            http: text(i, "http").parse().unwrap(),
            dns: text(i, "dns").parse().unwrap(),
            admin: text(i, "admin").parse().unwrap(),
        };
        let mut replicas: Vec<Replica> = (0..REPLICAS).map(replica).collect();
        let mut door = Connection::to(replicas[0].http);
        let leader = eventually(Duration::from_secs(30), || {
            door.json("/v1/cluster")?["leader"].as_str().map(str::to_owned)
        });
        replicas.sort_by_key(|replica| replica.identity != leader);
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(kubernetes::client(&dev));
        let roll = Arc::new((0..run.instances).map(|_| AtomicBool::new(false)).collect());
        Self { dev, replicas, runtime, client, run, roll, known: Arc::default() }
    }

    /// Creates all instances. Each is beaten for once every replica knows it: a beat before would ask the API
    /// server, and keep others waiting.
    pub fn fill(&self) {
        self.runtime.block_on(kubernetes::namespace(&self.client, NAMESPACE));
        let api: Api<ServiceInstance> = Api::namespaced(self.client.clone(), NAMESPACE);
        let mut doors: Vec<_> = self.doors().into_iter().map(Connection::to).collect();
        for first in (0..self.run.instances).step_by(AT_A_TIME) {
            let end = self.run.instances.min(first + AT_A_TIME);
            let objects = (first..end).map(|i| instance(i, self.run.lease));
            self.runtime.block_on(kubernetes::create(&api, objects));
            let known = |door: &mut Connection| count(door, "instances") >= Some(end + REPLICAS);
            doors.iter_mut().for_each(|door| {
                eventually(Duration::from_secs(60), || known(door).then_some(()));
            });
            self.known.store(end, Ordering::Relaxed);
            (first..end).for_each(|i| self.beat_for(i, !self.run.is_victim(i)));
        }
    }

    /// Has the crowd beat for an instance, or not any more.
    pub fn beat_for(&self, i: usize, beats: bool) {
        self.roll[i].store(beats, Ordering::Relaxed);
    }

    /// Waits until every replica has seen all instances and the leader has written what each is.
    pub fn settle(&self) {
        let all = self.run.instances + REPLICAS;
        for replica in &self.replicas {
            let mut door = Connection::to(replica.http);
            let bound = Duration::from_secs(300);
            eventually(bound, || (count(&mut door, "Ready")? == all).then_some(()));
        }
        let last = self.run.instances - 1;
        let mut door = Connection::to(self.replicas[0].http);
        eventually(Duration::from_secs(300), || {
            // In the order in which they were made.
            let said = door.json(&format!("/v1/namespaces/{NAMESPACE}/instances/{}", name(last)));
            (!said?["verdict"]["stored"].is_null()).then_some(())
        });
    }

    /// How many leases the replica that counts most has seen end.
    pub fn expiries(&self) -> f64 {
        let count = |replica: &Replica| scrape(replica.admin)["rollcall_expiries_total"];
        self.replicas.iter().map(count).fold(0.0, f64::max)
    }

    /// Where the replicas answer HTTP.
    pub fn doors(&self) -> Vec<SocketAddr> {
        self.replicas.iter().map(|replica| replica.http).collect()
    }

    /// The process id of a part of the control plane.
    pub fn part(&self, name: &str) -> u32 {
        self.dev.facts[name]["pid"].as_u64().unwrap() as u32
    }
}

/// How many instances one replica sees: `instances`, or those of a phase.
fn count(door: &mut Connection, which: &str) -> Option<usize> {
    let said = door.json("/v1/cluster")?;
    let own = &said["replicas"][0];
    let count = own[which].as_u64().or_else(|| own["phases"][which].as_u64());
    count.map(|count| count as usize)
}

/// The name of an instance by number.
pub fn name(i: usize) -> String {
    format!("i-{i}")
}

/// The number of an instance by name.
pub fn number(name: &str) -> Option<usize> {
    name.strip_prefix("i-")?.parse().ok()
}

/// The number of an instance by address.
pub fn number_at(address: std::net::Ipv4Addr) -> usize {
    (u32::from(address) - u32::from(std::net::Ipv4Addr::new(10, 1, 0, 1))) as usize
}

/// The name of a service by number.
pub fn service(service: usize) -> String {
    format!("s-{service}")
}

/// A query for the addresses of a service.
pub fn question(number: usize) -> Vec<u8> {
    query(&format!("{}.{NAMESPACE}.svc.rollcall.internal", service(number)), 1)
}

fn instance(i: usize, lease: u64) -> Value {
    let address = u32::from(std::net::Ipv4Addr::new(10, 1, 0, 1)) + i as u32;
    json!({
        "apiVersion": "rollcall.dev/v1alpha1", "kind": "ServiceInstance",
        "metadata": {"name": name(i)},
        "spec": {
            "service": service(i / PER_SERVICE),
            "addresses": [std::net::Ipv4Addr::from(address).to_string()],
            "ports": [{"name": "http", "port": 8080}], "version": "2.3.1", "zone": "eu-1a",
            "attributes": {"team": "blue"},
            "lease": {"mode": "Heartbeat", "durationSeconds": lease, "onExpiry": "Retain"},
        },
    })
}
