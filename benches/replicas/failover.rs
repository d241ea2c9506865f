//! The leader is killed: how long until another one leads, and what DNS answers meanwhile.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    connection::Connection,
    eyes::{self, Look},
    figures::Times,
    fleet::{Fleet, Replica},
};

/// How long somebody may take to lead.
const BOUND: Duration = Duration::from_secs(60);

/// How long it is watched afterwards.
const AFTER: Duration = Duration::from_secs(3);

/// What came of it.
#[derive(Default)]
pub struct Failover {
    /// From the kill until a living replica says that another one leads.
    pub leaderless: Times,
    /// Looks at the living replicas.
    pub looks: usize,
    /// Those that were not answered soon enough, or with an error.
    pub unanswered: usize,
    /// Those that left out somebody who beats, or discoverable one of the dead.
    pub wrong: usize,
    /// The longest time between two right answers about one service by one replica.
    pub blind: Duration,
}

/// Kills the first one and looks at the others.
pub fn run(fleet: &Fleet) -> Failover {
    let (leader, living) = fleet.replicas.split_first().unwrap();
    let mut doors: Vec<_> = living.iter().map(|replica| Connection::to(replica.http)).collect();
    let before = said(&mut doors[0]).unwrap();
    assert_eq!(before[0], *leader.identity, "another one leads already");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking: Vec<_> =
            living.iter().map(|replica| scope.spawn(|| look(fleet, replica, &stop))).collect();
        std::thread::sleep(Duration::from_millis(500));
        let pid = Pid::from_raw(leader.pid as i32).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        let killed = Instant::now();
        let changed = |door: &mut Connection| said(door).is_some_and(|said| said != before);
        while !doors.iter_mut().any(changed) {
            assert!(killed.elapsed() < BOUND, "nobody leads");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut failover = Failover::default();
        failover.leaderless.push(killed.elapsed());
        std::thread::sleep(AFTER);
        stop.store(true, Ordering::Relaxed);
        for one in looking {
            let seen = one.join().unwrap();
            failover.looks += seen.looks;
            failover.unanswered += seen.unanswered;
            failover.wrong += seen.wrong;
            failover.blind = failover.blind.max(seen.blind);
        }
        failover
    })
}

/// The leader and since when it leads; none while nobody does.
fn said(door: &mut Connection) -> Option<[Value; 2]> {
    let said = door.json("/v1/cluster")?;
    (!said["leader"].is_null()).then(|| [said["leader"].clone(), said["leaderSince"].clone()])
}

/// Whether one replica offers just those who beat, all the time.
fn look(fleet: &Fleet, replica: &Replica, stop: &AtomicBool) -> Failover {
    let run = fleet.run;
    let alive = |service| run.members(service).filter(|i| run.victim_of(*i).is_none());
    let expected: Vec<Vec<usize>> = (0..run.services()).map(|it| alive(it).collect()).collect();
    let mut right = vec![Instant::now(); run.services()];
    let mut seen = Failover::default();
    eyes::dns(replica.dns, run.services(), stop, |look: &Look<'_>| {
        seen.looks += 1;
        let Some(discoverable) = look.discoverable else {
            seen.unanswered += 1;
            return;
        };
        let mut discoverable = discoverable.to_vec();
        discoverable.sort_unstable();
        if discoverable != expected[look.service] {
            seen.wrong += 1;
            return;
        }
        seen.blind = seen.blind.max(look.at - right[look.service]);
        right[look.service] = look.at;
    });
    // What was wrong up to the end.
    seen.blind = right.iter().map(Instant::elapsed).fold(seen.blind, Duration::max);
    seen
}
