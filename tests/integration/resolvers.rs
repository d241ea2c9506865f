//! rollcall with other DNS software, each in a real process: resolvers that query it, a secondary that transfers from
//! it, and clients that query without pause.

mod availability;
mod cached_leases;
mod negative;
mod secondary;
mod sizes;
mod source_address;

use std::net::SocketAddr;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use serde_json::{Value, json};

use crate::support::http::try_call;
use crate::support::{Namespace, eventually};

/// The deadline of steps that take moments on an idle machine.
const BOUND: Duration = Duration::from_secs(60);

const ZONE: &str = "rollcall.internal";

/// `<name>.<namespace>.svc.<zone>`.
fn below(ns: &Namespace, name: &str) -> String {
    format!("{name}.{}.svc.{ZONE}", ns.name)
}

/// The body of a registration: a permanent instance with a port `http`.
fn permanent(service: &str, address: &str) -> Value {
    json!({
        "service": service, "addresses": [address], "ports": [{"name": "http", "port": 8080}],
        "lease": {"mode": "Permanent"},
    })
}

/// Registers an instance; repeats it while the replica is busy.
async fn register(http: SocketAddr, ns: &Namespace, name: &str, body: Value) {
    let path = format!("/v1/namespaces/{}/instances/{name}", ns.name);
    eventually("the instance is registered", BOUND, async || {
        let answer = try_call(http, "PUT", &path, Some(body.clone())).await.ok()?;
        let status = answer.status;
        assert!(matches!(status, 200 | 201 | 202 | 429 | 503), "{status}: {}", answer.json());
        matches!(status, 200 | 201).then_some(())
    })
    .await;
}

/// Registers `count` permanent instances of a service: `<service>-<n>`, each with its own address.
async fn register_many(http: SocketAddr, ns: &Namespace, (service, net): (&str, u8), count: usize) {
    let register_one = async |at: usize| {
        let address = format!("10.{net}.{}.{}", at / 250, at % 250);
        register(http, ns, &format!("{service}-{at}"), permanent(service, &address)).await;
    };
    stream::iter((0..count).map(register_one)).buffer_unordered(32).collect::<Vec<()>>().await;
}

async fn deregister(http: SocketAddr, ns: &Namespace, name: &str) {
    let path = format!("/v1/namespaces/{}/instances/{name}", ns.name);
    eventually("the instance is deregistered", BOUND, async || {
        let answer = try_call(http, "DELETE", &path, None).await.ok()?;
        matches!(answer.status, 204 | 404).then_some(())
    })
    .await;
}
