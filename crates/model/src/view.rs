//! Views: the immutable pictures of services that readers get.
//!
//! Owns: a [`Member`] (one instance with its verdict), a [`View`] (one service), and the [`Revision`] of any set
//! of members. Does not own: choosing among members (`select`), finding views (`directory`), and what a server keeps beside
//! them.

use std::{fmt, sync::Arc};

use xxhash_rust::xxh3::Xxh3Default;

use crate::{
    instance::{Address, Facts, Pairs, Phase, ServiceKey},
    lease::Moment,
    naming,
};

/// A short hash of what a set of members shows: equal on every replica for the same answer,
/// whatever the order, and untouched by beats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// When an instance was last heard of: the one thing of a member that moves.
pub trait Pulse: fmt::Debug + Send + Sync {
    /// The moment of the last heartbeat known here.
    fn last_beat(&self) -> Moment;
}

/// One instance as readers see it. Immutable but for its pulse.
#[derive(Debug)]
pub struct Member {
    /// What it shows.
    pub facts: Arc<Facts>,
    /// Where its heartbeats are recorded.
    pub pulse: Arc<dyn Pulse>,
    /// The verdict.
    pub phase: Phase,
    /// Whether it is kept past its lease, since too many came due at a stroke.
    pub held: bool,
    /// Its label in DNS.
    pub label: Arc<str>,
    /// Hash of all that the member shows.
    pub fingerprint: u64,
}

impl Member {
    /// A member of this verdict.
    #[must_use]
    pub fn new(facts: Arc<Facts>, pulse: Arc<dyn Pulse>, phase: Phase, held: bool) -> Self {
        let name = &facts.key.name;
        let label = if naming::is_label(name) { name.clone() } else { naming::label(name).into() };
        let fingerprint = fingerprint(&facts, phase, held);
        Self { facts, pulse, phase, held, label, fingerprint }
    }

    /// When its lease ends, floors aside; of no meaning without a lease.
    #[must_use]
    pub fn lease_end(&self) -> Moment {
        self.pulse.last_beat().after(self.facts.lease.duration)
    }
}

/// One service.
#[derive(Debug)]
pub struct View {
    /// Which.
    pub key: ServiceKey,
    /// Everybody, whatever the phase, sorted by label, then age, then name. Of two that map to
    /// the same label the first bears it.
    pub members: Box<[Arc<Member>]>,
    /// Of all members.
    pub revision: Revision,
    /// Of those who are offered.
    pub offered_revision: Revision,
    /// Of those who were offered in the view before this; of nobody where there was none.
    pub before: Revision,
}

impl View {
    /// The first view, of `members`, which are sorted.
    #[must_use]
    pub fn new(key: ServiceKey, members: Box<[Arc<Member>]>) -> Self {
        let all = members.iter().map(AsRef::as_ref);
        let offered = all.clone().filter(|member| member.phase.is_discoverable());
        let (revision, offered_revision, before) =
            (revision(all), revision(offered), revision(std::iter::empty()));
        Self { key, members, revision, offered_revision, before }
    }

    /// The same, after an `old` one.
    #[must_use]
    pub fn after(self, old: &Self) -> Self {
        Self { before: old.offered_revision, ..self }
    }

    /// Those whom anybody who asks is offered.
    pub fn offered(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.iter().filter(|member| member.phase.is_discoverable())
    }

    /// The bearer of a label, in lower case.
    #[must_use]
    pub fn by_label(&self, label: &str) -> Option<&Arc<Member>> {
        let at = self.members.partition_point(|member| &*member.label < label);
        self.members.get(at).filter(|member| &*member.label == label)
    }

    /// Those who bear their label: a name that leads to them, and nobody twice. In order.
    pub fn bearers(&self) -> impl Iterator<Item = &Arc<Member>> {
        let groups = self.members.chunk_by(|a, b| a.label == b.label);
        groups.filter_map(<[_]>::first)
    }

    /// How many members are in a phase.
    #[must_use]
    pub fn count(&self, phase: Phase) -> usize {
        self.members.iter().filter(|member| member.phase == phase).count()
    }
}

/// The revision of a set, given in the order of its view.
pub fn revision<'a>(members: impl Iterator<Item = &'a Member>) -> Revision {
    let mut hash = Xxh3Default::new();
    for member in members {
        hash.update(&member.fingerprint.to_le_bytes());
    }
    Revision(hash.digest())
}

/// Feeds every fact that a view shows, each with its length, so that no two sets of facts run
/// together. What readers are not shown (resourceVersion, status, beats) is left out.
fn fingerprint(facts: &Facts, phase: Phase, held: bool) -> u64 {
    let mut hash = Xxh3Default::new();
    let mut text = |text: &str| {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    text(&facts.key.namespace);
    text(&facts.key.name);
    text(&facts.uid);
    text(&facts.service);
    text(phase.as_str());
    text(if held { "+" } else { "-" });
    text(facts.state.as_str());
    text(facts.health.as_str());
    optional(&mut text, facts.version.as_deref());
    optional(&mut text, facts.zone.as_deref());
    match &facts.address {
        Address::Ips(ips) => ips.iter().for_each(|ip| text(&ip.to_string())),
        Address::Hostname(name) => optional(&mut text, Some(name)),
    }
    text(&format!("{}", facts.ports.len()));
    for port in facts.ports.iter() {
        text(&port.name);
        text(&format!("{}/{}", port.port, port.protocol));
        optional(&mut text, port.app_protocol.as_deref());
    }
    text(&format!("{} {} {}", facts.weight, facts.priority, facts.tags.len()));
    facts.tags.iter().for_each(|tag| text(tag));
    pairs(&mut text, &facts.attributes);
    pairs(&mut text, &facts.labels);
    text(&format!("{:?}", facts.lease));
    hash.digest()
}

fn optional(text: &mut impl FnMut(&str), value: Option<&str>) {
    text(if value.is_some() { "+" } else { "-" });
    text(value.unwrap_or_default());
}

fn pairs(text: &mut impl FnMut(&str), pairs: &Pairs) {
    text(&format!("{}", pairs.len()));
    for (key, value) in pairs.iter() {
        text(key);
        text(value);
    }
}
