//! The heartbeats: those of most instances in batches, and those of the victims one by one.
//!
//! Each instance sends a heartbeat every third of its lease: each time to the next replica, or to another one if that
//! replica does not answer.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::Value;

use crate::{
    connection::Connection,
    fleet::{Fleet, NAMESPACE, name},
};

/// The maximum number of batches, and of single heartbeats, that are sent at once.
const THREADS: usize = 4;

/// The results of the heartbeats in batches.
#[derive(Clone, Copy, Default)]
pub struct HeartbeatCounts {
    pub renewed: u64,
    /// Answered with 202, which does not promise that the heartbeat survives a failure of the replica.
    pub recorded: u64,
    /// Refused, or not answered by any replica.
    pub lost: u64,
    /// The longest delay with which a batch was sent.
    pub late: Duration,
}

/// Threads that send heartbeats in batches until they are stopped. A delayed batch does not delay the others.
pub struct BatchLoad {
    stop: Arc<AtomicBool>,
    counts: Arc<Mutex<HeartbeatCounts>>,
    threads: Vec<JoinHandle<()>>,
}

impl BatchLoad {
    pub fn start(fleet: &Fleet) -> Self {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::default());
        // Not a multiple of 3, so that each instance sends each heartbeat to the next replica.
        let batches = if fleet.run.lease < 10 { 50 } else { 100 };
        let (began, next) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
        let sender = || BatchSender {
            replicas: connections(&fleet.http_addresses()),
            enabled: fleet.enabled.clone(),
            batches,
            pause: fleet.run.interval() / batches as u32,
            counts: Arc::clone(&counts),
        };
        let thread = |mut sender: BatchSender| {
            let (stop, next) = (stop.clone(), next.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    sender.send_next(began, next.fetch_add(1, Ordering::Relaxed));
                }
            })
        };
        let threads = (0..THREADS).map(|_| thread(sender())).collect();
        Self { stop, counts, threads }
    }

    /// Returns and resets the counts.
    pub fn take_counts(&self) -> HeartbeatCounts {
        std::mem::take(&mut *self.counts.lock())
    }

    pub fn end(self) -> HeartbeatCounts {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        *self.counts.lock()
    }
}

struct BatchSender {
    replicas: Vec<Connection>,
    /// For each instance, whether it sends heartbeats.
    enabled: Arc<Vec<AtomicBool>>,
    /// The number of batches in one heartbeat interval, and the time between two batches.
    batches: usize,
    pause: Duration,
    counts: Arc<Mutex<HeartbeatCounts>>,
}

impl BatchSender {
    fn send_next(&mut self, began: Instant, turn: usize) {
        let at = began + self.pause * turn as u32;
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        self.count(|counts| counts.late = counts.late.max(at.elapsed()));
        let all = (turn % self.batches..self.enabled.len()).step_by(self.batches);
        let instances: Vec<_> = all.filter(|i| self.enabled[*i].load(Ordering::Relaxed)).collect();
        self.send(turn, instances.into_iter());
    }

    fn send(&mut self, turn: usize, instances: impl Iterator<Item = usize>) {
        let entry = |i| format!("{{\"namespace\":\"{NAMESPACE}\",\"name\":\"{}\"}}", name(i));
        let entries: Vec<String> = instances.map(entry).collect();
        if entries.is_empty() {
            return;
        }
        let body = format!("{{\"instances\":[{}]}}", entries.join(","));
        let replicas = self.replicas.len();
        for replica in (turn..turn + replicas).map(|at| at % replicas) {
            let Ok((200, answer)) = self.replicas[replica].send("POST /v1/heartbeats", &body)
            else {
                continue;
            };
            let answer: Value = serde_json::from_slice(answer).unwrap();
            let member = |name: &str| answer[name].as_u64().unwrap_or_default();
            let (renewed, recorded) = (member("renewed"), member("recorded"));
            self.count(|counts| {
                counts.renewed += renewed;
                counts.recorded += recorded;
                counts.lost += (entries.len() as u64).saturating_sub(renewed + recorded);
            });
            return;
        }
        self.count(|counts| counts.lost += entries.len() as u64);
    }

    fn count(&self, change: impl FnOnce(&mut HeartbeatCounts)) {
        change(&mut self.counts.lock());
    }
}

fn connections(addresses: &[SocketAddr]) -> Vec<Connection> {
    addresses.iter().copied().map(Connection::to).collect()
}

/// Sends one heartbeat of one instance. Returns when it was sent, and when it was answered with 200.
pub fn send_heartbeat(replica: &mut Connection, i: usize) -> Option<(Instant, Instant)> {
    let line = format!("PUT /v1/namespaces/{NAMESPACE}/instances/{}/heartbeat", name(i));
    let sent = Instant::now();
    let (status, _) = replica.send(&line, "").ok()?;
    (status == 200).then(|| (sent, Instant::now()))
}

/// Threads that send single heartbeats for each victim, once every replica knows it.
pub struct SingleLoad {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<(usize, Instant)>>>,
}

impl SingleLoad {
    pub fn start(fleet: &Fleet) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (run, began, next) = (fleet.run, Instant::now(), Arc::new(AtomicUsize::new(0)));
        let thread = |mut replicas: Vec<Connection>| {
            let (stop, next, known) = (stop.clone(), next.clone(), fleet.known.clone());
            std::thread::spawn(move || {
                let mut sent = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    let at = began + run.interval() * turn as u32 / run.victims as u32;
                    std::thread::sleep(at.saturating_duration_since(Instant::now()));
                    let victim = turn % run.victims;
                    if run.victim(victim) >= known.load(Ordering::Relaxed) {
                        continue;
                    }
                    // Each heartbeat goes to the next replica.
                    let replica = (turn + turn / run.victims) % replicas.len();
                    let heartbeat = send_heartbeat(&mut replicas[replica], run.victim(victim));
                    sent.extend(heartbeat.map(|(sent, _)| (victim, sent)));
                }
                sent
            })
        };
        let threads = (0..THREADS).map(|_| thread(connections(&fleet.http_addresses()))).collect();
        Self { stop, threads }
    }

    /// Stops the threads. Returns for each victim when it sent the last heartbeat that was answered with 200.
    pub fn end(self, fleet: &Fleet) -> Vec<Option<Instant>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut lasts = vec![None; fleet.run.victims];
        for (victim, sent) in self.threads.into_iter().flat_map(|it| it.join().unwrap()) {
            lasts[victim] = lasts[victim].max(Some(sent));
        }
        lasts
    }
}
