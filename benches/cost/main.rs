//! What rollcall costs, beside the least that the machine could do: `cargo bench --bench cost`.
//!
//! Runs `rollcall dev` (a real control plane) and prints: apply → first DNS answer, CPU per
//! heartbeat and per discover beside a bare hyper server, CPU per DNS query beside a bare UDP
//! loop, memory and start-to-ready with 10,000 instances. Ratios are of one run, in which both
//! sides take turns. `cargo bench --bench cost -- http` runs one part; parts: latency, http, dns,
//! size.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::needless_pass_by_value,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a benchmark fails by panicking, measures real time and prints"
)]

mod bare;
#[path = "../common/mod.rs"]
mod common;
mod latency;
mod load;
mod process;
mod size;

use std::time::Duration;

use common::{ask::query, dev::Dev};
use process::{apply, cpu_per, replica_pid};

/// Rounds of each side of a comparison, in turns.
const ROUNDS: usize = 7;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let part = args.next();
    match part.as_deref() {
        Some("bare-http") => return bare::http(args.next().unwrap().parse().unwrap()),
        Some("bare-udp") => return bare::udp(args.next().unwrap().parse().unwrap()),
        _ => {}
    }
    let wants = |name: &str| part.as_deref().is_none_or(|part| part == name);
    let dev = Dev::start(1);
    println!("# rollcall {} on {} cores", env!("CARGO_PKG_VERSION"), cores());
    if wants("latency") {
        latency::run(&dev);
    }
    if wants("http") {
        http(&dev);
    }
    if wants("dns") {
        dns(&dev);
    }
    if wants("size") {
        size::run(&dev);
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// CPU of heartbeats and discovers, beside a bare hyper server that answers as many bytes.
fn http(dev: &Dev) {
    apply(dev, &instances("bench", "beats", 10));
    let beat = load::Request::new("PUT", "/v1/namespaces/bench/instances/beats-0/heartbeat");
    let discover = load::Request::new("GET", "/v1/namespaces/bench/services/beats");
    for (name, request) in [("heartbeat", beat), ("discover of 10", discover)] {
        let size = request.wait_for(process::http(dev), 200, Duration::from_secs(30));
        let bare = process::Bare::start("bare-http", size);
        compare(name, "bare hyper", |ours| {
            let (pid, address) = if ours {
                (replica_pid(dev), process::http(dev))
            } else {
                (bare.pid, bare.address)
            };
            cpu_per(pid, || load::http(address, &request))
        });
    }
}

/// CPU of DNS queries, beside a bare loop that sends as many bytes back.
fn dns(dev: &Dev) {
    apply(dev, &instances("bench", "names", 4));
    for (name, query) in [
        ("A of 4", query("names.bench.svc.rollcall.internal", 1)),
        ("SRV of 4", query("_http._tcp.names.bench.svc.rollcall.internal", 33)),
        ("NXDOMAIN", query("nobody.bench.svc.rollcall.internal", 1)),
    ] {
        let size = load::wait_for_answer(process::dns(dev), &query, Duration::from_secs(30));
        let bare = process::Bare::start("bare-udp", size);
        compare(name, "bare UDP loop", |ours| {
            let (pid, address) =
                if ours { (replica_pid(dev), process::dns(dev)) } else { (bare.pid, bare.address) };
            cpu_per(pid, || load::dns(address, &query))
        });
    }
}

/// Runs both sides in turns and prints the medians, and the ratio of each pair of neighbours: their
/// median, least and most. A wide span says that the machine was busy with something else.
fn compare(name: &str, other: &str, mut cpu: impl FnMut(bool) -> f64) {
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    cpu(true);
    for _ in 0..ROUNDS {
        let (least, own) = (cpu(false), cpu(true));
        theirs.push(least);
        ours.push(own);
        ratios.push(own / least);
    }
    println!(
        "{name:<16} {:>6.2} µs CPU   {other:<13} {:>6.2} µs CPU   ratio {:.2} ({:.2} to {:.2})",
        median(&mut ours),
        median(&mut theirs),
        median(&mut ratios),
        ratios.first().copied().unwrap_or_default(),
        ratios.last().copied().unwrap_or_default(),
    );
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Manifests of `count` instances of one service, with a lease.
fn instances(namespace: &str, service: &str, count: usize) -> String {
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
