//! The time from a registration at one replica to the DNS response of another, compared with a bare create and its
//! watch event; and the cost of an instance from its registration to its eviction.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kube::{
    Api, ResourceExt as _,
    api::{PostParams, WatchEvent, WatchParams},
};
use rollcall_api::ServiceInstance;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    common::{
        ask::{query, until_named},
        kubernetes,
    },
    connection::Connection,
    figures::Times,
    fleet::{Fleet, NAMESPACE, REPLICAS},
};

/// The pause between two requests.
const PAUSE: Duration = Duration::from_millis(20);

/// The namespace of the objects that are created directly.
const BARE: &str = "bare";

/// The measured times.
#[derive(Default)]
pub struct RegistrationTimes {
    /// The time from sending the registration to the other replica's DNS response.
    pub named: Times,
    /// The time from the response to the registration to the other replica's DNS response.
    pub after: Times,
    /// The time from sending a bare create to its watch event.
    pub watched: Times,
}

/// Registers `count` instances one after another, each followed by a bare create.
pub fn run(fleet: &Fleet, count: usize) -> RegistrationTimes {
    let mut replicas: Vec<_> = fleet.http_addresses().into_iter().map(Connection::to).collect();
    let mut times = RegistrationTimes::default();
    let mut bare = fleet.runtime.block_on(Bare::start(fleet));
    for i in 0..count {
        let dns_query = query(&format!("r-{i}.{NAMESPACE}.svc.rollcall.internal"), 1);
        let other = fleet.replicas[(i + 1) % REPLICAS].dns;
        let querying = std::thread::spawn(move || until_named(other, &dns_query));
        let sent = Instant::now();
        let body = facts(i, 300).to_string();
        let (status, _) = replicas[i % REPLICAS].send(&request_line("PUT", i), &body).unwrap();
        let answered = Instant::now();
        assert_eq!(status, 201, "the instance is new");
        let named = querying.join().unwrap();
        times.named.push(named - sent);
        times.after.push(named.saturating_duration_since(answered));
        std::thread::sleep(PAUSE);
        times.watched.push(fleet.runtime.block_on(bare.create(i)));
        std::thread::sleep(PAUSE);
    }
    for i in 0..count {
        replicas[0].send(&request_line("DELETE", i), "").unwrap();
    }
    times
}

/// Registers `count` instances with a short lease and without heartbeats, and waits until all are evicted.
pub fn lifecycles(fleet: &Fleet, count: usize) {
    let mut replicas: Vec<_> = fleet.http_addresses().into_iter().map(Connection::to).collect();
    for i in 0..count {
        let body = facts(i, 3).to_string();
        let (status, _) = replicas[i % REPLICAS].send(&request_line("PUT", i), &body).unwrap();
        assert_eq!(status, 201, "the instance is new");
    }
    crate::common::ask::eventually(Duration::from_secs(60), || {
        let is_gone = |i| {
            let answer = replicas[0].send(&request_line("GET", i), "");
            answer.is_ok_and(|(status, _)| matches!(status, 404 | 410))
        };
        (0..count).all(is_gone).then_some(())
    });
}

fn request_line(method: &str, i: usize) -> String {
    format!("{method} /v1/namespaces/{NAMESPACE}/instances/r-{i}")
}

fn facts(i: usize, lease: u64) -> Value {
    json!({
        "service": format!("r-{i}"), "addresses": ["10.0.0.1"],
        "ports": [{"name": "http", "port": 8080}],
        "lease": {"durationSeconds": lease, "onExpiry": "Evict", "evictAfterSeconds": 0},
    })
}

/// A client of the API server, and a watch.
struct Bare {
    api: Api<ServiceInstance>,
    events: mpsc::Receiver<(String, Instant)>,
}

impl Bare {
    async fn start(fleet: &Fleet) -> Self {
        kubernetes::namespace(&fleet.client, BARE).await;
        let api: Api<ServiceInstance> = Api::namespaced(fleet.client.clone(), BARE);
        let watching = api.clone();
        let (sender, events) = mpsc::channel(64);
        let version = api.list(&Default::default()).await.unwrap().metadata.resource_version;
        tokio::spawn(async move {
            let parameters = WatchParams::default();
            let stream = watching.watch(&parameters, &version.unwrap()).await.unwrap();
            let mut stream = std::pin::pin!(stream);
            while let Some(event) = stream.next().await {
                let at = Instant::now();
                if let Ok(WatchEvent::Added(object)) = event {
                    let _ = sender.send((object.name_any(), at)).await;
                }
            }
        });
        Self { api, events }
    }

    /// Creates an instance, and returns the time until its watch event.
    async fn create(&mut self, i: usize) -> Duration {
        let name = format!("r-{i}");
        let object = json!({
            "apiVersion": "rollcall.dev/v1alpha1", "kind": "ServiceInstance",
            "metadata": {"name": name},
            "spec": {
                "service": name, "addresses": ["10.0.0.1"],
                "ports": [{"name": "http", "port": 8080}], "lease": {"mode": "Permanent"},
            },
        });
        let object = serde_json::from_value(object).unwrap();
        let sent = Instant::now();
        self.api.create(&PostParams::default(), &object).await.unwrap();
        loop {
            let (created, at) = self.events.recv().await.unwrap();
            if created == name {
                return at - sent;
            }
        }
    }
}
