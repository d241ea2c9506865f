//! The leader is killed: the time until another replica leads, and the DNS responses during that time.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    connection::Connection,
    figures::Times,
    fleet::{Fleet, Replica},
    observe::{self, Observation},
};

/// The longest time until another replica leads.
const BOUND: Duration = Duration::from_secs(60);

/// How long the other replicas are observed afterwards.
const AFTER: Duration = Duration::from_secs(3);

/// The result of the stage.
#[derive(Default)]
pub struct Failover {
    /// The time from the kill until another replica reports a new leader.
    pub leaderless: Times,
    /// The number of DNS queries to the other replicas.
    pub queries: usize,
    /// Queries that timed out or failed.
    pub unanswered: usize,
    /// Responses in which a live instance is missing, or that contain an expired one.
    pub wrong: usize,
    /// The longest time between two correct responses about one service from one replica.
    pub longest_gap: Duration,
}

/// Kills the leader, and observes the other replicas.
pub fn run(fleet: &Fleet) -> Failover {
    let (leader, others) = fleet.replicas.split_first().unwrap();
    let mut connections: Vec<_> =
        others.iter().map(|replica| Connection::to(replica.http)).collect();
    let before = reported_leader(&mut connections[0]).unwrap();
    assert_eq!(before[0], *leader.identity, "another replica leads already");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let observers: Vec<_> =
            others.iter().map(|replica| scope.spawn(|| observe(fleet, replica, &stop))).collect();
        std::thread::sleep(Duration::from_millis(500));
        let pid = Pid::from_raw(leader.pid as i32).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        let killed = Instant::now();
        let has_changed = |replica: &mut Connection| {
            reported_leader(replica).is_some_and(|leader| leader != before)
        };
        while !connections.iter_mut().any(has_changed) {
            assert!(killed.elapsed() < BOUND, "no replica leads");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut failover = Failover::default();
        failover.leaderless.push(killed.elapsed());
        std::thread::sleep(AFTER);
        stop.store(true, Ordering::Relaxed);
        for observer in observers {
            let observed = observer.join().unwrap();
            failover.queries += observed.queries;
            failover.unanswered += observed.unanswered;
            failover.wrong += observed.wrong;
            failover.longest_gap = failover.longest_gap.max(observed.longest_gap);
        }
        failover
    })
}

/// The leader, and when its leadership began. `None` when there is no leader.
fn reported_leader(replica: &mut Connection) -> Option<[Value; 2]> {
    let cluster = replica.json("/v1/cluster")?;
    let leader = [cluster["leader"].clone(), cluster["leaderSince"].clone()];
    (!leader[0].is_null()).then_some(leader)
}

/// Checks that the DNS responses of a replica contain exactly the live instances, until `stop`.
fn observe(fleet: &Fleet, replica: &Replica, stop: &AtomicBool) -> Failover {
    let run = fleet.run;
    let live = |service| run.members(service).filter(|i| run.victim_of(*i).is_none());
    let expected: Vec<Vec<usize>> = (0..run.services()).map(|it| live(it).collect()).collect();
    let mut last_correct = vec![Instant::now(); run.services()];
    let mut result = Failover::default();
    observe::dns(replica.dns, run.services(), stop, |observation: &Observation<'_>| {
        result.queries += 1;
        let Some(discoverable) = observation.discoverable else {
            result.unanswered += 1;
            return;
        };
        let mut discoverable = discoverable.to_vec();
        discoverable.sort_unstable();
        if discoverable != expected[observation.service] {
            result.wrong += 1;
            return;
        }
        let last = &mut last_correct[observation.service];
        result.longest_gap = result.longest_gap.max(observation.at - *last);
        *last = observation.at;
    });
    // The gaps that last until the end count too.
    result.longest_gap =
        last_correct.iter().map(Instant::elapsed).fold(result.longest_gap, Duration::max);
    result
}
