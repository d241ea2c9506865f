//! Answers at the names of a service: the service, its ports, and subsets of its instances.
//!
//! Owns: which instances are in the answer, and their order. Does not own: the records (`records`).

use std::sync::Arc;

use hickory_proto::rr::RecordType;
use rollcall_model::{
    instance::{Address, Phase, Port, Protocol},
    select::{self, Filter, Order, PhaseFilter},
    view::{Member, View},
};

use crate::config::EmptyAnswer;
use crate::dns::{
    context::NameContext,
    ede::Ede,
    records::{self, RecordSet, SrvTargets},
    subset::{SelectorKind, Subset},
};

/// `[<selectors>.]<svc>.<ns>.svc.<zone>`; `None` when no instance of any phase is selected.
pub(super) fn service(
    view: &View,
    subset: &Subset<'_>,
    context: NameContext<'_>,
) -> Option<RecordSet> {
    let filter = subset.filter();
    let (discoverable, ede) = select_discoverable(view, &filter, context)?;
    if let [member] = &discoverable[..]
        && let Address::Hostname(hostname) = &member.facts.address
    {
        let ttl = records::ttl([&***member], context.query.now);
        return Some(RecordSet { ede, ..RecordSet::alias(context.owner, hostname, ttl) });
    }
    let set = match context.kind {
        RecordType::A | RecordType::AAAA => address_records(discoverable, context),
        RecordType::SRV => srv_records(view, discoverable, context, |_| true),
        _ => RecordSet::default(),
    };
    Some(RecordSet { ede, ..set })
}

/// `_<port>._<proto>` and a service; `None` when no selected instance of any phase has the port.
pub(super) fn port(
    view: &View,
    subset: &Subset<'_>,
    protocol: Protocol,
    name: &str,
    context: NameContext<'_>,
) -> Option<RecordSet> {
    let filter = subset.with_port(protocol, Some(name));
    let (discoverable, ede) = select_discoverable(view, &filter, context)?;
    let wanted = |port: &Port| port.protocol == protocol && *port.name == *name;
    let set = match context.kind {
        RecordType::SRV => srv_records(view, discoverable, context, wanted),
        _ => RecordSet::default(),
    };
    Some(RecordSet { ede, ..set })
}

/// `_<proto>` and a service: has no records; `None` when no selected instance has a port of that protocol.
pub(super) fn transport(
    view: &View,
    subset: &Subset<'_>,
    protocol: Protocol,
    context: NameContext<'_>,
) -> Option<RecordSet> {
    has_any(view, &subset.with_port(protocol, None), context, |_| true).then(RecordSet::default)
}

/// `_ver`, `_tag`, `_zone` or `_near` and a service: has no records; `None` when no selected instance has a value of
/// that kind.
pub(super) fn selector(
    view: &View,
    subset: &Subset<'_>,
    kind: SelectorKind,
    context: NameContext<'_>,
) -> Option<RecordSet> {
    has_any(view, &subset.filter(), context, |member| kind.is_present_in(member))
        .then(RecordSet::default)
}

/// The reason for an empty answer: "none of 5 instances is discoverable: 1 Draining, 4 Expired".
pub(super) fn no_discoverable_instance(view: &View, filter: &Filter) -> String {
    let selected = || view.members.iter().filter(|member| filter.describes(member));
    let counts = Phase::ALL.iter().rev().filter_map(|phase| {
        let count = selected().filter(|member| member.phase == *phase).count();
        (count > 0).then(|| format!("{count} {}", phase.as_str()))
    });
    let counts: Vec<String> = counts.collect();
    let total = selected().count();
    let noun = if total == 1 { "instance" } else { "instances" };
    format!("none of {total} {noun} is discoverable: {}", counts.join(", "))
}

/// The instances of an answer, and an extended error about them.
type Selection<'v> = (Vec<&'v Arc<Member>>, Option<Ede>);

/// Selects the instances of the answer; `None` when the name does not exist.
fn select_discoverable<'v>(
    view: &'v View,
    filter: &Filter,
    context: NameContext<'_>,
) -> Option<Selection<'v>> {
    if !has_any(view, filter, context, |_| true) {
        return None;
    }
    let discoverable = filter.apply(view);
    if !discoverable.is_empty() {
        return Some((discoverable, None));
    }
    let reason = no_discoverable_instance(view, filter);
    if context.empty == EmptyAnswer::Last {
        let last_known = Filter { health: PhaseFilter::Lost, ..filter.clone() }.apply(view);
        if !last_known.is_empty() {
            return Some((last_known, Some(Ede::last_known(&reason))));
        }
    }
    Some((discoverable, Some(Ede::empty(reason))))
}

/// Whether a selected instance makes the name exist: an instance in any phase, or with `--dns-empty nxdomain` only a
/// discoverable one.
fn has_any(
    view: &View,
    filter: &Filter,
    context: NameContext<'_>,
    condition: impl Fn(&Member) -> bool,
) -> bool {
    let counts =
        |member: &Member| context.empty != EmptyAnswer::NxDomain || member.phase.is_discoverable();
    view.members
        .iter()
        .any(|member| counts(member) && filter.describes(member) && condition(member))
}

/// The addresses of the instances with the lowest priority. Instances without any address are left out first, so that A
/// and AAAA records belong to the same instances.
fn address_records(mut members: Vec<&Arc<Member>>, context: NameContext<'_>) -> RecordSet {
    members.retain(|member| !member.facts.ips().is_empty());
    let best = members.iter().map(|member| member.facts.priority).min();
    members.retain(|member| Some(member.facts.priority) == best);
    apply_ceiling(&mut members, context);
    // Instances without an address of the queried family contribute nothing, not even to the TTL.
    let v6 = context.kind == RecordType::AAAA;
    members.retain(|member| member.facts.ips().iter().any(|ip| ip.is_ipv6() == v6));
    Order::Weighted.arrange(&mut members, context.query.seed);
    let ttl = records::ttl(members.iter().map(|member| &***member), context.query.now);
    let ips = members.iter().flat_map(|member| member.facts.ips().iter().copied());
    RecordSet::from_answers(records::addresses(context.owner, context.kind, ips, ttl))
}

/// The SRV records of these instances, for the ports that `wanted` accepts.
fn srv_records(
    view: &View,
    mut members: Vec<&Arc<Member>>,
    context: NameContext<'_>,
    wanted: impl Fn(&Port) -> bool,
) -> RecordSet {
    let Some(base) = context.base else { return RecordSet::default() };
    members.retain(|member| member.facts.ports.iter().any(&wanted) && has_name(view, member));
    apply_ceiling(&mut members, context);
    Order::Weighted.arrange(&mut members, context.query.seed);
    let members = || members.iter().map(|member| &***member);
    let ttl = records::ttl(members(), context.query.now);
    SrvTargets { owner: context.owner, base, ttl }.records(members(), wanted)
}

/// Applies `--dns-max-answers`; one client gets the same instances for a minute.
fn apply_ceiling(members: &mut Vec<&Arc<Member>>, context: NameContext<'_>) {
    if let Some(ceiling) = context.ceiling {
        select::choose(members, ceiling.get(), context.query.choice);
    }
}

/// Whether the DNS name of this instance resolves to it: if two instances map to the same label, only the older one has
/// the name.
pub(super) fn has_name(view: &View, member: &Arc<Member>) -> bool {
    match member.facts.address {
        Address::Ips(_) => view.by_label(&member.label).is_some_and(|m| Arc::ptr_eq(m, member)),
        Address::Hostname(_) => true,
    }
}
