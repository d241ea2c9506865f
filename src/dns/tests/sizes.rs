//! The size rules, for messages of every size.

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record, RecordType},
};
use proptest::prelude::*;

use super::messages::{exchange, query, with_edns};
use super::rfc::ask;
use super::world::{World, instance, sorted_data};
use crate::dns::respond::Transport;
use crate::dns::zone::Zone;

fn world(members: usize, label: usize, dual: bool) -> World {
    World::with_instances((0..members).map(|i| {
        let name = format!("{}{i}", "o".repeat(label));
        let (v4, v6) = (format!("10.0.{}.{}", i / 250, i % 250), format!("2001:db8::{i:x}"));
        if dual {
            instance("orders", &name, &[&v4, &v6])
        } else {
            instance("orders", &name, &[&v4])
        }
    }))
}

#[derive(Clone, Copy, Debug)]
struct Case {
    members: usize,
    label: usize,
    dual: bool,
    kind: RecordType,
    /// `None` over TCP; over UDP the advertised size, if there is EDNS.
    udp: Option<Option<u16>>,
    tcp_edns: bool,
}

impl Case {
    fn limit(self) -> usize {
        match self.udp {
            None => 65_535,
            Some(None) => 512,
            Some(Some(size)) => usize::from(size.clamp(512, 1232)),
        }
    }

    fn check(self, world: &World) -> Result<(), TestCaseError> {
        let name =
            if self.kind == RecordType::SRV { "_http._tcp.orders.shop" } else { "Orders.shop" };
        let (plain, transport) = match self.udp {
            None => (query(name, self.kind), Transport::Tcp),
            Some(_) => (query(name, self.kind), Transport::Udp),
        };
        let edns = self.udp.unwrap_or_else(|| self.tcp_edns.then_some(1232));
        let message = edns.map_or_else(|| plain.clone(), |size| with_edns(plain.clone(), size));
        let bytes = exchange(world, &message.to_vec().unwrap(), transport);
        prop_assert!(bytes.len() <= self.limit(), "{} bytes", bytes.len());
        let answer = Message::from_vec(&bytes).unwrap();
        prop_assert_eq!(answer.edns.is_some(), edns.is_some(), "the OPT");
        let whole = world.ask(name, self.kind);
        let complete = answer.answers.len() == whole.answers.len();
        prop_assert_eq!(answer.metadata.truncation, !complete, "TC");
        prop_assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        // Answers are a prefix of the whole answer, and glue is complete for each of its targets.
        prop_assert_eq!(&answer.answers[..], &whole.answers[..answer.answers.len()]);
        let rest = if complete { &whole.glue[..answer.additionals.len()] } else { &[] };
        prop_assert_eq!(&answer.additionals[..], rest);
        let next = whole.glue.get(rest.len()).filter(|_| complete);
        prop_assert!(next.is_none_or(|next| rest.last().is_none_or(|last| last.name != next.name)));
        let authority = if complete { whole.authority.len() } else { 0 };
        prop_assert_eq!(answer.authorities.len(), authority);
        if let (false, Some(next)) = (complete, whole.answers.get(answer.answers.len())) {
            // The next record would not fit, even counted without compression.
            prop_assert!(bytes.len() + size(next) > self.limit());
        }
        Ok(())
    }
}

/// The length of a record without compression.
fn size(record: &Record) -> usize {
    let data = match &record.data {
        RData::A(_) => 4,
        RData::AAAA(_) => 16,
        RData::SRV(srv) => 6 + srv.target.len() + 1,
        other => panic!("unexpected record: {other}"),
    };
    record.name.len() + 1 + 10 + data
}

fn cases() -> impl Strategy<Value = Case> {
    let kind = prop::sample::select(vec![RecordType::A, RecordType::AAAA, RecordType::SRV]);
    let udp = prop::option::of(prop::option::of(any::<u16>()));
    let members = prop_oneof![0usize..40, 0usize..500];
    (members, 1usize..50, any::<bool>(), kind, udp, any::<bool>()).prop_map(
        |(members, label, dual, kind, udp, tcp_edns)| Case {
            members: members.max(1),
            label,
            dual,
            kind,
            udp,
            tcp_edns,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn message_never_exceeds_its_limit_and_tc_means_an_incomplete_answer(case in cases(), seed: u64) {
        let mut world = world(case.members, case.label, case.dual);
        world.seed = seed;
        case.check(&world)?;
    }
}

#[test]
fn size_rules_hold_around_every_limit() {
    for members in 1..45 {
        let world = world(members, 1, true);
        for kind in [RecordType::A, RecordType::AAAA, RecordType::SRV] {
            for udp in [Some(None), Some(Some(512)), Some(Some(700)), Some(Some(4096)), None] {
                let case = Case { members, label: 1, dual: true, kind, udp, tcp_edns: true };
                case.check(&world).unwrap_or_else(|error| panic!("{case:?}: {error}"));
            }
        }
    }
}

/// The number of names around which hickory stops compressing.
#[test]
fn size_rules_hold_for_more_names_than_hickory_compresses() {
    let kind = RecordType::SRV;
    for members in (180..420).step_by(10) {
        let world = world(members, 30, true);
        let case = Case { members, label: 30, dual: true, kind, udp: None, tcp_edns: true };
        case.check(&world).unwrap_or_else(|error| panic!("{case:?}: {error}"));
    }
}

#[test]
fn three_hundred_instances_with_glue_fit_over_tcp() {
    let world = world(300, 1, true);
    let message = query("_http._tcp.orders.shop", RecordType::SRV);
    let bytes = exchange(&world, &message.to_vec().unwrap(), Transport::Tcp);
    let answer = Message::from_vec(&bytes).unwrap();
    assert!(!answer.metadata.truncation);
    assert_eq!((answer.answers.len(), answer.additionals.len()), (300, 600));
    assert_eq!(sorted_data(&answer.additionals).len(), 600);
}

/// The SOA of a reverse zone shares no labels with the question, so it cannot be compressed.
#[test]
fn longest_reverse_names_have_room_for_a_negative_answer_in_512_bytes() {
    let zone = format!("{}.{}.", "z".repeat(50), "y".repeat(49));
    let mut world =
        World::with_instances([]).with_zones(|zones| zones.zone = Zone::parse(&zone, &[]).unwrap());
    world.now.0 += 3_600_000;
    let label = "q".repeat(57);
    let name = format!("{label}.{label}.{label}.{}.10.in-addr.arpa.", "q".repeat(63));
    assert_eq!(name.len() + 1, 255);
    for options in [&[][..], &[(10, &b"clientid"[..]), (3, b"")]] {
        let query = ask(&name, RecordType::PTR).opt(512, 0, options);
        let bytes = query.answer(&world);
        let answer = Message::from_vec(&bytes).unwrap();
        assert!(bytes.len() <= 512 && !answer.metadata.truncation, "{}", bytes.len());
        assert_eq!(answer.authorities.len(), 1);
        // Cookie and NSID come first, which leaves no space for the extended error.
        let edns = answer.edns.unwrap();
        assert_eq!(edns.options().as_ref().len(), options.len().max(1));
    }
}

#[test]
fn longest_names_have_room_for_a_negative_answer_in_512_bytes() {
    let zone = format!("{}.{}.", "z".repeat(50), "y".repeat(49));
    let mut world =
        World::with_instances([]).with_zones(|zones| zones.zone = Zone::parse(&zone, &[]).unwrap());
    world.now.0 += 3_600_000; // stale, so that there is an extended error, too
    let label = "q".repeat(50);
    let name = format!("{label}.{label}.{}.{zone}", "q".repeat(48));
    for edns in [None, Some(512)] {
        let plain = query(&name, RecordType::A);
        let message = edns.map_or_else(|| plain.clone(), |size| with_edns(plain.clone(), size));
        let bytes = exchange(&world, &message.to_vec().unwrap(), Transport::Udp);
        let answer = Message::from_vec(&bytes).unwrap();
        assert!(bytes.len() <= 512 && !answer.metadata.truncation);
        assert_eq!(
            (answer.authorities.len(), answer.metadata.response_code),
            (1, ResponseCode::NXDomain)
        );
    }
}
