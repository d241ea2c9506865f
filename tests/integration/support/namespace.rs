//! A fresh namespace for each test.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace as KubeNamespace;
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Client, Resource};
use rollcall::dev::{install, manifests};
use serde_json::{Value, json};

use super::control_plane::{TestControlPlane, shared};

/// A namespace that no other test uses. When the test ends, the namespace is deleted, on a best-effort basis.
pub struct Namespace {
    pub name: String,
    /// A client with every right. Its connections belong to this test's runtime.
    pub client: Client,
    /// The kubeconfig for `rollcall serve`, with the user that RBAC binds.
    pub rollcall_kubeconfig: PathBuf,
    /// The kubeconfig for kubectl, with the user that has every right.
    pub kubeconfig: PathBuf,
    /// The control plane of the namespace.
    pub shared: Arc<TestControlPlane>,
}

/// Creates a namespace whose name begins with `prefix` (a DNS label).
pub async fn namespace(prefix: &str) -> Namespace {
    namespace_in(shared().await, prefix).await
}

/// Creates a namespace in the test's own control plane.
pub async fn namespace_in(shared: Arc<TestControlPlane>, prefix: &str) -> Namespace {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    // All names have one length, because a recorded response can contain its own length.
    let name = format!("{prefix}-{:03}", NEXT.fetch_add(1, Ordering::Relaxed));
    let client = shared.control_plane.admin().await.unwrap();
    let api: Api<KubeNamespace> = Api::all(client.clone());
    let object = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
    // A replica of this test runs in this namespace, so it needs its Role here.
    for manifest in [manifests::ROLE, manifests::ROLE_BINDING] {
        let manifest =
            manifest.replacen("namespace: rollcall-system", &format!("namespace: {name}"), 1);
        install::apply(&client, &[&manifest]).await.unwrap();
    }
    Namespace {
        name,
        client,
        rollcall_kubeconfig: shared.control_plane.rollcall_kubeconfig.clone(),
        kubeconfig: shared.control_plane.kubeconfig.clone(),
        shared,
    }
}

impl Namespace {
    /// A client for one kind of object in this namespace, with every right.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// How many writes of an instance the replicas have sent to the API server, not counting its status.
    pub fn count_writes_of(&self, instance: &str) -> usize {
        let log = std::fs::read_to_string(&self.shared.audit_log).unwrap();
        let calls = log.lines().filter(|line| line.contains(&self.name));
        let calls = calls.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let is_write = |call: &Value| {
            let object = &call["objectRef"];
            ["create", "update", "patch"].iter().any(|verb| call["verb"] == *verb)
                && object["resource"] == "serviceinstances"
                && object["namespace"] == *self.name
                && object["name"] == instance
                && object.get("subresource").is_none()
        };
        calls.filter(is_write).count()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let name = std::mem::take(&mut self.name);
        let shared = Arc::clone(&self.shared);
        // This runs on the runtime that outlives the test, and the test does not wait for it.
        self.shared.runtime.spawn(async move {
            let client = shared.control_plane.admin().await.unwrap();
            let api: Api<KubeNamespace> = Api::all(client);
            let delete = async { api.delete(&name, &DeleteParams::default()).await };
            let _ = tokio::time::timeout(Duration::from_secs(10), delete).await;
        });
    }
}
