//! The cost of HTTP, compared with a bare server on the same machine: `cargo bench --bench http`.
//!
//! Runs `rollcall dev` (a real control plane). With each server on one core and the load on the other, it prints: the
//! CPU time per heartbeat and per discovery, compared with a bare hyper server that sends as many bytes, over HTTP/1.1
//! and HTTP/2, with and without tokens, at full load and at half of it; the CPU time per heartbeat in batches; and the
//! same costs compared with r-nacos, if it is installed. On both cores it prints: the time from a change to its
//! subscribers, compared with a watch of etcd and a bare relay of that watch; and the time of a registration, compared
//! with a bare create. Each ratio comes from one run in which both sides take turns. `cargo bench --bench http --
//! heartbeats` runs one part; parts: heartbeats, batch, nacos, subscribers, register.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::needless_pass_by_value,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark fails by panicking, measures real time and prints"
)]

#[path = "../common/mod.rs"]
mod common;
mod etcd;
mod http1;
mod http2;
mod nacos;
mod register;
mod relay;
mod replica;
mod streams;
mod subscribers;

use std::{net::SocketAddr, time::Duration};

use common::{
    bare,
    compare::compare,
    dev::Dev,
    kubernetes::{apply, instances},
    process::{self, Bare, cpu_per, pin, replica_pid},
};
use replica::Replica;
use serde_json::json;

/// The cores of the servers and of the load.
const SERVERS: usize = 0;
const LOAD: usize = 1;

/// The number of heartbeats in a batch.
const BATCH: usize = 1_000;

/// A measured server.
#[derive(Clone, Copy)]
pub struct Server {
    pub pid: u32,
    pub address: SocketAddr,
}

/// A request that each client sends repeatedly.
pub struct Request {
    pub method: &'static str,
    pub path: String,
    pub token: Option<String>,
    pub body: String,
}

impl Request {
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), token: None, body: String::new() }
    }
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let part = args.next();
    if part.as_deref() == Some("bare-http") {
        return bare::http(args.next().unwrap().parse().unwrap());
    }
    if part.as_deref() == Some("relay") {
        return relay::run(args.next().unwrap().parse().unwrap(), args.next().unwrap().into());
    }
    let wants = |name: &str| part.as_deref().is_none_or(|part| part == name);
    let dev = Dev::start(1);
    println!("# rollcall {}", env!("CARGO_PKG_VERSION"));
    let open = Server { pid: replica_pid(&dev), address: process::http(&dev) };
    apply(&dev, &instances("bench", "beats", 10));
    if wants("register") {
        register::run(&dev, open);
    }
    if wants("subscribers") {
        subscribers::run(&dev, open);
    }
    // Processes that are started from here on are limited to one core, so they start one worker thread.
    pin(std::process::id(), LOAD);
    if wants("heartbeats") {
        heartbeats(&dev);
    }
    if wants("batch") {
        batches(&dev);
    }
    if wants("nacos") {
        let replica = pin_server(Replica::open(&dev, "bench"));
        nacos::run(replica.server);
    }
}

/// Pins a replica to the core of the servers.
fn pin_server(replica: Replica) -> Replica {
    pin(replica.server.pid, SERVERS);
    replica
}

/// Single heartbeats and discoveries, over both protocols, with and without a token.
fn heartbeats(dev: &Dev) {
    for replica in [Replica::open(dev, "bench"), Replica::with_tokens(dev, "bench")] {
        let Replica { server: ours, token, .. } = &pin_server(replica);
        let (ours, auth) = (*ours, if token.is_some() { ", token" } else { "" });
        for (name, method, path) in [
            ("heartbeat", "PUT", "/v1/namespaces/bench/instances/beats-0/heartbeat"),
            ("discover of 10", "GET", "/v1/namespaces/bench/services/beats"),
        ] {
            let request = Request { token: token.clone(), ..Request::new(method, path) };
            let size = http1::until(ours.address, &request, 200);
            let bare = Bare::start("bare-http", size, &[]);
            pin(bare.pid, SERVERS);
            let theirs = Server { pid: bare.pid, address: bare.address };
            let side = |is_ours: bool| if is_ours { ours } else { theirs };
            compare(&format!("{name}, HTTP/1.1{auth}"), "bare hyper", |is_ours| {
                let server = side(is_ours);
                cpu_per(server.pid, || http1::run(server.address, &request, None))
            });
            let pace = http1::half_pace(ours.address, &request);
            compare(&format!("{name}, HTTP/1.1{auth}, half"), "bare hyper", |is_ours| {
                let server = side(is_ours);
                cpu_per(server.pid, || http1::run(server.address, &request, Some(pace)))
            });
            compare(&format!("{name}, HTTP/2{auth}"), "bare hyper", |is_ours| {
                let server = side(is_ours);
                cpu_per(server.pid, || http2::run(server.address, &request))
            });
        }
    }
}

/// Heartbeats in batches.
fn batches(dev: &Dev) {
    let replica = pin_server(Replica::open(dev, "bench"));
    let open = replica.server;
    apply(dev, &instances("bench", "many", BATCH));
    let names: Vec<_> =
        (0..BATCH).map(|at| json!({"namespace": "bench", "name": format!("many-{at}")})).collect();
    let body = json!({"instances": names}).to_string();
    let request = Request { body, ..Request::new("POST", "/v1/heartbeats") };
    common::ask::eventually(Duration::from_secs(60), || {
        let answer = http1::once(open.address, &request);
        answer.contains(&format!("\"renewed\":{BATCH}")).then_some(())
    });
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..7 {
        samples[0].push(cpu_per(open.pid, || http1::run_some(open.address, &request, 300)));
        samples[1].push(cpu_per(open.pid, || http2::run_some(open.address, &request, 300)));
    }
    for (name, mut all) in ["HTTP/1.1", "HTTP/2"].into_iter().zip(samples) {
        let each = common::compare::median(&mut all) / BATCH as f64;
        println!("a heartbeat in batches of {BATCH}, {name:<10} {each:>6.2} µs CPU");
    }
}
