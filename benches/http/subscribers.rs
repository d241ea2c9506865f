//! The time from a change in the Kubernetes API to the HTTP watches of its service, compared with a watch of etcd, and
//! with a loop that relays such a watch (`relay`). All processes share both cores.

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

/// The number of rounds. In each, rollcall and the relay take turns.
const ROUNDS: usize = 4;

/// The number of changes in each round.
const CHANGES: u64 = 50;

/// The pause between two changes, so that they do not overlap.
const PAUSE: Duration = Duration::from_millis(50);

const TIMEOUT: Duration = Duration::from_secs(10);

/// The changed object, in etcd.
pub const KEY: &str = "/registry/rollcall.dev/serviceinstances/watched/one-0";

/// The changed field of the object.
pub fn weight(value: &Value) -> u64 {
    value["spec"]["weight"].as_u64().unwrap_or(0)
}

/// Measures one subscriber of rollcall, then a thousand subscribers of rollcall and of the relay.
pub fn run(dev: &Dev, open: Server) {
    apply(dev, &instances("watched", "one", 1));
    let mut single = Times::default();
    for _ in 0..ROUNDS {
        measure(dev, open.address, 1, &mut single);
    }
    single.report("1 subscriber");
    let (mut ours, mut relays, mut relay) = (Times::default(), Times::default(), None);
    for _ in 0..ROUNDS {
        let size = measure(dev, open.address, 1_000, &mut ours);
        let start = || Bare::start("relay", size, &[dev.dir.as_os_str()]);
        measure(dev, relay.get_or_insert_with(start).address, 1_000, &mut relays);
    }
    let (ours, relays) =
        (ours.report("1000 subscribers"), relays.report("1000 subscribers of a bare relay"));
    println!(
        "1000 subscribers compared with the bare relay: ratio {:.2} and {:.2}",
        ours.0 / relays.0,
        ours.1 / relays.1
    );
}

/// Times since a change, in milliseconds.
#[derive(Default)]
struct Times {
    subscribers: Vec<f64>,
    etcd: Vec<f64>,
}

impl Times {
    /// Prints the percentiles, and returns p50 and p99 of the subscribers.
    fn report(mut self, name: &str) -> (f64, f64) {
        let percentiles = |all: &mut [f64]| (median(all), all[(all.len() - 1) * 99 / 100]);
        let (p50, p99) = percentiles(&mut self.subscribers);
        let (etcd_p50, etcd_p99) = percentiles(&mut self.etcd);
        println!(
            "change → {name:<32} p50 {p50:.1} ms   p99 {p99:.1} ms   etcd watch p50 {etcd_p50:.1} ms   p99 \
             {etcd_p99:.1} ms   ratio {:.2} and {:.2}",
            p50 / etcd_p50,
            p99 / etcd_p99,
        );
        (p50, p99)
    }
}

/// Returns the bytes of a change that a subscriber received.
fn measure(dev: &Dev, address: SocketAddr, count: usize, times: &mut Times) -> usize {
    let changes = etcd::watch(&dev.dir, KEY);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let api: Api<ServiceInstance> =
        runtime.block_on(async { Api::namespaced(client(dev).await, "watched") });
    let change = |wanted: u64| {
        let patch = Patch::Merge(json!({"spec": {"weight": wanted}}));
        let sent = Instant::now();
        runtime.block_on(api.patch("one-0", &PatchParams::default(), &patch)).unwrap();
        // Another change may come first, for example the leader's write of the status.
        let mut received = std::iter::from_fn(|| changes.recv_timeout(TIMEOUT).ok());
        let (in_etcd, _) = received.find(|(_, value)| weight(value) == wanted).unwrap();
        std::thread::sleep(PAUSE);
        (sent, in_etcd)
    };
    // All streams then begin with the same known weight.
    change(CHANGES + 1);
    let streams = Streams::open(address, "/v1/namespaces/watched/services/one/watch", count);
    for weight in 1..=CHANGES {
        let (sent, in_etcd) = change(weight);
        let received = eventually(TIMEOUT, || streams.take_all());
        times.subscribers.extend(received.into_iter().map(|at| millis(at - sent)));
        times.etcd.push(millis(in_etcd - sent));
    }
    streams.size()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
