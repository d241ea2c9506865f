//! What the names of a service answer: the service itself, its ports, and parts of it.
//!
//! Owns: who is in the answer and in which order. Does not own: the records (`records`).

use std::sync::Arc;

use hickory_proto::rr::RecordType;
use rollcall_model::{
    instance::{Address, Phase, Port, Protocol},
    select::{self, Filter, Health, Order},
    view::{Member, View},
};

use crate::config::Empty;
use crate::dns::{
    context::Context,
    ede::Ede,
    records::{self, Set, Targets},
    subset::{Kind, Subset},
};

/// `[<selectors>.]<svc>.<ns>.svc.<zone>`; none when no instance, in whatever phase, is selected.
pub(super) fn service(view: &View, only: &Subset<'_>, context: Context<'_>) -> Option<Set> {
    let filter = only.filter();
    let (discoverable, why) = discoverable(view, &filter, context)?;
    if let [member] = &discoverable[..]
        && let Address::Hostname(hostname) = &member.facts.address
    {
        let ttl = records::ttl([&***member], context.moods.now);
        return Some(Set { why, ..Set::alias(context.owner, hostname, ttl) });
    }
    let set = match context.kind {
        RecordType::A | RecordType::AAAA => addresses(discoverable, context),
        RecordType::SRV => targets(view, discoverable, context, |_| true),
        _ => Set::default(),
    };
    Some(Set { why, ..set })
}

/// `_<port>._<proto>` and a service; none when no selected instance, in whatever phase, has it.
pub(super) fn port(
    view: &View,
    only: &Subset<'_>,
    protocol: Protocol,
    name: &str,
    context: Context<'_>,
) -> Option<Set> {
    let filter = only.with_port(protocol, Some(name));
    let (discoverable, why) = discoverable(view, &filter, context)?;
    let wanted = |port: &Port| port.protocol == protocol && *port.name == *name;
    let set = match context.kind {
        RecordType::SRV => targets(view, discoverable, context, wanted),
        _ => Set::default(),
    };
    Some(Set { why, ..set })
}

/// `_<proto>` and a service: empty; none when no selected instance has a port of that protocol.
pub(super) fn transport(
    view: &View,
    only: &Subset<'_>,
    protocol: Protocol,
    context: Context<'_>,
) -> Option<Set> {
    has_any(view, &only.with_port(protocol, None), context, |_| true).then(Set::default)
}

/// `_ver`, `_tag`, `_zone` or `_near` and a service: empty; none when no selected instance has a
/// value of that kind.
pub(super) fn selector(
    view: &View,
    only: &Subset<'_>,
    kind: Kind,
    context: Context<'_>,
) -> Option<Set> {
    has_any(view, &only.filter(), context, |member| kind.is_had_by(member)).then(Set::default)
}

/// Why those of a service who are described are not discoverable: "0 of 5 instances passing (4 Expired, 1
/// Draining)".
pub(super) fn nobody(view: &View, filter: &Filter) -> String {
    let described = || view.members.iter().filter(|member| filter.describes(member));
    let counts = Phase::ALL.iter().rev().filter_map(|phase| {
        let count = described().filter(|member| member.phase == *phase).count();
        (count > 0).then(|| format!("{count} {}", phase.as_str()))
    });
    let counts: Vec<String> = counts.collect();
    format!("0 of {} instances passing ({})", described().count(), counts.join(", "))
}

type Offered<'v> = (Vec<&'v Arc<Member>>, Option<Ede>);

/// Who is discoverable of those selected, and what is to be said of it; none when there is no such name.
fn discoverable<'v>(view: &'v View, filter: &Filter, context: Context<'_>) -> Option<Offered<'v>> {
    if !has_any(view, filter, context, |_| true) {
        return None;
    }
    let discoverable = filter.apply(view);
    if !discoverable.is_empty() {
        return Some((discoverable, None));
    }
    let why = nobody(view, filter);
    if context.empty == Empty::Last {
        let lost = Filter { health: Health::Lost, ..filter.clone() }.apply(view);
        if !lost.is_empty() {
            return Some((lost, Some(Ede::last_known(&why))));
        }
    }
    Some((discoverable, Some(Ede::empty(why))))
}

/// Whether anybody is selected who makes a name exist: in whatever phase, but where NXDOMAIN is to be the
/// answer of those who have nobody to offer.
fn has_any(
    view: &View,
    filter: &Filter,
    context: Context<'_>,
    also: impl Fn(&Member) -> bool,
) -> bool {
    let counts =
        |member: &Member| context.empty != Empty::NxDomain || member.phase.is_discoverable();
    view.members.iter().any(|member| counts(member) && filter.describes(member) && also(member))
}

/// The addresses of the best priority that has any, whatever their family: so A and AAAA speak of
/// the same instances.
fn addresses(mut members: Vec<&Arc<Member>>, context: Context<'_>) -> Set {
    members.retain(|member| !member.facts.ips().is_empty());
    let best = members.iter().map(|member| member.facts.priority).min();
    members.retain(|member| Some(member.facts.priority) == best);
    choose(&mut members, context);
    // Those without an address of the family asked for are not in the answer.
    let v6 = context.kind == RecordType::AAAA;
    members.retain(|member| member.facts.ips().iter().any(|ip| ip.is_ipv6() == v6));
    Order::Weighted.arrange(&mut members, context.moods.seed);
    let ttl = records::ttl(members.iter().map(|member| &***member), context.moods.now);
    let ips = members.iter().flat_map(|member| member.facts.ips().iter().copied());
    Set::of(records::addresses(context.owner, context.kind, ips, ttl))
}

/// SRV records of these members, for the ports that are wanted.
fn targets(
    view: &View,
    mut members: Vec<&Arc<Member>>,
    context: Context<'_>,
    wanted: impl Fn(&Port) -> bool,
) -> Set {
    let Some(base) = context.base else { return Set::default() };
    members.retain(|member| member.facts.ports.iter().any(&wanted) && has_name(view, member));
    choose(&mut members, context);
    Order::Weighted.arrange(&mut members, context.moods.seed);
    let members = || members.iter().map(|member| &***member);
    let ttl = records::ttl(members(), context.moods.now);
    Targets { owner: context.owner, base, ttl }.of(members(), wanted)
}

/// As many as there may be, the same for one client for a minute.
fn choose(members: &mut Vec<&Arc<Member>>, context: Context<'_>) {
    if let Some(ceiling) = context.ceiling {
        select::choose(members, ceiling.get(), context.moods.choice);
    }
}

/// Whether a target leads to this member: of two that map to the same label only the first can be
/// found by it.
pub(super) fn has_name(view: &View, member: &Arc<Member>) -> bool {
    match member.facts.address {
        Address::Ips(_) => view.by_label(&member.label).is_some_and(|m| Arc::ptr_eq(m, member)),
        Address::Hostname(_) => true,
    }
}
