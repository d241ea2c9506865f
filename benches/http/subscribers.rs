//! From a change, written by somebody else to the Kubernetes API, to those who watch its service over HTTP, beside a
//! watch of etcd, and beside the least that could be done with that watch (`relay`).

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use kube::{
    Api,
    api::{Patch, PatchParams},
};
use rollcall::api::ServiceInstance;
use serde_json::{Value, json};

use crate::{
    Server,
    common::{
        ask::eventually,
        compare::median,
        dev::Dev,
        kubernetes::{apply, client, instances},
        process::Bare,
    },
    etcd,
    streams::Streams,
};

/// Changes.
const CHANGES: u64 = 200;

/// Between two of them, so that each is alone.
const PAUSE: Duration = Duration::from_millis(50);

const PATIENCE: Duration = Duration::from_secs(10);

/// What is changed, in etcd.
pub const KEY: &str = "/registry/rollcall.dev/serviceinstances/watched/one-0";

/// What is changed of it.
pub fn weight(value: &Value) -> u64 {
    value["spec"]["weight"].as_u64().unwrap_or(0)
}

/// With one subscriber, and with a thousand of rollcall and of the relay.
pub fn run(dev: &Dev, open: Server) {
    apply(dev, &instances("watched", "one", 1));
    measure(dev, "subscriber", open.address, 1);
    let ours = measure(dev, "subscribers", open.address, 1_000);
    let relay = Bare::start("relay", ours.size, &[dev.dir.as_os_str()]);
    let theirs = measure(dev, "of a bare relay", relay.address, 1_000);
    println!(
        "a thousand beside the bare relay: ratio {:.2} and {:.2}",
        ours.p50 / theirs.p50,
        ours.p99 / theirs.p99
    );
}

/// From changes to all subscribers, in milliseconds.
struct Measured {
    p50: f64,
    p99: f64,
    /// Octets that a subscriber was sent of a change.
    size: usize,
}

fn measure(dev: &Dev, whose: &str, address: SocketAddr, count: usize) -> Measured {
    let changes = etcd::watch(&dev.dir, KEY);
    let streams = Streams::begin(address, "/v1/namespaces/watched/services/one/watch", count);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    runtime.block_on(async {
        let api: Api<ServiceInstance> = Api::namespaced(client(dev).await, "watched");
        for at in 0..CHANGES {
            // Never the one that it has.
            let wanted = 1 + (at + count as u64) % 1_000;
            let patch = Patch::Merge(json!({"spec": {"weight": wanted}}));
            let sent = Instant::now();
            api.patch("one-0", &PatchParams::default(), &patch).await.unwrap();
            // Somebody else may have written before: the leader, a status.
            let mut come = std::iter::from_fn(|| changes.recv_timeout(PATIENCE).ok());
            let (came, _) = come.find(|(_, value)| weight(value) == wanted).unwrap();
            theirs.push(millis(came - sent));
            std::thread::sleep(PAUSE);
            let all = eventually(PATIENCE, || streams.take_all());
            ours.extend(all.into_iter().map(|at| millis(at - sent)));
        }
    });
    let at = |all: &[f64], percent: usize| all[(all.len() - 1) * percent / 100];
    let (p50, etcd_p50) = (median(&mut ours), median(&mut theirs));
    let (p99, etcd_p99) = (at(&ours, 99), at(&theirs, 99));
    println!(
        "change → {count:>4} {whose:<15} p50 {p50:.1} ms   p99 {p99:.1} ms   etcd watch p50 {etcd_p50:.1} ms   p99 \
         {etcd_p99:.1} ms   ratio {:.2} and {:.2}",
        p50 / etcd_p50,
        p99 / etcd_p99,
    );
    Measured { p50, p99, size: streams.size() }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
