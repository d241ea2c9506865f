//! The reverse index from addresses to members always agrees with the published views.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use proptest::prelude::*;
use rollcall_core::{directory::Directory, fact::Fact};
use rollcall_model::{
    instance::{Address, Instance},
    naming,
    view::Member,
};

use crate::rig::{Rig, instance};

/// Half of these addresses are in the networks.
const IPS: [&str; 8] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.1.1",
    "192.168.0.1",
    "fd00::1",
    "fd00:1::1",
    "fe80::1",
    "::ffff:10.0.0.1",
];
const NETWORKS: [&str; 3] = ["10.0.0.7/24", "10.0.0.0/25", "fd00::/32"];

fn networks() -> Vec<ipnet::IpNet> {
    NETWORKS.iter().map(|text| text.parse().unwrap()).collect()
}

fn rig() -> Rig {
    let mut rig = Rig::with_directory(Directory::default().with_networks(&networks()));
    rig.list(Vec::new());
    rig
}

fn at(name: &str, ips: &[&str]) -> Instance {
    let ips: Arc<[IpAddr]> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    instance(name).with(|facts| facts.address = Address::Ips(ips))
}

fn names(members: &[Arc<Member>]) -> Vec<String> {
    members.iter().map(|member| member.facts.key.to_string()).collect()
}

fn members_at(rig: &Rig, ip: &str) -> Vec<String> {
    names(&rig.directory.members_at(ip.parse().unwrap()))
}

#[test]
fn members_at_an_address_are_ordered_by_namespace_service_and_label() {
    let mut rig = rig();
    let elsewhere = |service: &str, instance: Instance| {
        instance.with(|facts| {
            facts.service = service.into();
            facts.key.namespace = "away".into();
            facts.uid = format!("away {}", facts.uid).into();
        })
    };
    rig.put(at("b", &["10.0.0.1", "10.0.0.2"]));
    rig.put(at("a", &["10.0.0.1", "10.9.9.9"]));
    rig.put(elsewhere("x", at("b", &["10.0.0.1"])));
    rig.put(elsewhere("w", at("c", &["10.0.0.1"])));
    rig.advance(15.0);
    let all = ["away/c", "away/b", "shop/a", "shop/b"];
    assert_eq!(members_at(&rig, "10.0.0.1"), all);
    assert_eq!(members_at(&rig, "10.0.0.2"), ["shop/b"]);
    assert_eq!(members_at(&rig, "10.9.9.9"), [""; 0], "outside the networks");
}

#[test]
fn member_without_its_label_has_no_address_entry_until_the_label_is_free() {
    let mut rig = rig();
    let label = naming::label("a.b");
    let first = rig.put(at(&label, &["10.0.0.1"]));
    rig.put(at("a.b", &["10.0.0.1", "10.0.0.2"]));
    let (labelled, other) = (rig.view().members[0].clone(), rig.view().members[1].clone());
    assert_eq!(labelled.label, other.label);
    assert_eq!(members_at(&rig, "10.0.0.1"), [labelled.facts.key.to_string()]);
    rig.version += 1;
    let gone = if labelled.facts.uid == first.uid { &first.facts } else { &labelled.facts };
    rig.apply(Fact::Removed { key: gone.key.clone(), uid: gone.uid.clone(), index: rig.version });
    rig.settle();
    assert_eq!(members_at(&rig, "10.0.0.1"), [other.facts.key.to_string()]);
}

#[test]
fn index_is_empty_without_networks() {
    let mut rig = Rig::new();
    rig.put(at("a", &["10.0.0.1"]));
    assert_eq!(members_at(&rig, "10.0.0.1"), [""; 0]);
    assert!(!rig.directory.has_address_within("0.0.0.0/0".parse().unwrap()));
}

/// One change to one of a few names.
#[derive(Clone, Debug)]
enum Change {
    Put { name: usize, service: usize, ips: Vec<usize>, weight: u16 },
    Delete { name: usize },
    Settle,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let ips = prop::collection::vec(0..IPS.len(), 0..4);
    let put = (0..6usize, 0..2usize, ips, 0..2u16)
        .prop_map(|(name, service, ips, weight)| Change::Put { name, service, ips, weight });
    let delete = (0..6usize).prop_map(|name| Change::Delete { name });
    prop::collection::vec(prop_oneof![4 => put, 2 => delete, 3 => Just(Change::Settle)], 0..40)
}

/// Two pairs share a label.
fn name(at: usize) -> String {
    let names = ["a", "a.b", "x_y", "z"].map(str::to_owned);
    let alike = [naming::label("a.b"), naming::label("x_y")];
    names.into_iter().chain(alike).nth(at).unwrap()
}

fn apply_change(rig: &mut Rig, change: &Change) {
    match change {
        Change::Settle => rig.settle(),
        Change::Put { name: at, service, ips, weight } => {
            let (name, version) = (name(*at), rig.version);
            let known = rig.directory.slot("shop", &name).map(|slot| slot.record());
            let mut next = known.map_or_else(|| instance(&name), |known| (*known).clone());
            let service = ["orders", "carts"][*service].into();
            if next.service != service {
                // A new object under the same name.
                (next.service, next.uid) = (service, format!("{name} {version}").into());
            }
            next.weight = *weight;
            next.address = match ips.as_slice() {
                [] => Address::Hostname("db.example.com".into()),
                ips => Address::Ips(ips.iter().map(|at| IPS[*at].parse().unwrap()).collect()),
            };
            rig.store(next);
        }
        Change::Delete { name: at } => {
            let Some(slot) = rig.directory.slot("shop", &name(*at)) else { return };
            let (key, uid) = (slot.record().key.clone(), slot.record().uid.clone());
            rig.version += 1;
            rig.apply(Fact::Removed { key, uid, index: rig.version });
        }
    }
}

/// The index computed from all views.
fn expected(rig: &Rig) -> BTreeMap<IpAddr, Vec<Arc<Member>>> {
    let networks = networks();
    let mut index = BTreeMap::<IpAddr, Vec<Arc<Member>>>::new();
    let mut views = rig.directory.views_in(None);
    views.sort_by(|a, b| a.key.cmp(&b.key));
    for view in views {
        let has_label =
            |member: &&Arc<Member>| Arc::ptr_eq(view.by_label(&member.label).unwrap(), *member);
        for member in view.members.iter().filter(has_label) {
            for ip in member.facts.ips() {
                let members_at = index.entry(*ip).or_default();
                let known = members_at.last().is_some_and(|last| Arc::ptr_eq(last, member));
                if !known && networks.iter().any(|network| network.contains(ip)) {
                    members_at.push(member.clone());
                }
            }
        }
    }
    index.retain(|_, members_at| !members_at.is_empty());
    index
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn index_agrees_with_the_published_views(
        changes in changes(),
        ip in 0..IPS.len(),
        length in 0..=32u8,
    ) {
        let mut rig = rig();
        for change in changes {
            apply_change(&mut rig, &change);
            let expected = expected(&rig);
            for ip in IPS.map(|ip| ip.parse::<IpAddr>().unwrap()) {
                let members_at = rig.directory.members_at(ip);
                let wanted = expected.get(&ip).map_or(&[][..], Vec::as_slice);
                prop_assert_eq!(names(&members_at), names(wanted));
                let mut pairs = members_at.iter().zip(wanted);
                prop_assert!(pairs.all(|(a, b)| Arc::ptr_eq(a, b)), "the newest of each");
            }
            let below = ipnet::IpNet::new(IPS[ip].parse().unwrap(), length).unwrap();
            let any = expected.keys().any(|ip| below.contains(ip));
            prop_assert_eq!(rig.directory.has_address_within(below), any);
        }
    }
}
