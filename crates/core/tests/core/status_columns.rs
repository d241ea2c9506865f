//! The columns in the status: written with the verdict, corrected when they are wrong, and not rewritten
//! forever.

use std::sync::Arc;

use rollcall_core::{
    fact::{Duty, WriteOutcome},
    status::DesiredStatus,
};
use rollcall_model::instance::{Address, Health, Instance, Port, Protocol, State};

use crate::rig::{Rig, instance, object_version};

fn desired(duties: &[Duty]) -> Vec<DesiredStatus> {
    let status = |duty: &Duty| match duty {
        Duty::WriteStatus { desired, .. } => Some(desired.clone()),
        _ => None,
    };
    duties.iter().filter_map(status).collect()
}

/// A dual-stack instance with this many ports.
fn listening(ports: u16) -> Instance {
    let port = |number| Port {
        name: format!("p{number}").into(),
        port: number,
        protocol: if number == 2 { Protocol::Udp } else { Protocol::Tcp },
        app_protocol: None,
    };
    let mut a = instance("a");
    a.address = Address::Ips(Arc::new(["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()]));
    a.ports = (1..=ports).map(port).collect();
    a
}

#[test]
fn columns_are_written_together_with_the_phase() {
    let mut rig = Rig::new();
    rig.store(listening(5));
    let written = desired(&rig.advance(1.0));
    assert_eq!(written.len(), 1);
    assert_eq!(written[0].addresses, "10.0.0.7,fd00::7");
    assert_eq!(written[0].ports.as_deref(), Some("p1:1/TCP,p2:2/UDP,p3:3/TCP +2 more"));
}

#[test]
fn hostname_fills_the_address_column_and_no_ports_leave_it_empty() {
    let mut rig = Rig::new();
    let mut a = instance("a");
    a.address = Address::Hostname("db.example.com".into());
    rig.store(a);
    let written = desired(&rig.advance(1.0));
    assert_eq!((written[0].addresses.as_str(), &written[0].ports), ("db.example.com", &None));
}

#[test]
fn object_without_columns_gets_them_once() {
    let mut rig = Rig::new();
    rig.store(listening(1));
    rig.run(1.0);
    let mut old = rig.record("a");
    (old.stored.addresses, old.stored.ports, old.resource_version) = (None, None, 1);
    // A new leader that has not written anything yet.
    let mut rig = Rig::unlisted();
    rig.list(vec![old]);
    let mut written = 0;
    for _ in 0..20 {
        let duties = rig.advance(0.1);
        written += desired(&duties).len();
        rig.carry_out(duties);
    }
    assert_eq!(written, 1);
    assert_eq!(rig.record("a").stored.ports.as_deref(), Some("p1:1/TCP"));
}

#[test]
fn spec_change_rewrites_columns() {
    let mut rig = Rig::new();
    rig.store(listening(1));
    rig.run(1.0);
    let mut next = rig.record("a");
    next.ports = listening(2).ports.clone();
    next.generation += 1;
    rig.put(next);
    assert_eq!(desired(&rig.advance(0.5))[0].ports.as_deref(), Some("p1:1/TCP,p2:2/UDP"));
}

/// rollcall was updated but its CRDs were not: the API server accepts the write and drops the fields.
#[test]
fn columns_that_an_older_schema_drops_are_not_rewritten_forever() {
    let mut rig = Rig::new();
    rig.store(listening(1));
    let mut written = 0;
    for beat in 0..20 {
        for duty in rig.advance(0.1) {
            let Duty::WriteStatus { on: version, desired, .. } = &duty else { continue };
            written += 1;
            let mut next = rig.record(&version.key.name);
            next.stored.phase = Some(desired.phase);
            next.stored.conditions =
                desired.conditions.iter().map(|condition| condition.stored("t")).collect();
            next.stored.last_heartbeat = desired.last_heartbeat;
            next.stored.observed_generation = desired.observed_generation;
            rig.put(next);
            rig.attempted(object_version(&duty).unwrap(), WriteOutcome::Done);
        }
        if beat % 5 == 0 {
            rig.annotate("a");
        }
    }
    assert_eq!(written, 1);
    let mut next = rig.record("a");
    next.generation += 1;
    rig.put(next);
    assert_eq!(desired(&rig.advance(0.5)).len(), 1, "another spec is written");
}

#[test]
fn health_change_is_written_while_another_phase_has_precedence() {
    let mut rig = Rig::new();
    rig.put(instance("a").with(|facts| facts.state = State::Draining));
    rig.run(1.0);
    assert_eq!(rig.record("a").stored.health, Some(Health::Passing));
    let mut next = rig.record("a");
    next.health = Health::Warning;
    rig.put(next);
    assert_eq!(desired(&rig.advance(0.5))[0].health, Health::Warning);
}
