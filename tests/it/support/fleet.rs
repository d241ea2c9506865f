//! Three replicas of one namespace, and a proxy between each of them and the API server.

use std::time::Duration;

use serde_json::Value;

use super::control_plane::shared;
use super::http::try_call;
use super::proxy::{Mode, Proxy};
use super::{Namespace, Rollcall, eventually, namespace};

/// How many there are.
pub const REPLICAS: usize = 3;

/// For whatever takes a lease of the leader, or a start, on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

/// They end with their test.
pub struct Fleet {
    pub ns: Namespace,
    pub replicas: Vec<Rollcall>,
    /// One before the API server for each of them.
    pub proxies: Vec<Proxy>,
}

impl Fleet {
    /// Starts all three and waits until they are ready. `prefix` is a DNS label.
    pub async fn start(prefix: &str) -> Self {
        let mut ns = namespace(prefix).await;
        let direct = ns.rollcall_kubeconfig.clone();
        let (mut replicas, mut proxies) = (Vec::new(), Vec::new());
        for at in 0..REPLICAS {
            let file = format!("{}-{at}", ns.name);
            let (proxy, kubeconfig) = Proxy::of(&direct, &file).await;
            ns.rollcall_kubeconfig = kubeconfig;
            proxies.push(proxy);
            replicas.push(Rollcall::launch(&ns, &format!("rollcall-{at}"), &[]).await);
        }
        for replica in &replicas {
            replica.until_ready().await;
        }
        Self { ns, replicas, proxies }
    }

    /// What becomes of the traffic between a replica and the API server from now on.
    pub fn set(&self, at: usize, mode: Mode) {
        self.proxies[at].set(mode);
    }

    /// The same for all.
    pub fn set_all(&self, mode: Mode) {
        self.proxies.iter().for_each(|proxy| proxy.set(mode));
    }

    /// Which of them leads, as one of them says.
    pub async fn leader(&self) -> usize {
        eventually("somebody leads", BOUND, async || {
            let said = try_call(self.replicas[0].http, "GET", "/v1/cluster", None).await.ok()?;
            let leader = said.json()["leader"].as_str()?.to_owned();
            self.replicas.iter().position(|replica| replica.identity == leader)
        })
        .await
    }

    /// How many writes the replicas of this namespace have asked of the API server, by what they wrote.
    pub async fn api_writes(&self) -> Vec<(String, usize)> {
        let log = std::fs::read_to_string(&shared().await.audit_log).unwrap();
        let mut writes = std::collections::BTreeMap::new();
        for line in log.lines().filter(|line| line.contains(&self.ns.name)) {
            let Ok(call) = serde_json::from_str::<Value>(line) else { continue };
            let (verb, what) = (&call["verb"], &call["objectRef"]);
            let write = ["create", "update", "patch", "delete"].iter().any(|it| verb == it);
            if write && what["namespace"] == self.ns.name.as_str() {
                let kind = what["resource"].as_str().unwrap_or_default();
                let part = what["subresource"].as_str().unwrap_or_default();
                *writes.entry(format!("{kind}/{part}")).or_insert(0) += 1;
            }
        }
        writes.into_iter().collect()
    }
}
