//! Views: immutable snapshots of services, for readers.
//!
//! Owns: a [`Member`] (one instance with its verdict), a [`View`] (one service), and the [`Revision`] of
//! any set of members. Does not own: selecting members (`select`), finding views (`directory` in
//! `rollcall-core`), and what a server stores together with views.

use std::{fmt, sync::Arc};

use xxhash_rust::xxh3::Xxh3Default;

use crate::{
    instance::{Address, Facts, InstanceKey, Pairs, Phase, Port, ServiceKey},
    lease::{Lease, Moment, millis},
    naming,
};

/// A short hash of what readers see of a set of members. It is equal on every replica for the same answer,
/// whatever the order, and heartbeats do not change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The last heartbeat of an instance, the only part of a member that changes.
pub trait HeartbeatRecord: fmt::Debug + Send + Sync {
    /// The moment of the last heartbeat known here.
    fn last_heartbeat(&self) -> Moment;
}

/// One instance as readers see it. Immutable except for its last heartbeat.
#[derive(Debug)]
pub struct Member {
    /// The facts that readers see.
    pub facts: Arc<Facts>,
    /// Where its heartbeats are recorded.
    pub heartbeats: Arc<dyn HeartbeatRecord>,
    /// The verdict.
    pub phase: Phase,
    /// Whether it is held past its lease after a mass expiry.
    pub held: bool,
    /// Its DNS label.
    pub label: Arc<str>,
    /// A hash of everything that readers see of the member.
    pub fingerprint: u64,
}

impl Member {
    /// A member with this verdict.
    #[must_use]
    pub fn new(
        facts: Arc<Facts>,
        heartbeats: Arc<dyn HeartbeatRecord>,
        phase: Phase,
        held: bool,
    ) -> Self {
        let name = &facts.key.name;
        let label = if naming::is_label(name) { name.clone() } else { naming::label(name).into() };
        let fingerprint = fingerprint(&facts, phase, held);
        Self { facts, heartbeats, phase, held, label, fingerprint }
    }

    /// When its lease ends, without grace; meaningless for a permanent instance.
    #[must_use]
    pub fn lease_end(&self) -> Moment {
        self.heartbeats.last_heartbeat().after(self.facts.lease.duration)
    }
}

/// One service, as readers see it.
#[derive(Debug)]
pub struct View {
    /// The name of the service.
    pub key: ServiceKey,
    /// All members, whatever their phase, sorted by label, then age, then name. If two have the same label,
    /// it belongs to the first.
    pub members: Box<[Arc<Member>]>,
    /// The revision of all members.
    pub revision: Revision,
    /// The revision of the discoverable members.
    pub discoverable_revision: Revision,
    /// The revision of the discoverable members in the previous view; that of an empty set if there was none.
    pub before: Revision,
}

impl View {
    /// The first view of a service; `members` must be sorted.
    #[must_use]
    pub fn new(key: ServiceKey, members: Box<[Arc<Member>]>) -> Self {
        let all = members.iter().map(AsRef::as_ref);
        let discoverable = all.clone().filter(|member| member.phase.is_discoverable());
        let (revision, discoverable_revision, before) =
            (revision(all), revision(discoverable), revision(std::iter::empty()));
        Self { key, members, revision, discoverable_revision, before }
    }

    /// This view as the successor of `old`.
    #[must_use]
    pub fn after(self, old: &Self) -> Self {
        Self { before: old.discoverable_revision, ..self }
    }

    /// The discoverable members.
    pub fn discoverable(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.iter().filter(|member| member.phase.is_discoverable())
    }

    /// The member that a label belongs to; the label is in lower case.
    #[must_use]
    pub fn by_label(&self, label: &str) -> Option<&Arc<Member>> {
        let at = self.members.partition_point(|member| &*member.label < label);
        self.members.get(at).filter(|member| &*member.label == label)
    }

    /// The members that their label belongs to, so that each label occurs once. In order.
    pub fn members_by_label(&self) -> impl Iterator<Item = &Arc<Member>> {
        let groups = self.members.chunk_by(|a, b| a.label == b.label);
        groups.filter_map(<[_]>::first)
    }

    /// How many members are in a phase.
    #[must_use]
    pub fn count(&self, phase: Phase) -> usize {
        self.members.iter().filter(|member| member.phase == phase).count()
    }
}

/// The revision of a set of members, which must be in the order of their view.
pub fn revision<'a>(members: impl Iterator<Item = &'a Member>) -> Revision {
    let mut hash = Xxh3Default::new();
    for member in members {
        hash.update(&member.fingerprint.to_le_bytes());
    }
    Revision(hash.digest())
}

/// Hashes every fact that a view shows, each with its length, so that different sets of facts never give the
/// same input. What readers do not see (resourceVersion, status, heartbeats) is left out.
fn fingerprint(facts: &Facts, phase: Phase, held: bool) -> u64 {
    let Facts {
        key: InstanceKey { namespace, name },
        uid,
        // A uid has only one creation time.
        created: _,
        service,
        address,
        ports,
        version,
        tags,
        zone,
        weight,
        priority,
        attributes,
        labels,
        state,
        health,
        stopping,
        lease,
    } = facts;
    let mut hash = Xxh3Default::new();
    let mut text = |text: &str| {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    text(namespace);
    text(name);
    text(uid);
    text(service);
    text(phase.as_str());
    text(if held { "+" } else { "-" });
    text(state.as_str());
    text(health.as_str());
    // Cannot be confused with the next value, which begins with `+` or `-`.
    if *stopping {
        text("stopping");
    }
    hash_optional(&mut text, version.as_deref());
    hash_optional(&mut text, zone.as_deref());
    match address {
        Address::Ips(ips) => ips.iter().for_each(|ip| text(&ip.to_string())),
        Address::Hostname(name) => hash_optional(&mut text, Some(name)),
    }
    text(&format!("{}", ports.len()));
    for Port { name, port, protocol, app_protocol } in ports.iter() {
        text(name);
        text(&format!("{port}/{protocol}"));
        hash_optional(&mut text, app_protocol.as_deref());
    }
    text(&format!("{weight} {priority} {}", tags.len()));
    tags.iter().for_each(|tag| text(tag));
    hash_pairs(&mut text, attributes);
    hash_pairs(&mut text, labels);
    let Lease { mode, duration, on_expiry, evict_after } = lease;
    text(&format!("{mode} {} {on_expiry} {}", millis(*duration), millis(*evict_after)));
    hash.digest()
}

fn hash_optional(text: &mut impl FnMut(&str), value: Option<&str>) {
    text(if value.is_some() { "+" } else { "-" });
    text(value.unwrap_or_default());
}

fn hash_pairs(text: &mut impl FnMut(&str), pairs: &Pairs) {
    text(&format!("{}", pairs.len()));
    for (key, value) in pairs.iter() {
        text(key);
        text(value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        instance::{Health, Instance, Protocol, State},
        lease::{LeaseMode, OnExpiry, Wall},
    };

    fn port() -> Port {
        Port { name: "http".into(), port: 80, protocol: Protocol::Tcp, app_protocol: None }
    }

    /// The same facts with one of them changed, for each fact. The destructuring has no `..`, so a new field
    /// does not compile until it gets a change here.
    fn changed(base: &Facts) -> Vec<Facts> {
        let Facts {
            key: InstanceKey { namespace: _, name: _ },
            uid: _,
            created: _,
            service: _,
            address: _,
            ports: _,
            version: _,
            tags: _,
            zone: _,
            weight: _,
            priority: _,
            attributes: _,
            labels: _,
            state: _,
            health: _,
            stopping: _,
            lease: Lease { mode: _, duration: _, on_expiry: _, evict_after: _ },
        } = base;
        let Port { name: _, port: _, protocol: _, app_protocol: _ } = port();
        let pair = || Arc::from([("a".into(), "b".into())]);
        let ips = |ips: &[&str]| Address::Ips(ips.iter().map(|ip| ip.parse().unwrap()).collect());
        let changes: [&dyn Fn(&mut Facts); 26] = [
            &|facts| facts.key.namespace = "other".into(),
            &|facts| facts.key.name = "other".into(),
            &|facts| facts.uid = "other".into(),
            &|facts| facts.service = "other".into(),
            &|facts| facts.address = ips(&["10.0.0.8"]),
            &|facts| facts.address = ips(&["10.0.0.7", "10.0.0.8"]),
            &|facts| facts.address = Address::Hostname("10.0.0.7".into()),
            &|facts| facts.ports = Arc::new([]),
            &|facts| facts.ports = Arc::new([Port { name: "other".into(), ..port() }]),
            &|facts| facts.ports = Arc::new([Port { port: 81, ..port() }]),
            &|facts| facts.ports = Arc::new([Port { protocol: Protocol::Udp, ..port() }]),
            &|facts| facts.ports = Arc::new([Port { app_protocol: Some("h2c".into()), ..port() }]),
            &|facts| facts.version = Some("1".into()),
            &|facts| facts.tags = Arc::new(["1".into()]),
            &|facts| facts.zone = Some("1".into()),
            &|facts| facts.weight = 1,
            &|facts| facts.priority = 1,
            &|facts| facts.attributes = pair(),
            &|facts| facts.labels = pair(),
            &|facts| facts.state = State::Draining,
            &|facts| facts.health = Health::Warning,
            &|facts| facts.stopping = true,
            &|facts| facts.lease.mode = LeaseMode::Permanent,
            &|facts| facts.lease.duration = Duration::from_millis(30_001),
            &|facts| facts.lease.on_expiry = OnExpiry::Retain,
            &|facts| facts.lease.evict_after = Duration::ZERO,
        ];
        let changed = |change: &&dyn Fn(&mut Facts)| {
            let mut facts = base.clone();
            change(&mut facts);
            facts
        };
        changes.iter().map(changed).collect()
    }

    #[test]
    fn every_visible_fact_changes_the_fingerprint() {
        let mut base = (*Instance::sample("shop", "a").facts).clone();
        base.ports = Arc::new([port()]);
        let fingerprint_of = |facts: &Facts| fingerprint(facts, Phase::Ready, false);
        let mut seen = vec![fingerprint_of(&base), fingerprint(&base, Phase::Warning, false)];
        seen.push(fingerprint(&base, Phase::Ready, true));
        seen.extend(changed(&base).iter().map(fingerprint_of));
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
        let mut later = base.clone();
        later.created = Wall(7);
        assert_eq!(
            fingerprint_of(&later),
            fingerprint_of(&base),
            "the uid implies the creation time"
        );
    }
}
