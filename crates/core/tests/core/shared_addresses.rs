//! An address and port that two instances offer: said of both, and nothing else changes.

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

fn said(rig: &Rig, name: &str) -> Option<Condition> {
    condition::find(&rig.record(name).stored.conditions, ConditionType::AddressShared).cloned()
}

#[test]
fn two_instances_at_one_address_and_port_both_say_so_until_one_is_gone() {
    let mut rig = Rig::new();
    rig.put(at("a", "10.0.0.7", 80));
    rig.put(at("host", "10.0.0.7", 81));
    rig.live(1.0);
    assert_eq!((said(&rig, "a"), rig.directory.shared_addresses()), (None, 0));
    // The pod of `a` is gone without a word, and its address was given to that of `b`.
    rig.live(5.0);
    rig.put(at("b", "10.0.0.7", 80));
    let _ = rig.beat("host");
    let revision = rig.view().revision;
    rig.live(1.0);
    let (a, b) = (said(&rig, "a").unwrap(), said(&rig, "b").unwrap());
    assert!(a.message.contains("10.0.0.7:80/TCP") && a.message.contains("instance b"), "{a:?}");
    assert!(b.message.contains("instance a"), "{b:?}");
    assert_eq!((&*a.status, said(&rig, "host")), ("True", None));
    assert_eq!((rig.view().discoverable().count(), rig.view().revision), (3, revision));
    assert_eq!(rig.directory.shared_addresses(), 1);
    let shared = rig.directory.shared_address(&rig.record("a")).unwrap();
    assert_eq!(shared.other, InstanceKey::new("shop", "b"));
    // The lease of `a` ends.
    for _ in 0..5 {
        let _ = (rig.beat("b"), rig.beat("host"));
        rig.live(1.0);
    }
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    assert_eq!((said(&rig, "a"), said(&rig, "b")), (None, None));
    assert_eq!(rig.directory.shared_addresses(), 0);
}

#[test]
fn an_instance_that_moves_or_is_drained_shares_no_longer() {
    let mut rig = Rig::new();
    for name in ["a", "b"] {
        rig.put(at(name, "10.0.0.7", 80));
    }
    rig.live(1.0);
    assert!(said(&rig, "a").is_some() && said(&rig, "b").is_some());
    let mut moved = rig.record("b");
    moved.address = Address::Ips(Arc::new(["10.0.0.8".parse().unwrap()]));
    moved.generation += 1;
    rig.put(moved);
    rig.live(1.0);
    assert_eq!((said(&rig, "a"), said(&rig, "b")), (None, None));
    let mut back = rig.record("b");
    back.address = Address::Ips(Arc::new(["10.0.0.7".parse().unwrap()]));
    back.state = rollcall_model::instance::State::Draining;
    back.generation += 1;
    rig.put(back);
    rig.live(1.0);
    assert_eq!((said(&rig, "a"), said(&rig, "b")), (None, None));
}

#[test]
fn of_a_crowd_at_one_address_each_is_written_once() {
    let mut rig = Rig::new();
    rig.room = 1000;
    for i in 0..100 {
        rig.put(at(&format!("i{i}"), "10.0.0.7", 80));
    }
    let mut writes = 0;
    for _ in 0..20 {
        let duties = rig.pass(0.1);
        writes += duties.iter().filter(|it| matches!(it, Duty::WriteStatus { .. })).count();
        rig.obey(duties);
    }
    assert!((100..=101).contains(&writes), "{writes}: the first one did not know of the second");
    // One more, and one fewer, are no news for the others.
    rig.put(at("late", "10.0.0.7", 80));
    let duties = rig.pass(0.2);
    assert_eq!(duties.iter().filter(|it| matches!(it, Duty::WriteStatus { .. })).count(), 1);
}
