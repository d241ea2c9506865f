//! The time from the end of a lease until the instance is gone from every response of every replica.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use crate::{
    Run,
    figures::Times,
    fleet::Fleet,
    observe::{self, Observation},
};

/// The result of the stage.
#[derive(Default)]
pub struct CrashResult {
    /// From the end of a lease until the last server of the last replica has dropped the instance.
    pub late: Times,
    /// Instances that at least one server dropped before the end of their lease.
    pub early: usize,
    /// Responses without an instance that still sends heartbeats.
    pub missing_live: usize,
    /// Instances that were still discoverable at the end.
    pub left: usize,
}

/// When a server first dropped each of the victims, and how often another instance was missing.
struct ServerLog {
    dropped: Vec<Option<Instant>>,
    missing_live: usize,
}

/// Waits until one second before the first lease ends. An instance that is dropped too early is still missing then.
pub fn wait(fleet: &Fleet, lasts: &[Option<Instant>]) {
    let first = lasts.iter().flatten().min().copied().unwrap_or_else(Instant::now);
    let from = first + Duration::from_secs(fleet.run.lease - 1);
    std::thread::sleep(from.saturating_duration_since(Instant::now()));
}

/// Observes all servers until they have dropped the victims, which send no more heartbeats.
pub fn run(fleet: &Fleet, lasts: &[Option<Instant>]) -> CrashResult {
    let (run, lease) = (fleet.run, Duration::from_secs(fleet.run.lease));
    let (stop, unfinished) = (AtomicBool::new(false), AtomicUsize::new(2 * fleet.replicas.len()));
    let logs: Vec<ServerLog> = std::thread::scope(|scope| {
        let mut servers = Vec::new();
        for replica in &fleet.replicas {
            let (stop, unfinished) = (&stop, &unfinished);
            servers.push(scope.spawn(move || {
                log_server(run, unfinished, |record| {
                    observe::dns(replica.dns, run.services(), stop, record);
                })
            }));
            servers.push(scope.spawn(move || {
                log_server(run, unfinished, |record| {
                    observe::http(replica.http, run.services(), stop, record);
                })
            }));
        }
        let bound = Instant::now() + 2 * lease + Duration::from_secs(30);
        while unfinished.load(Ordering::Relaxed) > 0 && Instant::now() < bound {
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        servers.into_iter().map(|server| server.join().unwrap()).collect()
    });
    evaluate(&logs, lasts, lease)
}

/// Logs the observations of one server, and decrements `unfinished` when it has dropped all victims.
fn log_server(
    run: Run,
    unfinished: &AtomicUsize,
    observe: impl FnOnce(&mut dyn FnMut(&Observation<'_>)),
) -> ServerLog {
    let mut log = ServerLog { dropped: vec![None; run.victims], missing_live: 0 };
    let mut remaining = run.victims;
    observe(&mut |observation| {
        let Some(discoverable) = observation.discoverable else { return };
        for i in run.members(observation.service).filter(|i| !discoverable.contains(i)) {
            let Some(victim) = run.victim_of(i) else {
                log.missing_live += 1;
                continue;
            };
            if log.dropped[victim].is_none() {
                log.dropped[victim] = Some(observation.at);
                remaining -= 1;
                unfinished.fetch_sub(usize::from(remaining == 0), Ordering::Relaxed);
            }
        }
    });
    log
}

fn evaluate(logs: &[ServerLog], lasts: &[Option<Instant>], lease: Duration) -> CrashResult {
    let missing_live = logs.iter().map(|log| log.missing_live).sum();
    let mut result = CrashResult { missing_live, ..CrashResult::default() };
    for (victim, sent) in lasts.iter().enumerate() {
        let Some(end) = sent.map(|sent| sent + lease) else { continue };
        let dropped = logs.iter().map(|log| log.dropped[victim]);
        result.early += usize::from(dropped.clone().flatten().any(|at| at < end));
        match dropped.collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max()) {
            Some(last) => result.late.push(last.saturating_duration_since(end)),
            None => result.left += 1,
        }
    }
    result
}
