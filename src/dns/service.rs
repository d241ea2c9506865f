//! What the names of a service answer: the service itself, its ports, and parts of it.
//!
//! Owns: who is in the answer and in which order. Does not own: the records (`records`).

use std::sync::Arc;

use hickory_proto::rr::{Name, RecordType};

use crate::dns::{
    records::{self, Set, Targets},
    subset::{Kind, Subset},
};
use crate::registry::{
    instance::{Address, Port, Protocol},
    lease::Moment,
    select::{Filter, Order},
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

/// `[<selectors>.]<svc>.<ns>.svc.<zone>`; none when no instance, in whatever phase, is selected.
pub(super) fn service(view: &View, only: &Subset<'_>, context: Context<'_>) -> Option<Set> {
    let offered = offered(view, &only.filter())?;
    if let [member] = &offered[..]
        && let Address::Hostname(hostname) = &member.instance.address
    {
        let ttl = records::ttl([&***member], context.now);
        return Some(Set::alias(context.owner, hostname, ttl));
    }
    Some(match context.kind {
        RecordType::A | RecordType::AAAA => addresses(offered, context),
        RecordType::SRV => targets(view, offered, context, |_| true),
        _ => Set::default(),
    })
}

/// `_<port>._<proto>` and a service; none when no selected instance, in whatever phase, has it.
pub(super) fn port(
    view: &View,
    only: &Subset<'_>,
    (protocol, name): (Protocol, &str),
    context: Context<'_>,
) -> Option<Set> {
    let offered = offered(view, &only.with_port(protocol, Some(name)))?;
    let wanted = |port: &Port| port.protocol == protocol && *port.name == *name;
    Some(match context.kind {
        RecordType::SRV => targets(view, offered, context, wanted),
        _ => Set::default(),
    })
}

/// `_<proto>` and a service: empty; none when no selected instance has a port of that protocol.
pub(super) fn transport(view: &View, only: &Subset<'_>, protocol: Protocol) -> Option<Set> {
    has_any(view, &only.with_port(protocol, None), |_| true).then(Set::default)
}

/// `_ver`, `_tag`, `_zone` or `_near` and a service: empty; none when no selected instance has a
/// value of that kind.
pub(super) fn selector(view: &View, only: &Subset<'_>, kind: Kind) -> Option<Set> {
    has_any(view, &only.filter(), |member| kind.is_had_by(member)).then(Set::default)
}

/// Who is offered of those selected; none when nobody is selected, whatever the phase.
fn offered<'v>(view: &'v View, filter: &Filter) -> Option<Vec<&'v Arc<Member>>> {
    has_any(view, filter, |_| true).then(|| filter.apply(view))
}

fn has_any(view: &View, filter: &Filter, also: impl Fn(&Member) -> bool) -> bool {
    view.members.iter().any(|member| filter.describes(member) && also(member))
}

/// The addresses of the best priority that has any, whatever their family: so A and AAAA speak of
/// the same instances.
fn addresses(mut members: Vec<&Arc<Member>>, context: Context<'_>) -> Set {
    members.retain(|member| !member.instance.ips().is_empty());
    let best = members.iter().map(|member| member.instance.priority).min();
    members.retain(|member| Some(member.instance.priority) == best);
    // Those without an address of the family asked for are not in the answer.
    let v6 = context.kind == RecordType::AAAA;
    members.retain(|member| member.instance.ips().iter().any(|ip| ip.is_ipv6() == v6));
    Order::Weighted.arrange(&mut members, context.seed);
    let ttl = records::ttl(members.iter().map(|member| &***member), context.now);
    let ips = members.iter().flat_map(|member| member.instance.ips().iter().copied());
    let answers = records::addresses(context.owner, context.kind, ips, ttl);
    Set { answers, glue: Vec::new() }
}

/// SRV records of these members, for the ports that are wanted.
fn targets(
    view: &View,
    mut members: Vec<&Arc<Member>>,
    context: Context<'_>,
    wanted: impl Fn(&Port) -> bool,
) -> Set {
    let Some(base) = context.base else { return Set::default() };
    members.retain(|member| member.instance.ports.iter().any(&wanted) && has_name(view, member));
    Order::Weighted.arrange(&mut members, context.seed);
    let members = || members.iter().map(|member| &***member);
    let ttl = records::ttl(members(), context.now);
    Targets { owner: context.owner, base, ttl }.of(members(), wanted)
}

/// Whether a target leads to this member: of two that map to the same label only the first can be
/// found by it.
fn has_name(view: &View, member: &Arc<Member>) -> bool {
    match member.instance.address {
        Address::Ips(_) => view.by_label(&member.label).is_some_and(|m| Arc::ptr_eq(m, member)),
        Address::Hostname(_) => true,
    }
}
