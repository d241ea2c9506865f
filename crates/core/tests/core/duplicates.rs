//! Two processes under one name: what the younger, the older and the others make of it.

use std::sync::Arc;

use rollcall_core::{
    fact::Fact,
    ledger::{Ledger, Segment, id},
};
use rollcall_model::{instance::Phase, lease::Moment};

use crate::ledgers::Pair;

/// A ledger of the process `boot` under the name `replica`, which found that of `replaced`.
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

fn hear(pair: &mut Pair, of: (&str, &str), replaced: Option<&str>, sequence: u64) {
    let ledger = ledger(pair, of, replaced, sequence);
    pair.hear(ledger);
}

fn reported(pair: &Pair) -> Vec<(String, String)> {
    let duplicates = pair.directory.report().duplicates.clone();
    duplicates
        .iter()
        .map(|duplicate| (duplicate.older.to_string(), duplicate.younger.to_string()))
        .collect()
}

/// The heartbeats that the process reports in one ledger.
fn with_heartbeat(mut ledger: Ledger, age: u32) -> Ledger {
    ledger.segments[0].beats = vec![(id("uid-a"), age)];
    ledger
}

#[test]
fn younger_yields_to_two_ledgers_of_the_older_and_goes_on_when_that_is_silent() {
    // This process is `b`; it found nothing, so that the smaller boot is the older.
    let mut pair = Pair::new();
    pair.pass(6_000);
    hear(&mut pair, ("r0", "a"), None, 7);
    pair.pass(1_000);
    assert!(!pair.directory.report().yields, "it may be a late one of a dead process");
    hear(&mut pair, ("r0", "a"), None, 7);
    assert!(!pair.directory.report().yields, "the same once more");
    let written = pair.told.len();
    for sequence in 8..20 {
        hear(&mut pair, ("r0", "a"), None, sequence);
        pair.pass(2_000);
        assert!(pair.directory.report().yields);
        assert!(pair.directory.is_fenced(Moment(pair.time)));
    }
    assert_eq!(reported(&pair), [("a".to_owned(), "b".to_owned())]);
    assert!(pair.told.len() <= written + 1, "it writes no ledger");
    pair.pass(18_000);
    assert!(!pair.directory.report().yields);
    assert!(!pair.directory.is_fenced(Moment(pair.time)), "it promises again");
}

#[test]
fn older_goes_on_and_counts_what_the_younger_took() {
    let mut pair = Pair::new();
    pair.live(6);
    for sequence in 1..4 {
        let young = ledger(&mut pair, ("r0", "c"), Some("b"), sequence);
        pair.hear(with_heartbeat(young, 0));
        pair.live(3);
    }
    assert!(!pair.directory.report().yields);
    assert!(!pair.directory.is_fenced(Moment(pair.time)));
    assert_eq!(reported(&pair), [("b".to_owned(), "c".to_owned())]);
    pair.live(5);
    assert_eq!(pair.phase(), Phase::Ready, "a heartbeat that the younger took");
    pair.live(30);
    assert_eq!(pair.phase(), Phase::Expired, "and no more is given back");
}

#[test]
fn others_count_the_older_and_give_nothing_back_once_both_are_told_apart() {
    let mut pair = Pair::new();
    pair.live(6);
    let mut old = 0;
    // The younger takes over, and the older goes on.
    for young in 1..6 {
        old += 1;
        hear(&mut pair, ("r2", "old"), None, old);
        pair.live(2);
        hear(&mut pair, ("r2", "young"), Some("old"), young);
        pair.live(1);
    }
    assert_eq!(reported(&pair), [("old".to_owned(), "young".to_owned())]);
    let gaps = pair.directory.report().gaps;
    for _ in 0..30 {
        old += 1;
        hear(&mut pair, ("r2", "old"), None, old);
        pair.live(2);
    }
    let report = pair.directory.report();
    let peer = report.replicas.iter().find(|peer| &*peer.replica == "r2").unwrap();
    assert_eq!((&*peer.boot, report.gaps), ("old", gaps));
}

#[test]
fn replica_that_starts_after_a_step_back_notices_none() {
    let mut pair = Pair::starting();
    let peer = Ledger { epoch: 3, ..ledger(&mut pair, ("r2", "x"), None, 1) };
    pair.apply(Fact::LedgersListed(vec![Arc::new(peer)]));
    pair.pass(6_000);
    let report = pair.directory.report();
    assert_eq!((report.epoch, pair.catalog.counts().step_backs), (3, 0));
    assert!(pair.told.iter().all(|ledger| ledger.epoch == 3));
}

#[test]
fn late_ledger_of_a_replaced_process_is_no_twin() {
    let mut pair = Pair::new();
    pair.live(6);
    hear(&mut pair, ("r2", "old"), None, 1);
    pair.live(1);
    hear(&mut pair, ("r2", "young"), Some("old"), 1);
    hear(&mut pair, ("r2", "old"), None, 2);
    for young in 2..8 {
        pair.live(2);
        hear(&mut pair, ("r2", "young"), Some("old"), young);
    }
    assert_eq!(reported(&pair), []);
    let report = pair.directory.report();
    let peer = report.replicas.iter().find(|peer| &*peer.replica == "r2").unwrap();
    assert_eq!(&*peer.boot, "young");
}
