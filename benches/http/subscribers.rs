//! From a change, written by somebody else to the Kubernetes API, to those who watch its service over HTTP, beside a
//! watch of etcd, and beside a loop that hands such a watch on (`relay`). Everybody shares both cores.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use kube::{
    Api,
    api::{Patch, PatchParams},
};
use rollcall_api::ServiceInstance;
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

/// Rollcall and the relay take turns.
const ROUNDS: usize = 4;

/// In each of them.
const CHANGES: u64 = 50;

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
    let mut one = Times::default();
    for _ in 0..ROUNDS {
        measure(dev, open.address, 1, &mut one);
    }
    one.report("1 subscriber");
    let (mut ours, mut relays, mut relay) = (Times::default(), Times::default(), None);
    for _ in 0..ROUNDS {
        let size = measure(dev, open.address, 1_000, &mut ours);
        let start = || Bare::start("relay", size, &[dev.dir.as_os_str()]);
        measure(dev, relay.get_or_insert_with(start).address, 1_000, &mut relays);
    }
    let (ours, relays) =
        (ours.report("1000 subscribers"), relays.report("1000 subscribers of a bare relay"));
    println!(
        "a thousand beside the bare relay: ratio {:.2} and {:.2}",
        ours.0 / relays.0,
        ours.1 / relays.1
    );
}

/// From a change, in milliseconds.
#[derive(Default)]
struct Times {
    subscribers: Vec<f64>,
    etcd: Vec<f64>,
}

impl Times {
    /// Prints them; answers p50 and p99 of the subscribers.
    fn report(mut self, whose: &str) -> (f64, f64) {
        let percentiles = |all: &mut [f64]| (median(all), all[(all.len() - 1) * 99 / 100]);
        let (p50, p99) = percentiles(&mut self.subscribers);
        let (etcd_p50, etcd_p99) = percentiles(&mut self.etcd);
        println!(
            "change → {whose:<32} p50 {p50:.1} ms   p99 {p99:.1} ms   etcd watch p50 {etcd_p50:.1} ms   p99 \
             {etcd_p99:.1} ms   ratio {:.2} and {:.2}",
            p50 / etcd_p50,
            p99 / etcd_p99,
        );
        (p50, p99)
    }
}

/// Answers how many octets a subscriber was sent of a change.
fn measure(dev: &Dev, address: SocketAddr, count: usize, times: &mut Times) -> usize {
    let changes = etcd::watch(&dev.dir, KEY);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let api: Api<ServiceInstance> =
        runtime.block_on(async { Api::namespaced(client(dev).await, "watched") });
    let change = |wanted: u64| {
        let patch = Patch::Merge(json!({"spec": {"weight": wanted}}));
        let sent = Instant::now();
        runtime.block_on(api.patch("one-0", &PatchParams::default(), &patch)).unwrap();
        // Somebody else may have written before: the leader, a status.
        let mut come = std::iter::from_fn(|| changes.recv_timeout(PATIENCE).ok());
        let (came, _) = come.find(|(_, value)| weight(value) == wanted).unwrap();
        std::thread::sleep(PAUSE);
        (sent, came)
    };
    // So that everybody knows which one it has before.
    change(CHANGES + 1);
    let streams = Streams::begin(address, "/v1/namespaces/watched/services/one/watch", count);
    for at in 1..=CHANGES {
        let (sent, came) = change(at);
        let told = eventually(PATIENCE, || streams.take_all());
        times.subscribers.extend(told.into_iter().map(|at| millis(at - sent)));
        times.etcd.push(millis(came - sent));
    }
    streams.size()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
