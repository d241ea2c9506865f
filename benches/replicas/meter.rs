//! The cost of a span of time: the API calls of each replica, the bytes received by etcd and sent by watches, and CPU
//! time.
//!
//! The API server spends CPU time on producing its metrics, 2 MB of text. So the span begins after the first reading
//! and ends before the second.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use crate::{
    common::dev::cpu,
    fleet::Fleet,
    scrape::{Counts, label, samples, scrape},
};

/// All rates, each per second.
pub struct Rates {
    /// The writes of each replica, by verb and resource.
    pub writes: Vec<Counts>,
    /// The bytes of request bodies, by resource.
    pub bodies: Counts,
    /// The changes that were stored.
    pub puts: f64,
    /// The bytes that etcd received.
    pub into_etcd: f64,
    /// The bytes of all watch events that were sent.
    pub watched: f64,
    /// The CPU cores that each replica uses.
    pub replicas: Vec<f64>,
    pub apiserver: f64,
    pub etcd: f64,
    /// The CPU cores that this process uses to send heartbeats and observe.
    pub load: f64,
    /// Heartbeats, over HTTP or by patches.
    pub heartbeats: f64,
    pub span: Duration,
}

impl Rates {
    /// The sum of the writes of each replica.
    pub fn writes_by_replica(&self) -> Vec<f64> {
        self.writes.iter().map(|calls| calls.values().sum()).collect()
    }

    /// The writes of all replicas with this verb and resource.
    pub fn writes_of(&self, call: &str) -> f64 {
        self.writes.iter().filter_map(|calls| calls.get(call)).sum()
    }

    /// All costs, in the order of the table.
    pub fn totals(&self) -> [f64; 6] {
        [
            self.puts,
            self.into_etcd,
            self.watched,
            self.replicas.iter().sum(),
            self.apiserver,
            self.etcd,
        ]
    }
}

#[derive(Default)]
struct Reading {
    writes: Vec<Counts>,
    bodies: Counts,
    puts: f64,
    into_etcd: f64,
    watched: f64,
}

/// A span in progress.
pub struct Meter<'a> {
    fleet: &'a Fleet,
    /// The replicas that run during the whole span.
    replicas: Vec<usize>,
    before: Reading,
    cpu: Vec<f64>,
    began: Instant,
}

impl<'a> Meter<'a> {
    pub fn start(fleet: &'a Fleet, replicas: Vec<usize>) -> Self {
        let before = read_metrics(fleet, &replicas);
        let cpu = cpu_seconds(fleet, &replicas);
        Self { fleet, replicas, before, cpu, began: Instant::now() }
    }

    /// Ends the span, in which `beats` heartbeats a second were sent.
    pub fn end(self, beats: f64) -> Rates {
        let span = self.began.elapsed();
        let seconds = span.as_secs_f64();
        let spent = cpu_seconds(self.fleet, &self.replicas);
        let mut cpu: Vec<_> =
            spent.iter().zip(&self.cpu).map(|(after, before)| (after - before) / seconds).collect();
        let after = read_metrics(self.fleet, &self.replicas);
        let before = &self.before;
        let [apiserver, etcd, load] = cpu.split_off(self.replicas.len())[..] else {
            unreachable!()
        };
        let rate = |after: f64, before: f64| (after - before) / seconds;
        let writes = after.writes.iter().zip(&before.writes);
        Rates {
            writes: writes.map(|(after, before)| per_second(after, before, seconds)).collect(),
            bodies: per_second(&after.bodies, &before.bodies, seconds),
            puts: rate(after.puts, before.puts),
            into_etcd: rate(after.into_etcd, before.into_etcd),
            watched: rate(after.watched, before.watched),
            replicas: cpu,
            apiserver,
            etcd,
            load,
            heartbeats: beats,
            span,
        }
    }
}

fn per_second(after: &Counts, before: &Counts, seconds: f64) -> Counts {
    let rate = |(name, count): (&String, &f64)| {
        let before = before.get(name).copied().unwrap_or_default();
        (name.clone(), (count - before) / seconds)
    };
    after.iter().map(rate).filter(|(_, rate)| *rate > 0.0).collect()
}

/// The CPU seconds of the replicas, the API server, etcd and this process.
fn cpu_seconds(fleet: &Fleet, replicas: &[usize]) -> Vec<f64> {
    let replicas = replicas.iter().map(|i| fleet.replicas[*i].pid);
    let others = [fleet.part("apiserver"), fleet.part("etcd"), std::process::id()];
    replicas.chain(others).map(cpu).collect()
}

fn read_metrics(fleet: &Fleet, replicas: &[usize]) -> Reading {
    let mut reading = Reading {
        writes: replicas.iter().map(|i| writes(fleet, *i)).collect(),
        ..Reading::default()
    };
    let request = hyper::Request::get("/metrics").body(Vec::new()).unwrap();
    let text = fleet.runtime.block_on(fleet.client.request_text(request)).unwrap();
    for (metric, value) in samples(&text) {
        if metric.starts_with("apiserver_request_body_size_bytes_sum{") {
            if let Some(resource) = label(metric, "resource").filter(|_| is_ours(metric)) {
                *reading.bodies.entry(resource.to_owned()).or_default() += value;
            }
        } else if metric.starts_with("apiserver_watch_events_sizes_sum{") && is_ours(metric) {
            reading.watched += value;
        }
    }
    for (metric, value) in samples(&etcd_metrics(fleet)) {
        match metric {
            "etcd_mvcc_put_total" => reading.puts = value,
            "etcd_network_client_grpc_received_bytes_total" => reading.into_etcd = value,
            _ => {}
        }
    }
    reading
}

/// The writes of a replica so far, from its own metrics.
fn writes(fleet: &Fleet, replica: usize) -> Counts {
    let mut counts = Counts::new();
    for (metric, value) in scrape(fleet.replicas[replica].admin) {
        if !metric.starts_with("rollcall_api_calls_total{") {
            continue;
        }
        let (verb, resource) = (label(&metric, "verb"), label(&metric, "resource"));
        let (verb, resource) = (verb.unwrap_or_default(), resource.unwrap_or_default());
        if matches!(verb, "create" | "update" | "patch" | "apply" | "delete") {
            *counts.entry(format!("{verb} {resource}")).or_default() += value;
        }
    }
    counts
}

/// The metrics of etcd. etcd listens on a socket in its working folder. The path of that folder may be too long for a
/// socket address.
fn etcd_metrics(fleet: &Fleet) -> String {
    let mut socket =
        UnixStream::connect(format!("/proc/{}/cwd/etcd:0", fleet.part("etcd"))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.write_all(b"GET /metrics HTTP/1.0\r\nhost: localhost\r\n\r\n").unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    text
}

/// Whether the metric counts requests that rollcall or this benchmark can send.
fn is_ours(metric: &str) -> bool {
    let group = label(metric, "group").unwrap_or_default();
    let resource = label(metric, "resource").unwrap_or_default();
    group == "rollcall.dev" || matches!(resource, "events" | "leases")
}
