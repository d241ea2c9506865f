//! The cost of rollcall, compared with a bare server on the same machine: `cargo bench --bench cost`.
//!
//! Runs `rollcall dev` (a real control plane) and prints: the time from apply to the first DNS answer, the CPU time per
//! DNS query compared with a bare UDP loop, and the memory and start time with 10,000 instances. Each ratio comes from
//! one run in which both sides take turns. `cargo bench --bench cost -- dns` runs one part; parts: latency, dns, size.

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

#[path = "../common/mod.rs"]
mod common;
mod latency;
mod load;
mod size;

use std::time::Duration;

use common::{
    ask::query,
    bare,
    compare::compare,
    dev::Dev,
    kubernetes::{apply, instances},
    process::{self, cpu_per, replica_pid},
};

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let part = args.next();
    if part.as_deref() == Some("bare-udp") {
        return bare::udp(args.next().unwrap().parse().unwrap());
    }
    let wants = |name: &str| part.as_deref().is_none_or(|part| part == name);
    let dev = Dev::start(1);
    println!("# rollcall {} on {} cores", env!("CARGO_PKG_VERSION"), cores());
    if wants("latency") {
        latency::run(&dev);
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

/// The CPU time of DNS queries, compared with a bare loop that sends as many bytes.
fn dns(dev: &Dev) {
    apply(dev, &instances("bench", "names", 4));
    for (name, query) in [
        ("A of 4", query("names.bench.svc.rollcall.internal", 1)),
        ("SRV of 4", query("_http._tcp.names.bench.svc.rollcall.internal", 33)),
        ("NXDOMAIN", query("unknown.bench.svc.rollcall.internal", 1)),
    ] {
        let size = load::wait_for_answer(process::dns(dev), &query, Duration::from_secs(30));
        let bare = process::Bare::start("bare-udp", size, &[]);
        compare(name, "bare UDP loop", |ours| {
            let (pid, address) =
                if ours { (replica_pid(dev), process::dns(dev)) } else { (bare.pid, bare.address) };
            cpu_per(pid, || load::dns(address, &query))
        });
    }
}
