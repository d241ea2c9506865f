//! What the name of one instance answers.
//!
//! Owns: that it resolves until it is Expired, and exists as long as its object. Does not own: the
//! records (`records`).

use hickory_proto::rr::RecordType;
use rollcall_model::{
    instance::{Address, Phase, State},
    view::View,
};

use crate::config::Empty;
use crate::dns::{
    context::Context,
    ede::Ede,
    records::{self, Set, Targets},
};

/// `<instance>.<svc>.<ns>.svc.<zone>`; none when nobody bears that label.
pub(super) fn member(view: &View, label: &str, context: Context<'_>) -> Option<Set> {
    let member = view.by_label(label)?;
    // Where those who were lost are answered, their names are what the answer leads to.
    let is_last = context.empty == Empty::Last
        && member.facts.state == State::Up
        && !member.facts.stopping
        && view.discoverable().next().is_none();
    if member.phase == Phase::Expired && !is_last {
        let why = Some(Ede::empty("this instance has expired".to_owned()));
        return Some(Set { why, ..Set::default() });
    }
    let ttl = records::ttl([&**member], context.moods.now);
    let ips = match &member.facts.address {
        Address::Hostname(hostname) => return Some(Set::alias(context.owner, hostname, ttl)),
        Address::Ips(ips) => ips,
    };
    Some(match (context.kind, context.base) {
        (kind @ (RecordType::A | RecordType::AAAA), _) => {
            Set::of(records::addresses(context.owner, kind, ips.iter().copied(), ttl))
        }
        (RecordType::SRV, Some(base)) => {
            Targets { owner: context.owner, base, ttl }.of([&**member], |_| true)
        }
        (RecordType::TXT, _) => {
            Set::of(records::attributes(context.owner, &member.facts.attributes, ttl))
        }
        _ => Set::default(),
    })
}
