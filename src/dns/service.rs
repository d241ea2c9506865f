//! What the names of a service answer: the service itself, its protocols and its ports.
//!
//! Owns: who is in the answer and in which order. Does not own: the records (`records`).

use std::sync::Arc;

use hickory_proto::rr::{Name, RecordType};

use crate::dns::records::{self, Set, Targets};
use crate::registry::{
    instance::{Address, Port, Protocol},
    lease::Moment,
    select::Order,
    view::{Member, View},
};

/// What all of these need to know beside the view.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    /// The name asked for, in the asker's case: it owns the answers (0x20).
    pub(super) owner: &'a Name,
    /// `<svc>.<ns>.svc.<zone>`; none when that is too long for a name.
    pub(super) base: Option<&'a Name>,
    /// The type asked for.
    pub(super) kind: RecordType,
    /// When.
    pub(super) now: Moment,
    /// For the order.
    pub(super) seed: u64,
}

/// `<svc>.<ns>.svc.<zone>`.
pub(super) fn service(view: &View, context: Context<'_>) -> Set {
    if let Some((member, hostname)) = only_hostname(view) {
        let ttl = records::ttl([&**member], context.now);
        return Set::alias(context.owner, hostname, ttl);
    }
    match context.kind {
        RecordType::A | RecordType::AAAA => addresses(view, context),
        RecordType::SRV => targets(view, context, |_| true),
        _ => Set::default(),
    }
}

/// `_<port>._<proto>.<svc>.<ns>.svc.<zone>`; none when no instance, in whatever phase, has it.
pub(super) fn port(
    view: &View,
    (protocol, name): (Protocol, &str),
    context: Context<'_>,
) -> Option<Set> {
    let wanted = |port: &Port| port.protocol == protocol && *port.name == *name;
    has_port(view, wanted).then(|| match context.kind {
        RecordType::SRV => targets(view, context, wanted),
        _ => Set::default(),
    })
}

/// `_<proto>.<svc>.<ns>.svc.<zone>`: empty; none when no instance has a port of that protocol.
pub(super) fn transport(view: &View, protocol: Protocol) -> Option<Set> {
    has_port(view, |port| port.protocol == protocol).then(Set::default)
}

fn has_port(view: &View, wanted: impl Fn(&Port) -> bool) -> bool {
    view.members.iter().any(|member| member.instance.ports.iter().any(&wanted))
}

/// The hostname of the only member that is offered, if that is what it has.
fn only_hostname(view: &View) -> Option<(&Arc<Member>, &str)> {
    let mut offered = view.offered();
    match (offered.next(), offered.next()) {
        (Some(member), None) => match &member.instance.address {
            Address::Hostname(hostname) => Some((member, hostname)),
            Address::Ips(_) => None,
        },
        _ => None,
    }
}

/// The addresses of the best priority that has any, whatever their family: so A and AAAA speak of
/// the same instances.
fn addresses(view: &View, context: Context<'_>) -> Set {
    let with_ips = || view.offered().filter(|member| !member.instance.ips().is_empty());
    let best = with_ips().map(|member| member.instance.priority).min();
    let mut members: Vec<_> =
        with_ips().filter(|member| Some(member.instance.priority) == best).collect();
    // Those without an address of the family asked for are not in the answer.
    let v6 = context.kind == RecordType::AAAA;
    members.retain(|member| member.instance.ips().iter().any(|ip| ip.is_ipv6() == v6));
    Order::Weighted.arrange(&mut members, context.seed);
    let ttl = records::ttl(members.iter().map(|member| &***member), context.now);
    let ips = members.iter().flat_map(|member| member.instance.ips().iter().copied());
    let answers = records::addresses(context.owner, context.kind, ips, ttl);
    Set { answers, glue: Vec::new() }
}

/// SRV records of everybody offered, for the ports that are wanted.
fn targets(view: &View, context: Context<'_>, wanted: impl Fn(&Port) -> bool) -> Set {
    let Some(base) = context.base else { return Set::default() };
    let has_wanted = |member: &Arc<Member>| member.instance.ports.iter().any(&wanted);
    let has_name = |member: &Arc<Member>| match member.instance.address {
        // Of two that map to the same label only the first can be found by it.
        Address::Ips(_) => view.by_label(&member.label).is_some_and(|m| Arc::ptr_eq(m, member)),
        Address::Hostname(_) => true,
    };
    let offered = view.offered().filter(|member| has_wanted(member) && has_name(member));
    let mut members: Vec<_> = offered.collect();
    Order::Weighted.arrange(&mut members, context.seed);
    let members = || members.iter().map(|member| &***member);
    let ttl = records::ttl(members(), context.now);
    Targets { owner: context.owner, base, ttl }.of(members(), wanted)
}
