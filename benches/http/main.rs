//! What HTTP costs, beside the least that the machine could do: `cargo bench --bench http`.
//!
//! Runs `rollcall dev` (a real control plane), and prints, each server on one core and the load on the other: CPU per
//! heartbeat and per discover beside a bare hyper server that answers as many octets, over HTTP/1.1 and HTTP/2, with and
//! without tokens, as fast as it goes and at half of that; CPU per beat in batches; the same beside r-nacos, when there
//! is one. And on both cores: the time from a change to its subscribers beside a watch of etcd and a bare relay of that; the
//! time of a registration beside a bare create. Ratios are of one run, in which both sides take turns. `cargo bench --bench http -- beats` runs one
//! part; parts: beats, batch, nacos, subscribers, register.

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

/// Where servers are, and where their load is.
const SERVERS: usize = 0;
const LOAD: usize = 1;

/// Beats in a batch.
const BATCH: usize = 1_000;

/// One of those that are measured.
#[derive(Clone, Copy)]
pub struct Server {
    pub pid: u32,
    pub address: SocketAddr,
}

/// A request as each client sends it, again and again.
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
    // What begins from here on sees one core, and has a thread for that.
    pin(std::process::id(), LOAD);
    if wants("beats") {
        beats(&dev);
    }
    if wants("batch") {
        batches(&dev);
    }
    if wants("nacos") {
        let replica = on_its_core(Replica::open(&dev, "bench"));
        nacos::run(replica.server);
    }
}

/// Away from the load.
fn on_its_core(replica: Replica) -> Replica {
    pin(replica.server.pid, SERVERS);
    replica
}

/// A beat and a discover, by every way.
fn beats(dev: &Dev) {
    for replica in [Replica::open(dev, "bench"), Replica::guarded(dev, "bench")] {
        let Replica { server: ours, token, .. } = &on_its_core(replica);
        let (ours, door) = (*ours, if token.is_some() { ", token" } else { "" });
        for (what, method, path) in [
            ("heartbeat", "PUT", "/v1/namespaces/bench/instances/beats-0/heartbeat"),
            ("discover of 10", "GET", "/v1/namespaces/bench/services/beats"),
        ] {
            let request = Request { token: token.clone(), ..Request::new(method, path) };
            let size = http1::until(ours.address, &request, 200);
            let bare = Bare::start("bare-http", size, &[]);
            pin(bare.pid, SERVERS);
            let theirs = Server { pid: bare.pid, address: bare.address };
            let side = |is_ours: bool| if is_ours { ours } else { theirs };
            compare(&format!("{what}, HTTP/1.1{door}"), "bare hyper", |is_ours| {
                let server = side(is_ours);
                cpu_per(server.pid, || http1::run(server.address, &request, None))
            });
            let pace = http1::half(ours.address, &request);
            compare(&format!("{what}, HTTP/1.1{door}, half"), "bare hyper", |is_ours| {
                let server = side(is_ours);
                cpu_per(server.pid, || http1::run(server.address, &request, Some(pace)))
            });
            compare(&format!("{what}, HTTP/2{door}"), "bare hyper", |is_ours| {
                let server = side(is_ours);
                cpu_per(server.pid, || http2::run(server.address, &request))
            });
        }
    }
}

/// Beats in batches, of as many instances.
fn batches(dev: &Dev) {
    let replica = on_its_core(Replica::open(dev, "bench"));
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
    let mut by = [Vec::new(), Vec::new()];
    for _ in 0..7 {
        by[0].push(cpu_per(open.pid, || http1::run_some(open.address, &request, 300)));
        by[1].push(cpu_per(open.pid, || http2::run_some(open.address, &request, 300)));
    }
    for (name, mut all) in ["HTTP/1.1", "HTTP/2"].into_iter().zip(by) {
        let each = common::compare::median(&mut all) / BATCH as f64;
        println!("a beat in batches of {BATCH}, {name:<10} {each:>6.2} µs CPU");
    }
}
