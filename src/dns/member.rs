//! What the name of one instance answers.
//!
//! Owns: that it resolves until it is Expired, and exists as long as its object. Does not own: the
//! records (`records`).

use hickory_proto::rr::RecordType;

use crate::dns::{
    records::{self, Set, Targets},
    service::Context,
};
use crate::registry::{
    instance::{Address, Phase},
    view::View,
};

/// `<instance>.<svc>.<ns>.svc.<zone>`; none when nobody bears that label.
pub(super) fn member(view: &View, label: &str, context: Context<'_>) -> Option<Set> {
    let member = view.by_label(label)?;
    if member.phase == Phase::Expired {
        return Some(Set::default());
    }
    let ttl = records::ttl([&**member], context.now);
    let ips = match &member.instance.address {
        Address::Hostname(hostname) => return Some(Set::alias(context.owner, hostname, ttl)),
        Address::Ips(ips) => ips,
    };
    Some(match (context.kind, context.base) {
        (kind @ (RecordType::A | RecordType::AAAA), _) => {
            let answers = records::addresses(context.owner, kind, ips.iter().copied(), ttl);
            Set { answers, glue: Vec::new() }
        }
        (RecordType::SRV, Some(base)) => {
            Targets { owner: context.owner, base, ttl }.of([&**member], |_| true)
        }
        (RecordType::TXT, _) => {
            let answers = records::attributes(context.owner, &member.instance.attributes, ttl);
            Set { answers, glue: Vec::new() }
        }
        _ => Set::default(),
    })
}
