//! Ledgers: how a replica uses the ledgers of other replicas, and what it reports in its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use rollcall_core::{
    catalog::{Catalog, Settings},
    directory::{Directory, Heartbeat},
    fact::{Duty, Fact, SelfBeat},
    leadership::Leadership,
    ledger::{Ledger, PeerSeen, Segment, id},
};
use rollcall_model::{
    instance::{InstanceKey, Phase},
    lease::{Moment, Now, Wall},
};

use crate::rig::{ZONE, instance};

/// A replica `r0` whose ledgers and self-beats come back at once, and another replica `r1`, whose clock is 500
/// s behind.
pub struct Pair {
    pub catalog: Catalog,
    pub directory: Arc<Directory>,
    pub time: u64,
    pub version: u64,
    pub written_ledgers: Vec<Ledger>,
    pub sequence: u64,
    /// Version of the last ledger that `r0` observed of `r1`.
    pub observed_version: u64,
    /// The ledgers that the catalog asked to delete.
    pub deleted_ledgers: Vec<(String, u64)>,
}

const PEER_CLOCK_LAG: u64 = 500_000;

impl Pair {
    pub fn new() -> Self {
        let mut pair = Self::starting();
        pair.apply(Fact::LedgersListed(vec![]));
        pair
    }

    /// A replica that has listed instances but not ledgers.
    pub fn starting() -> Self {
        let directory = Arc::new(Directory::default());
        let own = InstanceKey::new("rollcall-system", "r0");
        let settings =
            Settings { own, boot: "b".into(), zone: ZONE.into(), ledger: Some("r0".into()) };
        let catalog = Catalog::new(settings, directory.clone());
        let mut pair = Self {
            catalog,
            directory,
            time: 1_000_000,
            version: 100,
            written_ledgers: vec![],
            sequence: 0,
            observed_version: 0,
            deleted_ledgers: vec![],
        };
        let instances = vec![Arc::new(instance("a"))];
        pair.apply(Fact::Listed { instances, index: 1 });
        pair
    }

    /// A replica that leads.
    pub fn leading() -> Self {
        let mut pair = Self::new();
        let leader = Some("r0".into());
        let leadership =
            Leadership { leader, since: None, tenure: Moment(u64::MAX), ..Leadership::default() };
        pair.apply(Fact::Leadership(leadership));
        pair
    }

    pub fn now(&self) -> Now {
        Now { moment: Moment(self.time), wall: Wall(0) }
    }

    pub fn apply(&mut self, fact: Fact) {
        let now = self.now();
        self.catalog.apply(fact, now);
    }

    /// Lets time pass. Self-beats and ledgers of this replica come back at once.
    pub fn advance(&mut self, milliseconds: u64) {
        let end = self.time + milliseconds;
        while self.time < end {
            self.time = self.catalog.next_settle(Moment(self.time)).0.min(end);
            for duty in self.catalog.settle(self.now(), 64) {
                self.version += 1;
                match duty {
                    Duty::SelfBeat(SelfBeat { value, .. }) => {
                        let mut own = instance("r0");
                        own.key = InstanceKey::new("rollcall-system", "r0");
                        own.service = "rollcall".into();
                        own.heartbeat = Some(value.into());
                        own.resource_version = self.version;
                        self.apply(Fact::Upserted(Arc::new(own)));
                        self.apply(Fact::SelfBeatWritten { answer: Ok(self.version) });
                    }
                    Duty::WriteLedger(ledger) => {
                        let sequence = ledger.sequence;
                        self.apply(Fact::LedgerWritten { sequence, answer: Ok(self.version) });
                        let back = Ledger { version: self.version, ..ledger.clone() };
                        self.apply(Fact::LedgerUpserted(Arc::new(back)));
                        self.written_ledgers.push(ledger);
                    }
                    Duty::DeleteLedger { replica, version } => {
                        self.deleted_ledgers.push((replica.to_string(), version));
                    }
                    _ => {}
                }
            }
        }
    }

    /// The next ledger of the other replica, stamped now.
    pub fn peer_ledger(&mut self, beats: Vec<(u64, u32)>) -> Ledger {
        self.sequence += 1;
        self.version += 1;
        let own = self.written_ledgers.last().map(|ledger| ledger.stamp);
        let peers = own.map(|stamp| PeerSeen {
            replica: "r0".into(),
            boot: "b".into(),
            stamp,
            at: Moment(self.time - PEER_CLOCK_LAG),
        });
        Ledger {
            replica: "r1".into(),
            boot: "x".into(),
            version: self.version,
            sequence: self.sequence,
            stamp: Moment(self.time - PEER_CLOCK_LAG),
            peers: peers.into_iter().collect(),
            segments: vec![Segment { first: self.sequence, sequence: self.sequence, beats }],
            ..Ledger::default()
        }
    }

    pub fn observe_ledger(&mut self, ledger: Ledger) {
        self.observed_version = ledger.version;
        self.apply(Fact::LedgerUpserted(Arc::new(ledger)));
    }

    /// Both replicas run for this many seconds. The other one writes a ledger every second.
    pub fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.advance(1_000);
            let ledger = self.peer_ledger(vec![]);
            self.observe_ledger(ledger);
        }
    }

    pub fn heartbeat(&self) -> Heartbeat {
        self.directory.heartbeat("shop", "a", None, None, Moment(self.time))
    }

    pub fn phase(&self) -> Phase {
        let view = self.directory.service("shop", "orders").unwrap();
        view.by_label("a").unwrap().phase
    }
}

#[test]
fn fence_opens_after_the_own_ledger_and_a_later_self_beat_came_back() {
    let mut pair = Pair::new();
    assert!(pair.directory.is_fenced(Moment(pair.time)));
    pair.advance(6_000);
    assert!(!pair.directory.is_fenced(Moment(pair.time)));
    assert!(
        pair.directory.is_fenced(Moment(pair.time + 10_000)),
        "the fence closes without a settle"
    );
}

#[test]
fn heartbeat_taken_by_another_replica_renews_the_lease() {
    let mut pair = Pair::new();
    pair.run(8);
    let ledger = pair.peer_ledger(vec![(id("uid-a"), 0)]);
    pair.observe_ledger(ledger);
    pair.run(9);
    assert_eq!(pair.phase(), Phase::Ready);
    pair.run(3);
    assert_eq!(pair.phase(), Phase::Expired);
}

#[test]
fn silent_replica_gives_one_lease_from_its_fence() {
    let mut pair = Pair::new();
    pair.run(5);
    pair.advance(19_000);
    assert_eq!(
        pair.phase(),
        Phase::Ready,
        "19 s after the last ledger: the fence after 10 s and a lease of 10 s"
    );
    pair.advance(3_000);
    assert_eq!(pair.phase(), Phase::Expired);
}

#[test]
fn returned_replica_with_nothing_missing_withdraws_the_grace() {
    let mut pair = Pair::new();
    pair.run(5);
    pair.advance(11_000);
    pair.run(2);
    assert_eq!(pair.phase(), Phase::Expired);
}

#[test]
fn leaving_replica_gives_no_grace() {
    let mut pair = Pair::new();
    pair.run(5);
    let leaving = Ledger { leaving: true, ..pair.peer_ledger(vec![]) };
    pair.observe_ledger(leaving);
    pair.advance(7_000);
    assert_eq!(pair.phase(), Phase::Expired);
}

#[test]
fn leader_deletes_ledgers_of_replicas_that_left_or_are_gone() {
    let mut pair = Pair::leading();
    pair.run(3);
    pair.advance(299_000);
    assert!(pair.deleted_ledgers.is_empty());
    pair.advance(2_000);
    let version = pair.observed_version;
    assert_eq!(
        pair.deleted_ledgers,
        [("r1".to_owned(), version)],
        "the ledger is deleted once, in the observed version"
    );
    pair.advance(400_000);
    assert_eq!(pair.deleted_ledgers.len(), 1);
    let mut pair = Pair::leading();
    pair.run(3);
    let leaving = Ledger { leaving: true, ..pair.peer_ledger(vec![]) };
    pair.observe_ledger(leaving);
    pair.advance(9_000);
    assert!(
        pair.deleted_ledgers.is_empty(),
        "the ledger is normally deleted together with its pod"
    );
    pair.advance(2_000);
    assert_eq!(pair.deleted_ledgers.len(), 1);
    let mut pair = Pair::new();
    pair.run(3);
    pair.advance(400_000);
    assert!(pair.deleted_ledgers.is_empty(), "only the leader deletes ledgers");
}

#[test]
fn missing_segments_give_every_instance_one_lease() {
    let mut pair = Pair::new();
    pair.run(8);
    let _lost = pair.peer_ledger(vec![(id("uid-a"), 0)]);
    pair.run(9);
    assert_eq!(pair.phase(), Phase::Ready);
    let report = pair.directory.report();
    assert!(
        report.last_gap.is_some_and(|gap| gap.lost.is_none()) && report.gaps == 1,
        "{report:?}"
    );
    pair.run(4);
    assert_eq!(pair.phase(), Phase::Expired);
}

#[test]
fn late_heartbeat_is_written_even_within_grace() {
    let mut pair = Pair::new();
    pair.run(9);
    let _lost = pair.peer_ledger(vec![]);
    pair.run(3);
    assert_eq!(pair.phase(), Phase::Ready);
    assert!(matches!(pair.heartbeat(), Heartbeat::Write(_)));
}

#[test]
fn asked_replica_writes_its_ledger_at_once() {
    let mut pair = Pair::new();
    pair.run(4);
    let before = pair.written_ledgers.len();
    let asking = Ledger { ask: true, ..pair.peer_ledger(vec![]) };
    pair.observe_ledger(asking);
    pair.advance(250);
    assert_eq!(pair.written_ledgers.len(), before + 1);
}

#[test]
fn leaving_replica_is_fenced_and_reports_once_that_it_leaves() {
    let mut pair = Pair::new();
    pair.run(6);
    pair.apply(Fact::Leaving);
    assert!(pair.directory.is_fenced(Moment(pair.time)));
    pair.advance(20_000);
    assert_eq!(pair.written_ledgers.iter().filter(|ledger| ledger.leaving).count(), 1);
    assert!(pair.written_ledgers.last().is_some_and(|ledger| ledger.leaving));
}

/// On real threads: every heartbeat up to the stamp of a ledger is in that ledger or in an earlier one.
#[test]
fn ledger_contains_every_heartbeat_up_to_its_stamp() {
    const ROUNDS: u64 = 300_000;
    let mut pair = Pair::new();
    pair.advance(6_000);
    let clock = Arc::new(AtomicU64::new(pair.time));
    // The thread that takes heartbeats is at most a few hundred heartbeats ahead of the flushes, so that
    // heartbeats and flushes happen at the same time.
    let flushed_until = Arc::new(AtomicU64::new(pair.time));
    let (directory, time, behind) = (pair.directory.clone(), clock.clone(), flushed_until.clone());
    let taking = thread::spawn(move || {
        let mut counted = Vec::new();
        for _ in 0..ROUNDS {
            let at = Moment(time.fetch_add(1, Ordering::SeqCst) + 1);
            while at.0 > behind.load(Ordering::SeqCst) + 400 {
                thread::yield_now();
            }
            // A heartbeat that coincides with a flush counts from a little later.
            if let Heartbeat::Renewed(slot) = directory.heartbeat("shop", "a", None, None, at) {
                counted.push(slot.last_heartbeat());
            }
        }
        counted
    });
    while !taking.is_finished() {
        let now = clock.load(Ordering::SeqCst);
        pair.advance(now.saturating_sub(pair.time));
        flushed_until.store(pair.time, Ordering::SeqCst);
    }
    let counted = taking.join().unwrap();
    assert!(!counted.is_empty());
    pair.advance(clock.load(Ordering::SeqCst) - pair.time + 6_000);
    let reported: Vec<_> = pair
        .written_ledgers
        .iter()
        .map(|ledger| {
            let beats = ledger.segments.iter().flat_map(|segment| &segment.beats);
            let newest = beats.map(|(_, age)| ledger.stamp.0 - u64::from(*age)).max();
            (ledger.stamp, Moment(newest.unwrap_or(0)))
        })
        .collect();
    let (mut reported, mut best) = (reported.into_iter().peekable(), Moment(0));
    for at in counted {
        // Up to the first ledger whose stamp covers this heartbeat.
        while best < at {
            let (stamp, newest) = reported.next().unwrap();
            best = best.max(newest);
            assert!(best >= at || stamp < at, "{at:?} is not in the ledger of {stamp:?}");
        }
    }
}
