//! Ledgers: what a replica makes of those of others, and what it says in its own.

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

/// A replica `r0` whose ledgers and self-beats come back at once, and another one, `r1`, whose clock is
/// 500 s behind.
pub struct Pair {
    pub catalog: Catalog,
    pub directory: Arc<Directory>,
    pub time: u64,
    pub version: u64,
    pub told: Vec<Ledger>,
    pub sequence: u64,
    /// Version of the last ledger heard of the other.
    pub heard: u64,
    /// The ledgers that were to be deleted.
    pub swept: Vec<(String, u64)>,
}

const BEHIND: u64 = 500_000;

impl Pair {
    pub fn new() -> Self {
        let mut pair = Self::starting();
        pair.apply(Fact::LedgersListed(vec![]));
        pair
    }

    /// One that has listed instances, and ledgers not yet.
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
            told: vec![],
            sequence: 0,
            heard: 0,
            swept: vec![],
        };
        let instances = vec![Arc::new(instance("a"))];
        pair.apply(Fact::Listed { instances, index: 1 });
        pair
    }

    /// One that leads.
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

    /// Lets time pass; whatever this replica writes for its own sake comes back.
    pub fn pass(&mut self, milliseconds: u64) {
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
                    Duty::Flush(ledger) => {
                        let sequence = ledger.sequence;
                        self.apply(Fact::LedgerWritten { sequence, answer: Ok(self.version) });
                        let back = Ledger { version: self.version, ..ledger.clone() };
                        self.apply(Fact::LedgerSeen(Arc::new(back)));
                        self.told.push(ledger);
                    }
                    Duty::Sweep { replica, version } => {
                        self.swept.push((replica.to_string(), version));
                    }
                    _ => {}
                }
            }
        }
    }

    /// The other replica's next ledger, stamped now.
    pub fn other(&mut self, beats: Vec<(u64, u32)>) -> Ledger {
        self.sequence += 1;
        self.version += 1;
        let own = self.told.last().map(|ledger| ledger.stamp);
        let peers = own.map(|stamp| PeerSeen {
            replica: "r0".into(),
            boot: "b".into(),
            stamp,
            at: Moment(self.time - BEHIND),
        });
        Ledger {
            replica: "r1".into(),
            boot: "x".into(),
            version: self.version,
            sequence: self.sequence,
            stamp: Moment(self.time - BEHIND),
            peers: peers.into_iter().collect(),
            segments: vec![Segment { first: self.sequence, sequence: self.sequence, beats }],
            ..Ledger::default()
        }
    }

    pub fn hear(&mut self, ledger: Ledger) {
        self.heard = ledger.version;
        self.apply(Fact::LedgerSeen(Arc::new(ledger)));
    }

    /// Both go on for so many seconds, the other one a ledger each second.
    pub fn live(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.pass(1_000);
            let ledger = self.other(vec![]);
            self.hear(ledger);
        }
    }

    pub fn beat(&self) -> Heartbeat {
        self.directory.heartbeat("shop", "a", None, None, Moment(self.time))
    }

    pub fn phase(&self) -> Phase {
        let view = self.directory.service("shop", "orders").unwrap();
        view.by_label("a").unwrap().phase
    }
}

#[test]
fn nobody_is_answered_before_the_own_ledger_and_a_self_beat_after_it_were_seen() {
    let mut pair = Pair::new();
    assert!(pair.directory.is_fenced(Moment(pair.time)));
    pair.pass(6_000);
    assert!(!pair.directory.is_fenced(Moment(pair.time)));
    assert!(pair.directory.is_fenced(Moment(pair.time + 10_000)), "a fence needs no settling");
}

#[test]
fn a_beat_that_another_replica_took_keeps_its_instance() {
    let mut pair = Pair::new();
    pair.live(8);
    let ledger = pair.other(vec![(id("uid-a"), 0)]);
    pair.hear(ledger);
    pair.live(9);
    assert_eq!(pair.phase(), Phase::Ready);
    pair.live(3);
    assert_eq!(pair.phase(), Phase::Expired);
}

#[test]
fn a_replica_that_falls_silent_holds_everybody_until_a_lease_after_its_fence() {
    let mut pair = Pair::new();
    pair.live(5);
    pair.pass(19_000);
    assert_eq!(pair.phase(), Phase::Ready, "silent for 19 s: fenced after 10, and a lease of 10");
    pair.pass(3_000);
    assert_eq!(pair.phase(), Phase::Expired);
}

#[test]
fn a_replica_that_comes_back_with_nothing_missing_holds_nobody_any_more() {
    let mut pair = Pair::new();
    pair.live(5);
    pair.pass(11_000);
    pair.live(2);
    assert_eq!(pair.phase(), Phase::Expired);
}

#[test]
fn a_replica_that_said_that_it_leaves_holds_nobody() {
    let mut pair = Pair::new();
    pair.live(5);
    let leaving = Ledger { leaving: true, ..pair.other(vec![]) };
    pair.hear(leaving);
    pair.pass(7_000);
    assert_eq!(pair.phase(), Phase::Expired);
}

#[test]
fn the_leader_deletes_the_ledger_of_who_left_and_after_minutes_of_who_is_gone() {
    let mut pair = Pair::leading();
    pair.live(3);
    pair.pass(299_000);
    assert!(pair.swept.is_empty());
    pair.pass(2_000);
    let version = pair.heard;
    assert_eq!(pair.swept, [("r1".to_owned(), version)], "once, in the version seen");
    pair.pass(400_000);
    assert_eq!(pair.swept.len(), 1);
    let mut pair = Pair::leading();
    pair.live(3);
    let leaving = Ledger { leaving: true, ..pair.other(vec![]) };
    pair.hear(leaving);
    pair.pass(9_000);
    assert!(pair.swept.is_empty(), "the pod takes it away in time, where there is one");
    pair.pass(2_000);
    assert_eq!(pair.swept.len(), 1);
    let mut pair = Pair::new();
    pair.live(3);
    pair.pass(400_000);
    assert!(pair.swept.is_empty(), "that is the leader's");
}

#[test]
fn missing_segments_give_everybody_a_lease_from_then() {
    let mut pair = Pair::new();
    pair.live(8);
    let _lost = pair.other(vec![(id("uid-a"), 0)]);
    pair.live(9);
    assert_eq!(pair.phase(), Phase::Ready);
    let report = pair.directory.report();
    assert!(
        report.last_gap.is_some_and(|gap| gap.lost.is_none()) && report.gaps == 1,
        "{report:?}"
    );
    pair.live(4);
    assert_eq!(pair.phase(), Phase::Expired);
}

#[test]
fn a_late_beat_is_written_even_where_a_floor_holds_its_instance() {
    let mut pair = Pair::new();
    pair.live(9);
    let _lost = pair.other(vec![]);
    pair.live(3);
    assert_eq!(pair.phase(), Phase::Ready);
    assert!(matches!(pair.beat(), Heartbeat::Write(_)));
}

#[test]
fn who_is_asked_answers_at_once() {
    let mut pair = Pair::new();
    pair.live(4);
    let before = pair.told.len();
    let asking = Ledger { ask: true, ..pair.other(vec![]) };
    pair.hear(asking);
    pair.pass(250);
    assert_eq!(pair.told.len(), before + 1);
}

#[test]
fn a_leaving_replica_answers_nobody_and_says_so_once() {
    let mut pair = Pair::new();
    pair.live(6);
    pair.apply(Fact::Leaving);
    assert!(pair.directory.is_fenced(Moment(pair.time)));
    pair.pass(20_000);
    assert_eq!(pair.told.iter().filter(|ledger| ledger.leaving).count(), 1);
    assert!(pair.told.last().is_some_and(|ledger| ledger.leaving));
}

/// On real threads: whatever a ledger's stamp speaks for is in it, or was in one before.
#[test]
fn no_flush_leaves_out_a_beat_that_its_stamp_speaks_for() {
    const ROUNDS: u64 = 300_000;
    let mut pair = Pair::new();
    pair.pass(6_000);
    let clock = Arc::new(AtomicU64::new(pair.time));
    // The door is ahead of the flushes by a few hundred beats at most, so that they meet.
    let reached = Arc::new(AtomicU64::new(pair.time));
    let (directory, time, behind) = (pair.directory.clone(), clock.clone(), reached.clone());
    let door = thread::spawn(move || {
        let mut counted = Vec::new();
        for _ in 0..ROUNDS {
            let at = Moment(time.fetch_add(1, Ordering::SeqCst) + 1);
            while at.0 > behind.load(Ordering::SeqCst) + 400 {
                thread::yield_now();
            }
            // One that met a flush counts from a little later.
            if let Heartbeat::Renewed(slot) = directory.heartbeat("shop", "a", None, None, at) {
                counted.push(slot.last_heartbeat());
            }
        }
        counted
    });
    while !door.is_finished() {
        let now = clock.load(Ordering::SeqCst);
        pair.pass(now.saturating_sub(pair.time));
        reached.store(pair.time, Ordering::SeqCst);
    }
    let counted = door.join().unwrap();
    assert!(!counted.is_empty());
    pair.pass(clock.load(Ordering::SeqCst) - pair.time + 6_000);
    let told: Vec<_> = pair
        .told
        .iter()
        .map(|ledger| {
            let beats = ledger.segments.iter().flat_map(|segment| &segment.beats);
            let newest = beats.map(|(_, age)| ledger.stamp.0 - u64::from(*age)).max();
            (ledger.stamp, Moment(newest.unwrap_or(0)))
        })
        .collect();
    let (mut told, mut best) = (told.into_iter().peekable(), Moment(0));
    for at in counted {
        // Up to the first ledger that speaks for it.
        while best < at {
            let (stamp, newest) = told.next().unwrap();
            best = best.max(newest);
            assert!(best >= at || stamp < at, "{at:?} is not in the ledger of {stamp:?}");
        }
    }
}
