//! Two processes with one identity: how the younger, the older and the other replicas react.

use std::sync::Arc;

use rollcall_core::{
    fact::Fact,
    ledger::{Ledger, Segment, id},
};
use rollcall_model::{instance::Phase, lease::Moment};

use crate::ledgers::Pair;

/// A ledger of the process `boot` of `replica`, which found a ledger of the process `replaced` at its start.
fn ledger(
    pair: &mut Pair,
    (replica, boot): (&str, &str),
    replaced: Option<&str>,
    sequence: u64,
) -> Ledger {
    pair.version += 1;
    let segment = Segment { first: 1, sequence, beats: Vec::new() };
    Ledger {
        replica: replica.into(),
        boot: boot.into(),
        replaced: replaced.map(Into::into),
        version: pair.version,
        sequence,
        stamp: Moment(pair.time - 700_000),
        segments: vec![segment],
        ..Ledger::default()
    }
}

fn observe(pair: &mut Pair, of: (&str, &str), replaced: Option<&str>, sequence: u64) {
    let ledger = ledger(pair, of, replaced, sequence);
    pair.observe_ledger(ledger);
}

fn reported_duplicates(pair: &Pair) -> Vec<(String, String)> {
    let duplicates = pair.directory.report().duplicates.clone();
    duplicates
        .iter()
        .map(|duplicate| (duplicate.older.to_string(), duplicate.younger.to_string()))
        .collect()
}

/// Adds a heartbeat of instance `a` to a ledger.
fn with_heartbeat(mut ledger: Ledger, age: u32) -> Ledger {
    ledger.segments[0].beats = vec![(id("uid-a"), age)];
    ledger
}

#[test]
fn younger_process_yields_after_two_ledgers_of_the_older_and_resumes_when_it_is_silent() {
    // This process is `b` and found no ledger at its start, so the process with the smaller boot counts as the older
    // one.
    let mut pair = Pair::new();
    pair.advance(6_000);
    observe(&mut pair, ("r0", "a"), None, 7);
    pair.advance(1_000);
    assert!(
        !pair.directory.report().yields,
        "one ledger can be a late write of a process that has ended"
    );
    observe(&mut pair, ("r0", "a"), None, 7);
    assert!(!pair.directory.report().yields, "the same ledger again");
    let written = pair.written_ledgers.len();
    for sequence in 8..20 {
        observe(&mut pair, ("r0", "a"), None, sequence);
        pair.advance(2_000);
        assert!(pair.directory.report().yields);
        assert!(pair.directory.is_fenced(Moment(pair.time)));
    }
    assert_eq!(reported_duplicates(&pair), [("a".to_owned(), "b".to_owned())]);
    assert!(
        pair.written_ledgers.len() <= written + 1,
        "a process that yields writes no more ledgers"
    );
    pair.advance(18_000);
    assert!(!pair.directory.report().yields);
    assert!(
        !pair.directory.is_fenced(Moment(pair.time)),
        "the remaining process answers 200 again"
    );
}

#[test]
fn older_process_continues_and_counts_heartbeats_of_the_younger() {
    let mut pair = Pair::new();
    pair.run(6);
    for sequence in 1..4 {
        let young = ledger(&mut pair, ("r0", "c"), Some("b"), sequence);
        pair.observe_ledger(with_heartbeat(young, 0));
        pair.run(3);
    }
    assert!(!pair.directory.report().yields);
    assert!(!pair.directory.is_fenced(Moment(pair.time)));
    assert_eq!(reported_duplicates(&pair), [("b".to_owned(), "c".to_owned())]);
    pair.run(5);
    assert_eq!(pair.phase(), Phase::Ready, "a heartbeat that the younger took");
    pair.run(30);
    assert_eq!(pair.phase(), Phase::Expired, "no more time is given back");
}

#[test]
fn other_replicas_follow_the_older_process_without_further_gaps() {
    let mut pair = Pair::new();
    pair.run(6);
    let mut old = 0;
    // The younger process takes over, and the older one continues to run.
    for young in 1..6 {
        old += 1;
        observe(&mut pair, ("r2", "old"), None, old);
        pair.run(2);
        observe(&mut pair, ("r2", "young"), Some("old"), young);
        pair.run(1);
    }
    assert_eq!(reported_duplicates(&pair), [("old".to_owned(), "young".to_owned())]);
    let gaps = pair.directory.report().gaps;
    for _ in 0..30 {
        old += 1;
        observe(&mut pair, ("r2", "old"), None, old);
        pair.run(2);
    }
    let report = pair.directory.report();
    let peer = report.replicas.iter().find(|peer| &*peer.replica == "r2").unwrap();
    assert_eq!((&*peer.boot, report.gaps), ("old", gaps));
}

#[test]
fn replica_that_starts_after_a_step_back_adopts_the_epoch() {
    let mut pair = Pair::starting();
    let peer = Ledger { epoch: 3, ..ledger(&mut pair, ("r2", "x"), None, 1) };
    pair.apply(Fact::LedgersListed(vec![Arc::new(peer)]));
    pair.advance(6_000);
    let report = pair.directory.report();
    assert_eq!((report.epoch, pair.catalog.counts().step_backs), (3, 0));
    assert!(pair.written_ledgers.iter().all(|ledger| ledger.epoch == 3));
}

#[test]
fn late_ledger_of_a_replaced_process_is_not_a_duplicate() {
    let mut pair = Pair::new();
    pair.run(6);
    observe(&mut pair, ("r2", "old"), None, 1);
    pair.run(1);
    observe(&mut pair, ("r2", "young"), Some("old"), 1);
    observe(&mut pair, ("r2", "old"), None, 2);
    for young in 2..8 {
        pair.run(2);
        observe(&mut pair, ("r2", "young"), Some("old"), young);
    }
    assert_eq!(reported_duplicates(&pair), []);
    let report = pair.directory.report();
    let peer = report.replicas.iter().find(|peer| &*peer.replica == "r2").unwrap();
    assert_eq!(&*peer.boot, "young");
}
