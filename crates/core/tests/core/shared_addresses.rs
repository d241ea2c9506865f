//! Two instances with the same address and port: a condition reports it on both, and nothing else changes.

use std::sync::Arc;

use rollcall_core::fact::Duty;
use rollcall_model::{
    condition::{self, Condition, ConditionType},
    instance::{Address, Instance, InstanceKey, Phase, Port, Protocol},
};

use crate::rig::{Rig, instance};

fn at(name: &str, ip: &str, port: u16) -> Instance {
    let port = Port { name: "http".into(), port, protocol: Protocol::Tcp, app_protocol: None };
    instance(name).with(|facts| {
        facts.address = Address::Ips(Arc::new([ip.parse().unwrap()]));
        facts.ports = Arc::new([port]);
    })
}

fn shared_condition(rig: &Rig, name: &str) -> Option<Condition> {
    condition::find(&rig.record(name).stored.conditions, ConditionType::AddressShared).cloned()
}

#[test]
fn shared_address_is_reported_on_both_instances_until_one_expires() {
    let mut rig = Rig::new();
    rig.put(at("a", "10.0.0.7", 80));
    rig.put(at("host", "10.0.0.7", 81));
    rig.run(1.0);
    assert_eq!((shared_condition(&rig, "a"), rig.directory.shared_addresses()), (None, 0));
    // The pod of `a` has gone without deregistering, and the pod of `b` got its address.
    rig.run(5.0);
    rig.put(at("b", "10.0.0.7", 80));
    let _ = rig.heartbeat("host");
    let revision = rig.view().revision;
    rig.run(1.0);
    let (a, b) = (shared_condition(&rig, "a").unwrap(), shared_condition(&rig, "b").unwrap());
    assert!(a.message.contains("10.0.0.7:80/TCP") && a.message.contains("instance b"), "{a:?}");
    assert!(b.message.contains("instance a"), "{b:?}");
    assert_eq!((&*a.status, shared_condition(&rig, "host")), ("True", None));
    assert_eq!((rig.view().discoverable().count(), rig.view().revision), (3, revision));
    assert_eq!(rig.directory.shared_addresses(), 1);
    let shared = rig.directory.shared_address(&rig.record("a")).unwrap();
    assert_eq!(shared.other, InstanceKey::new("shop", "b"));
    // The lease of `a` ends.
    for _ in 0..5 {
        let _ = (rig.heartbeat("b"), rig.heartbeat("host"));
        rig.run(1.0);
    }
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    assert_eq!((shared_condition(&rig, "a"), shared_condition(&rig, "b")), (None, None));
    assert_eq!(rig.directory.shared_addresses(), 0);
}

#[test]
fn moved_or_drained_instance_shares_no_address() {
    let mut rig = Rig::new();
    for name in ["a", "b"] {
        rig.put(at(name, "10.0.0.7", 80));
    }
    rig.run(1.0);
    assert!(shared_condition(&rig, "a").is_some() && shared_condition(&rig, "b").is_some());
    let mut moved = rig.record("b");
    moved.address = Address::Ips(Arc::new(["10.0.0.8".parse().unwrap()]));
    moved.generation += 1;
    rig.put(moved);
    rig.run(1.0);
    assert_eq!((shared_condition(&rig, "a"), shared_condition(&rig, "b")), (None, None));
    let mut back = rig.record("b");
    back.address = Address::Ips(Arc::new(["10.0.0.7".parse().unwrap()]));
    back.state = rollcall_model::instance::State::Draining;
    back.generation += 1;
    rig.put(back);
    rig.run(1.0);
    assert_eq!((shared_condition(&rig, "a"), shared_condition(&rig, "b")), (None, None));
}

#[test]
fn shared_address_of_many_instances_writes_each_status_once() {
    let mut rig = Rig::new();
    rig.capacity = 1000;
    for i in 0..100 {
        rig.put(at(&format!("i{i}"), "10.0.0.7", 80));
    }
    let mut writes = 0;
    for _ in 0..20 {
        let duties = rig.advance(0.1);
        writes += duties.iter().filter(|duty| matches!(duty, Duty::WriteStatus { .. })).count();
        rig.carry_out(duties);
    }
    assert!(
        (100..=101).contains(&writes),
        "{writes} writes: the first status was written before the second instance came"
    );
    // An instance that joins or leaves does not change the condition of the others.
    rig.put(at("late", "10.0.0.7", 80));
    let duties = rig.advance(0.2);
    assert_eq!(duties.iter().filter(|duty| matches!(duty, Duty::WriteStatus { .. })).count(), 1);
}
