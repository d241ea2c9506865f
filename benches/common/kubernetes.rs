//! Sends requests to the API server of a running `rollcall dev`.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use rollcall_api::ServiceInstance;
use serde_json::{Value, json};

use super::dev::Dev;

/// The number of concurrent create requests.
const CONCURRENT: usize = 32;

/// A client with the rights of an administrator.
pub async fn client(dev: &Dev) -> Client {
    let file = Kubeconfig::read_from(dev.kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(file, &options).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Creates a namespace.
pub async fn namespace(client: &Client, name: &str) {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let api: Api<Namespace> = Api::all(client.clone());
    api.patch(name, &PatchParams::apply("bench"), &Patch::Apply(&object)).await.unwrap();
}

/// Creates instances concurrently.
pub async fn create(api: &Api<ServiceInstance>, objects: impl Iterator<Item = Value>) {
    let created = objects.map(|object| async move {
        let object = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    });
    stream::iter(created).buffer_unordered(CONCURRENT).collect::<Vec<()>>().await;
}

/// The manifests of a namespace and of `count` instances of one service, with leases.
pub fn instances(namespace: &str, service: &str, count: usize) -> String {
    let mut yaml = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n");
    for i in 0..count {
        yaml.push_str(&format!(
            "---\napiVersion: rollcall.dev/v1alpha1\nkind: ServiceInstance\n\
             metadata: {{name: {service}-{i}, namespace: {namespace}}}\n\
             spec:\n  service: {service}\n  addresses: [\"10.1.{}.{}\"]\n\
             \x20 ports: [{{name: http, port: 8080}}]\n  version: \"2.3.1\"\n\
             \x20 lease: {{mode: Heartbeat, durationSeconds: 3600}}\n",
            i / 250,
            i % 250 + 1
        ));
    }
    yaml
}

/// Runs `kubectl apply --server-side`.
pub fn apply(dev: &Dev, yaml: &str) {
    let mut kubectl = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(dev.kubeconfig())
        .args(["apply", "--server-side", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("kubectl is needed");
    kubectl.stdin.take().unwrap().write_all(yaml.as_bytes()).unwrap();
    assert!(kubectl.wait().unwrap().success());
}
