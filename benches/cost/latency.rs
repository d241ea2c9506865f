//! The time from applying an instance to the first DNS response with its address.

use std::time::{Duration, Instant};

use kube::{
    Api,
    api::{Patch, PatchParams},
};
use rollcall_api::ServiceInstance;
use serde_json::json;

use crate::common::{
    ask::{query, until_named},
    dev::Dev,
    kubernetes::{client, namespace},
    process::dns,
};

/// The number of applied instances.
const APPLIED: usize = 200;

/// Applies instances one after another as `kubectl apply --server-side` does (without starting kubectl each time), and
/// queries DNS for each until the response is not empty.
pub fn run(dev: &Dev) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut total = Vec::new();
    let mut after = Vec::new();
    runtime.block_on(async {
        let client = client(dev).await;
        namespace(&client, "latency").await;
        let api: Api<ServiceInstance> = Api::namespaced(client, "latency");
        for i in 0..APPLIED {
            let (since_sent, since_answered) = measure(&api, dev, i).await;
            total.push(since_sent);
            after.push(since_answered);
        }
    });
    print("apply sent → first DNS answer", &mut total);
    print("apply answered → first DNS answer", &mut after);
}

async fn measure(api: &Api<ServiceInstance>, dev: &Dev, i: usize) -> (Duration, Duration) {
    let object = json!({
        "apiVersion": "rollcall.dev/v1alpha1", "kind": "ServiceInstance",
        "metadata": {"name": format!("i-{i}")},
        "spec": {
            "service": format!("s-{i}"), "addresses": ["10.0.0.1"],
            "ports": [{"name": "http", "port": 80}], "lease": {"mode": "Permanent"},
        },
    });
    let query = query(&format!("s-{i}.latency.svc.rollcall.internal"), 1);
    let address = dns(dev);
    let querying = std::thread::spawn(move || until_named(address, &query));
    let sent = Instant::now();
    let parameters = PatchParams::apply("bench");
    api.patch(&format!("i-{i}"), &parameters, &Patch::Apply(&object)).await.unwrap();
    let answered = Instant::now();
    let named = querying.join().unwrap();
    (named - sent, named.saturating_duration_since(answered))
}

fn print(name: &str, times: &mut [Duration]) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{name:<36} p50 {:.1} ms   p99 {:.1} ms   max {:.1} ms   of {}",
        at(0.5),
        at(0.99),
        at(1.0),
        times.len()
    );
}
