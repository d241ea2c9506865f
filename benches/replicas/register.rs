//! From a registration at one replica to the DNS answer of another, beside a bare create and its watch
//! event; and what the whole life of an instance costs.

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

/// Between two registrations.
const PAUSE: Duration = Duration::from_millis(20);

/// Where the bare creates go.
const BARE: &str = "bare";

/// What was measured.
#[derive(Default)]
pub struct Registered {
    /// From the request's sending to the other replica's answer.
    pub named: Times,
    /// From the answer of the replica that was asked.
    pub after: Times,
    /// Bare: from the request's sending to the watch event.
    pub watched: Times,
}

/// Registers so many, one after another, each followed by a bare create.
pub fn run(fleet: &Fleet, count: usize) -> Registered {
    let mut doors: Vec<_> = fleet.doors().into_iter().map(Connection::to).collect();
    let mut registered = Registered::default();
    let mut bare = fleet.runtime.block_on(Bare::start(fleet));
    for i in 0..count {
        let question = query(&format!("r-{i}.{NAMESPACE}.svc.rollcall.internal"), 1);
        let other = fleet.replicas[(i + 1) % REPLICAS].dns;
        let asking = std::thread::spawn(move || until_named(other, &question));
        let sent = Instant::now();
        let body = facts(i, 300).to_string();
        let (status, _) = doors[i % REPLICAS].ask(&call("PUT", i), &body).unwrap();
        let answered = Instant::now();
        assert_eq!(status, 201, "it is new");
        let named = asking.join().unwrap();
        registered.named.push(named - sent);
        registered.after.push(named.saturating_duration_since(answered));
        std::thread::sleep(PAUSE);
        registered.watched.push(fleet.runtime.block_on(bare.once(i)));
        std::thread::sleep(PAUSE);
    }
    for i in 0..count {
        doors[0].ask(&call("DELETE", i), "").unwrap();
    }
    registered
}

/// Registers so many with a short lease, who never beat, and waits until the last one is evicted.
pub fn lives(fleet: &Fleet, count: usize) {
    let mut doors: Vec<_> = fleet.doors().into_iter().map(Connection::to).collect();
    for i in 0..count {
        let (status, _) =
            doors[i % REPLICAS].ask(&call("PUT", i), &facts(i, 3).to_string()).unwrap();
        assert_eq!(status, 201, "it is new");
    }
    crate::common::ask::eventually(Duration::from_secs(60), || {
        let gone = |i| {
            doors[0].ask(&call("GET", i), "").is_ok_and(|(status, _)| matches!(status, 404 | 410))
        };
        (0..count).all(gone).then_some(())
    });
}

fn call(method: &str, i: usize) -> String {
    format!("{method} /v1/namespaces/{NAMESPACE}/instances/r-{i}")
}

fn facts(i: usize, lease: u64) -> Value {
    json!({
        "service": format!("r-{i}"), "addresses": ["10.0.0.1"],
        "ports": [{"name": "http", "port": 8080}],
        "lease": {"durationSeconds": lease, "onExpiry": "Evict", "evictAfterSeconds": 0},
    })
}

/// A client of the API server alone, and its watch.
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

    async fn once(&mut self, i: usize) -> Duration {
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
            let (seen, at) = self.events.recv().await.unwrap();
            if seen == name {
                return at - sent;
            }
        }
    }
}
