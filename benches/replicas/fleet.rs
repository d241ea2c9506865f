//! Three replicas with their own control plane, and the instances that they know.

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

pub const REPLICAS: usize = 3;

/// The number of instances of one service: as many as fit into a DNS response over UDP.
pub const PER_SERVICE: usize = 40;

/// The number of instances that are created at a time.
const AT_A_TIME: usize = 100;

/// The namespace of the instances.
pub const NAMESPACE: &str = "bench";

/// The identity, process and addresses of one replica.
pub struct Replica {
    pub identity: String,
    pub pid: u32,
    pub http: SocketAddr,
    pub dns: SocketAddr,
    pub admin: SocketAddr,
}

/// The replicas, their control plane and their instances.
pub struct Fleet {
    dev: Dev,
    /// The replicas, the leader first.
    pub replicas: Vec<Replica>,
    pub runtime: Runtime,
    pub client: Client,
    pub run: Run,
    /// For each instance, whether the batch load sends its heartbeats.
    pub enabled: Arc<Vec<AtomicBool>>,
    /// The number of instances that every replica knows.
    pub known: Arc<AtomicUsize>,
}

impl Fleet {
    /// Starts the replicas, with no instances other than their own.
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
        let mut connection = Connection::to(replicas[0].http);
        let leader = eventually(Duration::from_secs(30), || {
            connection.json("/v1/cluster")?["leader"].as_str().map(str::to_owned)
        });
        replicas.sort_by_key(|replica| replica.identity != leader);
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(kubernetes::client(&dev));
        let enabled = Arc::new((0..run.instances).map(|_| AtomicBool::new(false)).collect());
        Self { dev, replicas, runtime, client, run, enabled, known: Arc::default() }
    }

    /// Creates all instances. The heartbeats of an instance begin when every replica knows it: an earlier heartbeat
    /// would call the API server and delay others.
    pub fn fill(&self) {
        self.runtime.block_on(kubernetes::namespace(&self.client, NAMESPACE));
        let api: Api<ServiceInstance> = Api::namespaced(self.client.clone(), NAMESPACE);
        let mut connections: Vec<_> =
            self.http_addresses().into_iter().map(Connection::to).collect();
        for first in (0..self.run.instances).step_by(AT_A_TIME) {
            let end = self.run.instances.min(first + AT_A_TIME);
            let objects = (first..end).map(|i| instance(i, self.run.lease));
            self.runtime.block_on(kubernetes::create(&api, objects));
            let knows_all =
                |replica: &mut Connection| count(replica, "instances") >= Some(end + REPLICAS);
            connections.iter_mut().for_each(|replica| {
                eventually(Duration::from_secs(60), || knows_all(replica).then_some(()));
            });
            self.known.store(end, Ordering::Relaxed);
            (first..end).for_each(|i| self.enable(i, !self.run.is_victim(i)));
        }
    }

    /// Starts or stops the heartbeats of an instance in the batch load.
    pub fn enable(&self, i: usize, is_enabled: bool) {
        self.enabled[i].store(is_enabled, Ordering::Relaxed);
    }

    /// Waits until every replica knows all instances and the leader has written their statuses.
    pub fn settle(&self) {
        let all = self.run.instances + REPLICAS;
        for replica in &self.replicas {
            let mut replica = Connection::to(replica.http);
            let bound = Duration::from_secs(300);
            eventually(bound, || (count(&mut replica, "Ready")? == all).then_some(()));
        }
        // The leader writes statuses in the order in which the instances were created.
        let last = self.run.instances - 1;
        let path = format!("/v1/namespaces/{NAMESPACE}/instances/{}", name(last));
        let mut leader = Connection::to(self.replicas[0].http);
        eventually(Duration::from_secs(300), || {
            (!leader.json(&path)?["verdict"]["stored"].is_null()).then_some(())
        });
    }

    /// The number of expired leases: the highest count of all replicas.
    pub fn expiries(&self) -> f64 {
        let count = |replica: &Replica| scrape(replica.admin)["rollcall_expiries_total"];
        self.replicas.iter().map(count).fold(0.0, f64::max)
    }

    /// The HTTP addresses of the replicas.
    pub fn http_addresses(&self) -> Vec<SocketAddr> {
        self.replicas.iter().map(|replica| replica.http).collect()
    }

    /// The process id of a component of the control plane.
    pub fn part(&self, name: &str) -> u32 {
        self.dev.facts[name]["pid"].as_u64().unwrap() as u32
    }
}

/// The number of instances that one replica knows: all (`instances`), or those in a phase.
fn count(replica: &mut Connection, name: &str) -> Option<usize> {
    let cluster = replica.json("/v1/cluster")?;
    let own = &cluster["replicas"][0];
    let count = own[name].as_u64().or_else(|| own["phases"][name].as_u64());
    count.map(|count| count as usize)
}

/// The name of the instance with this number.
pub fn name(i: usize) -> String {
    format!("i-{i}")
}

/// The number of the instance with this name.
pub fn number(name: &str) -> Option<usize> {
    name.strip_prefix("i-")?.parse().ok()
}

/// The number of the instance with this address.
pub fn number_at(address: std::net::Ipv4Addr) -> usize {
    (u32::from(address) - u32::from(std::net::Ipv4Addr::new(10, 1, 0, 1))) as usize
}

/// The name of the service with this number.
pub fn service(service: usize) -> String {
    format!("s-{service}")
}

/// A DNS query for the addresses of a service.
pub fn service_query(number: usize) -> Vec<u8> {
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
