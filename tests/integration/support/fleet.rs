//! Three replicas of one namespace, and a proxy between each of them and the API server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use serde_json::{Value, json};

use super::control_plane::{TestControlPlane, shared};
use super::http::try_call;
use super::http_proxy::{Fault, HttpProxy};
use super::proxy::{Mode, Proxy};
use super::{Namespace, Rollcall, eventually, namespace, namespace_in};

/// The number of replicas.
pub const REPLICAS: usize = 3;

/// The bound for steps that take as long as the leader's lease, or a start, on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

/// Three replicas that end with their test.
pub struct Fleet {
    pub ns: Namespace,
    pub replicas: Vec<Rollcall>,
    /// The TCP proxies between the replicas and the API server; empty with HTTP proxies.
    pub proxies: Vec<Proxy>,
    /// The HTTP proxies between the replicas and the API server; empty with TCP proxies.
    pub http_proxies: Vec<HttpProxy>,
}

impl Fleet {
    /// Starts all replicas and waits until they are ready. `prefix` is a DNS label.
    pub async fn start(prefix: &str) -> Self {
        Self::start_in(shared().await, prefix).await
    }

    /// Starts them in the test's own control plane.
    pub async fn start_in(control_plane: Arc<TestControlPlane>, prefix: &str) -> Self {
        let ns = namespace_in(control_plane, prefix).await;
        let (mut proxies, mut kubeconfigs) = (Vec::new(), Vec::new());
        for at in 0..REPLICAS {
            let file = format!("{}-{at}", ns.name);
            let (proxy, kubeconfig) = Proxy::in_front_of(&ns.rollcall_kubeconfig, &file).await;
            proxies.push(proxy);
            kubeconfigs.push(kubeconfig);
        }
        let (ns, replicas) = launch(ns, kubeconfigs).await;
        Self { ns, replicas, proxies, http_proxies: Vec::new() }
    }

    /// Starts them behind HTTP proxies, which can fail single requests.
    pub async fn start_behind_http(prefix: &str) -> Self {
        let ns = namespace(prefix).await;
        let (mut http_proxies, mut kubeconfigs) = (Vec::new(), Vec::new());
        for at in 0..REPLICAS {
            let file = format!("{}-{at}", ns.name);
            let (proxy, kubeconfig) = HttpProxy::in_front_of(&ns.rollcall_kubeconfig, &file).await;
            http_proxies.push(proxy);
            kubeconfigs.push(kubeconfig);
        }
        let (ns, replicas) = launch(ns, kubeconfigs).await;
        Self { ns, replicas, proxies: Vec::new(), http_proxies }
    }

    /// Sets what happens to the traffic between a replica and the API server.
    pub fn set(&self, at: usize, mode: Mode) {
        self.proxies[at].set(mode);
    }

    /// Sets what happens to the traffic between every replica and the API server.
    pub fn set_all(&self, mode: Mode) {
        self.proxies.iter().for_each(|proxy| proxy.set(mode));
    }

    /// Sets what happens to the calls of a replica, behind an HTTP proxy.
    pub fn fail(&self, at: usize, fault: Fault) {
        self.http_proxies[at].set(fault);
    }

    /// Sets what happens to the calls of every replica, behind HTTP proxies.
    pub fn fail_all(&self, fault: Fault) {
        self.http_proxies.iter().for_each(|proxy| proxy.set(fault));
    }

    /// Registers `count` instances of a service through all replicas at once, with a lease of 10 minutes, and waits until
    /// all replicas return all of them.
    pub async fn populate(&self, service: &str, count: usize) {
        let namespace = &self.ns.name;
        let register = async |at: usize| {
            let path = format!("/v1/namespaces/{namespace}/instances/{service}-{at}");
            let address = format!("10.2.{}.{}", at / 250, at % 250);
            let lease = json!({"durationSeconds": 600});
            let body = json!({"service": service, "addresses": [address], "lease": lease});
            let replica = &self.replicas[at % REPLICAS];
            eventually("the instance is registered", BOUND, async || {
                let answer = try_call(replica.http, "PUT", &path, Some(body.clone())).await.ok()?;
                let status = answer.status;
                assert!(matches!(status, 200 | 201 | 429 | 503), "{status}: {}", answer.json());
                matches!(status, 200 | 201).then_some(())
            })
            .await;
        };
        stream::iter((0..count).map(register)).buffer_unordered(64).collect::<Vec<()>>().await;
        for replica in &self.replicas {
            eventually("every replica returns every instance", BOUND, async || {
                let path = format!("/v1/namespaces/{namespace}/services/{service}");
                let body = try_call(replica.http, "GET", &path, None).await.ok()?.json();
                (body["instances"].as_array()?.len() == count).then_some(())
            })
            .await;
        }
    }

    /// The index of the leader, as the first replica reports it.
    pub async fn leader(&self) -> usize {
        eventually("a replica leads", BOUND, async || {
            let cluster = try_call(self.replicas[0].http, "GET", "/v1/cluster", None).await.ok()?;
            let leader = cluster.json()["leader"].as_str()?.to_owned();
            self.replicas.iter().position(|replica| replica.identity == leader)
        })
        .await
    }

    /// The number of writes that the replicas of this namespace sent to the API server, by resource.
    pub fn api_writes(&self) -> Vec<(String, usize)> {
        let log = std::fs::read_to_string(&self.ns.shared.audit_log).unwrap();
        let mut writes = std::collections::BTreeMap::new();
        for line in log.lines().filter(|line| line.contains(&self.ns.name)) {
            let Ok(call) = serde_json::from_str::<Value>(line) else { continue };
            let (verb, object) = (&call["verb"], &call["objectRef"]);
            let is_write = ["create", "update", "patch", "delete"].iter().any(|it| verb == it);
            if is_write && object["namespace"] == self.ns.name.as_str() {
                let resource = object["resource"].as_str().unwrap_or_default();
                let subresource = object["subresource"].as_str().unwrap_or_default();
                let resource = format!("{resource}/{subresource}");
                *writes.entry(resource.trim_end_matches('/').to_owned()).or_insert(0) += 1;
            }
        }
        writes.into_iter().collect()
    }
}

/// Starts a replica for each of the kubeconfigs, and waits until all are ready.
async fn launch(mut ns: Namespace, kubeconfigs: Vec<PathBuf>) -> (Namespace, Vec<Rollcall>) {
    let mut replicas = Vec::new();
    for (at, kubeconfig) in kubeconfigs.into_iter().enumerate() {
        ns.rollcall_kubeconfig = kubeconfig;
        replicas.push(Rollcall::launch(&ns, &format!("rollcall-{at}"), &[]).await);
    }
    for replica in &replicas {
        replica.until_ready().await;
    }
    (ns, replicas)
}
