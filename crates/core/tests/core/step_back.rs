//! The store steps back when etcd is restored: what proves a step back, and what the catalog then does.

use std::sync::Arc;

use rollcall_core::{
    directory::Heartbeat,
    fact::{Announcement, Duty, Fact, SelfBeat, StorePosition},
    slot::Source,
};
use rollcall_model::instance::{Address, Instance, Phase};

use crate::rig::{Rig, instance};

/// The instance in this version, with this address.
fn at(name: &str, version: u64, address: &str) -> Instance {
    let address = Address::Ips(Arc::new([address.parse().unwrap()]));
    let stored = instance(name).with(|facts| facts.address = address);
    Instance { resource_version: version, ..stored }
}

fn listed(instances: Vec<Instance>, index: u64) -> Fact {
    Fact::Listed { instances: instances.into_iter().map(Arc::new).collect(), index }
}

fn step_backs(rig: &Rig) -> u64 {
    rig.catalog.counts().step_backs
}

fn address(rig: &Rig, name: &str) -> Option<String> {
    let slot = rig.directory.slot("shop", name)?;
    Some(slot.record().ips()[0].to_string())
}

/// Settles without answering a duty. Returns whether the catalog asks for a list.
fn asks_for_a_list(rig: &mut Rig) -> bool {
    rig.catalog.settle(rig.now(), 64).contains(&Duty::Relist)
}

#[test]
fn write_stored_below_an_observed_version_proves_a_step_back() {
    let mut rig = Rig::new();
    rig.put(at("a", 0, "10.0.0.1"));
    let index = rig.directory.index();
    let sent = rig.directory.before_write();
    let b = Arc::new(at("b", index - 1, "10.0.0.2"));
    rig.apply(Fact::Written { instance: b, by: Source::Registration, sent });
    assert_eq!(step_backs(&rig), 1);
    assert!(asks_for_a_list(&mut rig));
    assert_eq!(address(&rig, "b").as_deref(), Some("10.0.0.2"), "the stored object is shown");
    assert!(rig.directory.index() < index, "the index is reset");
}

#[test]
fn unchanged_write_and_late_response_prove_no_step_back() {
    let mut rig = Rig::new();
    let a = rig.put(instance("a"));
    let known = rig.directory.before_read().of(a.resource_version);
    rig.apply(Fact::Written { instance: Arc::new(a.clone()), by: Source::Annotation, sent: known });
    let sent = rig.directory.before_write();
    let written = Instance { resource_version: rig.version + 1, ..a.clone() };
    rig.version += 5;
    rig.put(instance("b"));
    rig.apply(Fact::Written { instance: Arc::new(written), by: Source::Http, sent });
    // This write was sent before a step back that has been detected since.
    let late = StorePosition { epoch: 7, least: 1_000_000 };
    rig.apply(Fact::Written { instance: Arc::new(a), by: Source::Http, sent: late });
    assert_eq!(step_backs(&rig), 0);
}

#[test]
fn list_below_the_known_version_leads_to_a_list_that_replaces_everything() {
    let mut rig = Rig::new();
    rig.put(at("kept", 0, "10.0.0.1"));
    rig.put(at("moved", 0, "10.0.0.12"));
    rig.put(at("new", 0, "10.0.0.4"));
    let index = rig.version;
    let old = || {
        vec![at("kept", 101, "10.0.0.1"), at("moved", 90, "10.0.0.2"), at("left", 91, "10.0.0.3")]
    };
    rig.apply(listed(old(), index - 2));
    assert_eq!(step_backs(&rig), 1);
    assert_eq!(
        address(&rig, "moved").as_deref(),
        Some("10.0.0.12"),
        "the address is kept until the next list"
    );
    assert!(asks_for_a_list(&mut rig));
    rig.apply(listed(old(), index - 1));
    rig.settle();
    assert_eq!(address(&rig, "moved").as_deref(), Some("10.0.0.2"));
    assert_eq!(address(&rig, "left").as_deref(), Some("10.0.0.3"));
    assert_eq!(address(&rig, "new"), None);
    assert_eq!((step_backs(&rig), rig.directory.index()), (1, index - 1));
}

#[test]
fn older_object_or_same_version_with_other_contents_proves_a_step_back() {
    for (version, heartbeat, expected) in [(104, "first", 1), (105, "other", 1), (105, "first", 0)]
    {
        let mut rig = Rig::new();
        rig.version = 104;
        rig.put(at("a", 0, "10.0.0.1"));
        let stored = at("a", version, "10.0.0.9");
        let stored = Instance { heartbeat: Some(heartbeat.into()), ..stored };
        rig.apply(listed(vec![stored], 2_000));
        assert_eq!(step_backs(&rig), expected, "{version} {heartbeat}");
        rig.settle();
        let is = if expected == 0 { "10.0.0.9" } else { "10.0.0.1" };
        assert_eq!(address(&rig, "a").as_deref(), Some(is), "read by another definition");
    }
}

#[test]
fn older_own_instance_after_an_outage_proves_a_step_back() {
    for (version, expected) in [(Some(u64::MAX), 0), (Some(3), 1), (None, 0)] {
        let mut rig = Rig::new();
        rig.advance(6.0);
        rig.api_is_up = false;
        rig.advance(6.0);
        let reads = loop {
            rig.time += 50;
            let duties = rig.catalog.settle(rig.now(), 64);
            let read = duties.iter().find_map(|duty| match duty {
                Duty::SelfBeat(SelfBeat { reads, .. }) => Some(*reads),
                _ => None,
            });
            if let Some(reads) = read {
                break reads;
            }
        };
        assert!(reads, "the API server was unavailable");
        rig.apply(Fact::OwnRead { version });
        assert_eq!(step_backs(&rig), expected, "{version:?}");
    }
}

#[test]
fn step_back_keeps_instances_with_a_known_heartbeat_and_gives_a_lease() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.put(instance("b"));
    rig.advance(8.0);
    assert!(matches!(rig.heartbeat("a"), Heartbeat::Renewed(_)));
    let mut expired = Instance { resource_version: 50, ..instance("a") };
    expired.stored.phase = Some(Phase::Expired);
    expired.stored.observed_heartbeat = expired.heartbeat.clone();
    let b = Instance { resource_version: 51, ..instance("b") };
    rig.apply(listed(vec![expired.clone(), b.clone()], 60));
    rig.apply(listed(vec![expired, b], 60));
    rig.version = 60;
    rig.advance(5.0);
    assert_eq!(rig.phase("a"), Some(Phase::Ready), "a heartbeat of it is known");
    assert_eq!(rig.phase("b"), Some(Phase::Ready), "the earlier lease of the instance is over");
    rig.heartbeat("a");
    rig.advance(6.0);
    assert_eq!(rig.phase("b"), Some(Phase::Expired));
}

#[test]
fn step_back_is_announced_on_the_own_instance_and_reported() {
    let mut rig = Rig::new();
    rig.advance(6.0);
    rig.apply(listed(Vec::new(), 1));
    let duties = rig.advance(6.0);
    let is_announced = |duty: &&Duty| matches!(duty, Duty::Announce { on, what: Announcement::StoreWentBack { .. } } if &*on.key.name == "r0");
    assert_eq!(duties.iter().filter(is_announced).count(), 1, "{duties:?}");
    let report = rig.directory.report();
    assert_eq!(report.epoch, 1);
    let reason = report.step_back.as_ref().unwrap().reason.to_string();
    assert!(reason.starts_with("a list has resourceVersion 1"), "{reason}");
}
