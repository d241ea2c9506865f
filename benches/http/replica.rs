//! Starts replicas in addition to the one of `rollcall dev`: each runs on one core, and one of them requires tokens.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
    rbac::v1::RoleBinding,
};
use kube::{
    Api, Resource,
    api::{Patch, PatchParams, PostParams},
};
use rollcall::dev::ports;
use serde_json::{Value, json};

use crate::{
    Request, Server,
    common::{dev::Dev, kubernetes::client},
    http1,
};

/// A replica, and a token for it if it requires one.
pub struct Replica {
    child: Child,
    pub server: Server,
    pub token: Option<String>,
}

impl Replica {
    /// Starts a replica for one namespace, without authentication.
    pub fn open(dev: &Dev, namespace: &str) -> Self {
        Self::start(dev, namespace, ("open", &["--auth", "none"]), None)
    }

    /// Starts a replica that requires tokens, also for reads.
    pub fn with_tokens(dev: &Dev, namespace: &str) -> Self {
        let token = token(dev, namespace);
        let flags = ["--auth", "token", "--read-auth"];
        Self::start(dev, namespace, ("with-tokens", &flags), Some(token))
    }

    fn start(
        dev: &Dev,
        namespace: &str,
        (name, flags): (&str, &[&str]),
        token: Option<String>,
    ) -> Self {
        let [http, dns, admin] = [(); 3].map(|()| ports::free().unwrap());
        let child = Command::new(env!("CARGO_BIN_EXE_rollcall"))
            .args(["serve", "--identity", name])
            .args(flags)
            .args(["--watch-namespace", namespace, "--http-caller-rate", "0"])
            .arg("--kubeconfig")
            .arg(dev.dir.join("rollcall.kubeconfig"))
            .args(["--http-listen", &http.to_string(), "--dns-listen", &dns.to_string()])
            .args(["--admin-listen", &admin.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Server { pid: child.id(), address: http };
        std::thread::sleep(Duration::from_secs(2));
        let path = format!("/v1/namespaces/{namespace}/services/beats");
        let request = Request { token: token.clone(), ..Request::new("GET", path) };
        http1::until(http, &request, 200);
        Self { child, server, token }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A token of a ServiceAccount with all rights in the namespace.
fn token(dev: &Dev, namespace: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = client(dev).await;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        put(&accounts, json!({"metadata": {"name": "load"}})).await;
        let bindings: Api<RoleBinding> = Api::namespaced(client, namespace);
        let binding = json!({
            "metadata": {"name": "load"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "load", "namespace": namespace}],
        });
        put(&bindings, binding).await;
        let spec = TokenRequestSpec { audiences: vec!["rollcall".to_owned()], ..Default::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let created = accounts.create_token_request("load", &PostParams::default(), &request).await;
        created.unwrap().status.unwrap().token
    })
}

async fn put<K>(api: &Api<K>, mut object: Value)
where
    K: Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    object["apiVersion"] = K::api_version(&()).into();
    object["kind"] = K::kind(&()).into();
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    api.patch(&name, &PatchParams::apply("bench"), &Patch::Apply(&object)).await.unwrap();
}
