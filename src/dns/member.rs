//! Answers at the name of one instance.
//!
//! Owns: the rule that the name has records until the instance is Expired, and exists as long as its object. Does not
//! own: the records (`records`).

use hickory_proto::rr::RecordType;
use rollcall_model::{
    instance::{Address, Phase, State},
    view::View,
};

use crate::config::EmptyAnswer;
use crate::dns::{
    context::NameContext,
    ede::Ede,
    records::{self, RecordSet, SrvTargets},
};

/// `<instance>.<svc>.<ns>.svc.<zone>`; `None` when no instance has that label.
pub(super) fn member(view: &View, label: &str, context: NameContext<'_>) -> Option<RecordSet> {
    let member = view.by_label(label)?;
    // With `--dns-empty last`, SRV records point to these names, so they must have addresses.
    let is_last_known = context.empty == EmptyAnswer::Last
        && member.facts.state == State::Up
        && !member.facts.stopping
        && view.discoverable().next().is_none();
    if member.phase == Phase::Expired && !is_last_known {
        let ede = Some(Ede::empty("this instance has expired".to_owned()));
        return Some(RecordSet { ede, ..RecordSet::default() });
    }
    let ttl = records::ttl([&**member], context.query.now);
    let ips = match &member.facts.address {
        Address::Hostname(hostname) => return Some(RecordSet::alias(context.owner, hostname, ttl)),
        Address::Ips(ips) => ips,
    };
    Some(match (context.kind, context.base) {
        (kind @ (RecordType::A | RecordType::AAAA), _) => RecordSet::from_answers(
            records::addresses(context.owner, kind, ips.iter().copied(), ttl),
        ),
        (RecordType::SRV, Some(base)) => {
            SrvTargets { owner: context.owner, base, ttl }.records([&**member], |_| true)
        }
        (RecordType::TXT, _) => RecordSet::from_answers(records::attributes(
            context.owner,
            &member.facts.attributes,
            ttl,
        )),
        _ => RecordSet::default(),
    })
}
