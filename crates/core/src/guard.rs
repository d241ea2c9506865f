//! The guard: it keeps a mass expiry from emptying a service, or most of the cluster, at once.
//!
//! When many instances stop sending heartbeats together, it is likely that something they share has
//! failed, not every one of them: a network between them and the replicas, a certificate, a node with
//! sidecars. An instance whose lease ends then stays in the answers for at most one more lease, and the
//! answers say so (`held`).
//!
//! Owns: what counts as a mass expiry, which instances are held, and until when. Does not own: when a lease
//! ends (`leases`), and the evictions that a hold stops (`evictions`).

use std::{collections::HashMap, sync::Arc, time::Duration};

use rollcall_model::{
    instance::{InstanceKey, ServiceKey},
    lease::Moment,
    view::Member,
};

use crate::{
    fact::Announcement,
    grace::Grace,
    publication::Publication,
    report::{self, Hold, MAX_LISTED},
    table::{Entry, Table},
};

/// With fewer leased instances than this, there is no cluster-wide hold.
const MIN_CLUSTER: usize = 10;

/// The pause between two checks of all instances, for each instance. A check takes about 0.1 µs per
/// instance, so with a pause of fifty times that the checks take at most 2 % of a core.
const CHECK_PAUSE: Duration = Duration::from_micros(5);

/// The hold that an instance belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Service,
    Cluster,
}

/// An instance that is held past its lease.
#[derive(Clone, Debug)]
struct Held {
    service: ServiceKey,
    /// Its last heartbeat; a later one ends the hold.
    beat: Moment,
    until: Moment,
    scope: Scope,
}

#[derive(Debug, Default)]
pub(super) struct Guard {
    services: HashMap<ServiceKey, Hold>,
    cluster: Option<Hold>,
    held: HashMap<InstanceKey, Held>,
    /// The deadline for which all instances were last checked.
    cluster_checked: Option<Moment>,
    /// When the held instances were last checked for heartbeats.
    held_checked: Option<Moment>,
    begun: u64,
}

pub(super) struct Evidence<'a> {
    pub(super) table: &'a Table,
    pub(super) publication: &'a Publication,
    pub(super) grace: &'a Grace,
}

/// The decision to hold an instance.
#[derive(Debug)]
pub(super) struct HoldDecision {
    pub(super) until: Moment,
    /// The Event, if the instance was not held before.
    pub(super) announcement: Option<Announcement>,
    /// Whether a hold begins with this instance.
    pub(super) begins: bool,
}

impl Guard {
    pub(super) fn is_active(&self) -> bool {
        self.cluster.is_some() || !self.services.is_empty()
    }

    pub(super) fn holds(&self, key: &InstanceKey) -> bool {
        self.held.contains_key(key)
    }

    /// Whether a hold stops evictions in this service.
    pub(super) fn stops_evictions(&self, service: &ServiceKey) -> bool {
        self.cluster.is_some() || self.services.contains_key(service)
    }

    /// How many holds have begun.
    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    /// Decides whether an instance whose lease ended at `deadline` is held, and until when.
    pub(super) fn decide(
        &mut self,
        entry: &Entry,
        beat: Moment,
        deadline: Moment,
        evidence: &Evidence<'_>,
    ) -> Option<HoldDecision> {
        let key = &entry.instance().key;
        if let Some(held) = self.held.get(key).filter(|held| held.beat == beat) {
            return Some(HoldDecision { until: held.until, announcement: None, begins: false });
        }
        let until = deadline.after(entry.lease().duration);
        let service = entry.instance().service_key();
        let discoverable = entry.member.phase.is_discoverable();
        let (scope, begins) = match self.covers(&service, beat, discoverable) {
            Some(scope) => (scope, false),
            None => (self.begin_hold(&service, discoverable, deadline, until, evidence)?, true),
        };
        self.release(key);
        let hold = self.hold(&service, scope)?;
        hold.held += 1;
        hold.until = hold.until.max(until);
        let (silent, of) = (hold.silent, hold.of);
        let announcement = Some(match scope {
            Scope::Service => Announcement::Held { service: service.service.clone(), of },
            Scope::Cluster => Announcement::HeldAll { silent, of },
        });
        self.held.insert(key.clone(), Held { service, beat, until, scope });
        Some(HoldDecision { until, announcement, begins })
    }

    /// Extends the hold of an instance at least to `deadline`, unless a heartbeat has come since the hold
    /// began. Returns the end of the hold.
    pub(super) fn prolong(
        &mut self,
        key: &InstanceKey,
        beat: Moment,
        deadline: Moment,
    ) -> Option<Moment> {
        let held = self.held.get_mut(key).filter(|held| held.beat == beat)?;
        held.until = held.until.max(deadline);
        let held = held.clone();
        if let Some(hold) = self.hold(&held.service, held.scope) {
            hold.until = hold.until.max(held.until);
        }
        Some(held.until)
    }

    /// Releases an instance. Returns whether it was held.
    pub(super) fn release(&mut self, key: &InstanceKey) -> bool {
        let Some(held) = self.held.remove(key) else { return false };
        if let Some(hold) = self.hold(&held.service, held.scope) {
            hold.held = hold.held.saturating_sub(1);
        }
        true
    }

    /// Releases an instance if a heartbeat has come since its hold began, or if its silence no longer
    /// counts. Returns whether it was held.
    pub(super) fn release_if_renewed(&mut self, entry: &Entry) -> bool {
        let key = &entry.instance().key;
        let is_over = self
            .held
            .get(key)
            .is_some_and(|held| !entry.is_guarded() || held.beat != entry.slot().last_heartbeat());
        is_over && self.release(key)
    }

    /// The held instances, if it is time to check them for heartbeats; otherwise none. A heartbeat during
    /// grace counts without a fact, so only this check finds it.
    pub(super) fn take_due_checks(&mut self, now: Moment, instances: usize) -> Vec<InstanceKey> {
        let recent = |checked| now.since(checked) < check_pause(instances);
        if !self.is_active() || self.held_checked.is_some_and(recent) {
            return Vec::new();
        }
        self.held_checked = Some(now);
        self.held()
    }

    pub(super) fn held(&self) -> Vec<InstanceKey> {
        self.held.keys().cloned().collect()
    }

    /// Ends holds without instances once the horizon has passed the end of all leases of their mass
    /// expiry.
    pub(super) fn end(&mut self, horizon: Moment) {
        let lasts = |hold: &Hold| hold.held > 0 || hold.over >= horizon;
        self.cluster = self.cluster.filter(lasts);
        self.services.retain(|_, hold| lasts(hold));
    }

    /// The holds, for reports; `None` if there are none.
    pub(super) fn report(&self) -> Option<Arc<report::Held>> {
        if !self.is_active() {
            return None;
        }
        let cluster = self.cluster;
        let of_services = self.services.iter().map(|(key, hold)| (key.clone(), *hold));
        let mut services: Vec<_> = of_services.collect();
        services.sort_by(|a, b| a.0.cmp(&b.0));
        let held = |hold: Hold| hold.held;
        let instances =
            cluster.map_or(0, held) + services.iter().map(|it| it.1.held).sum::<usize>();
        let more = services.len().saturating_sub(MAX_LISTED);
        services.truncate(MAX_LISTED);
        Some(Arc::new(report::Held { instances, cluster, services, more }))
    }

    /// The existing hold that covers an instance with this last heartbeat.
    fn covers(&self, service: &ServiceKey, beat: Moment, discoverable: bool) -> Option<Scope> {
        let covers = |hold: &Hold| beat <= hold.since;
        if self.cluster.as_ref().is_some_and(covers) {
            return Some(Scope::Cluster);
        }
        let hold = self.services.get(service).filter(|_| discoverable);
        hold.is_some_and(covers).then_some(Scope::Service)
    }

    fn hold(&mut self, service: &ServiceKey, scope: Scope) -> Option<&mut Hold> {
        match scope {
            Scope::Service => self.services.get_mut(service),
            Scope::Cluster => self.cluster.as_mut(),
        }
    }

    /// Begins a hold if the lease that ended at `deadline` is part of a mass expiry. `over` is when the last
    /// of its instances is released.
    fn begin_hold(
        &mut self,
        service: &ServiceKey,
        discoverable: bool,
        deadline: Moment,
        over: Moment,
        evidence: &Evidence<'_>,
    ) -> Option<Scope> {
        let hold =
            |silent, of| Hold { since: deadline, until: deadline, held: 0, silent, over, of };
        if let Some((silent, of)) = self.silent_in_cluster(deadline, evidence) {
            self.begin(service, Scope::Cluster, hold(silent, of));
            return Some(Scope::Cluster);
        }
        let total =
            discoverable.then(|| silent_in_service(service, deadline, evidence)).flatten()?;
        self.begin(service, Scope::Service, hold(total, total));
        Some(Scope::Service)
    }

    /// Begins a hold, or adds another mass expiry to one.
    fn begin(&mut self, service: &ServiceKey, scope: Scope, new: Hold) {
        self.begun += 1;
        if let Some(hold) = self.hold(service, scope) {
            (hold.silent, hold.of) = (new.silent, new.of);
            (hold.since, hold.over) = (hold.since.max(new.since), hold.over.max(new.over));
            return;
        }
        match scope {
            Scope::Service => drop(self.services.insert(service.clone(), new)),
            Scope::Cluster => self.cluster = Some(new),
        }
    }

    /// The number of leased instances that are silent together and the number of all leased instances, if
    /// more than half are silent. Of several deadlines close together only the first one is checked: all
    /// instances of a mass expiry are silent by then.
    fn silent_in_cluster(&mut self, at: Moment, evidence: &Evidence<'_>) -> Option<(usize, usize)> {
        let instances = evidence.table.len();
        let recent = |cluster_checked| at.since(cluster_checked) < check_pause(instances);
        if instances < MIN_CLUSTER || self.cluster_checked.is_some_and(recent) {
            return None;
        }
        self.cluster_checked = Some(at);
        let (mut silent, mut total) = (0, 0);
        for entry in evidence
            .table
            .entries()
            .filter(|entry| entry.is_guarded() && !entry.slot().is_expired())
        {
            total += 1;
            silent += usize::from(is_silent(&entry.member, evidence.grace, at));
        }
        (total >= MIN_CLUSTER && silent * 2 > total).then_some((silent, total))
    }
}

/// The pause between two checks of all instances.
fn check_pause(instances: usize) -> Duration {
    CHECK_PAUSE * u32::try_from(instances).unwrap_or(u32::MAX)
}

/// The number of discoverable instances of the service, if there are at least two and all fell silent
/// together. For most services the first member decides.
fn silent_in_service(service: &ServiceKey, at: Moment, evidence: &Evidence<'_>) -> Option<usize> {
    let members = evidence.publication.members(service);
    let mut total = 0;
    for member in members.filter(|member| member.phase.is_discoverable()) {
        if !member.facts.lease.is_leased() || !is_silent(member, evidence.grace, at) {
            return None;
        }
        total += 1;
    }
    (total >= 2).then_some(total)
}

/// Whether a leased member had been silent for more than half its lease at `at`. This is never true for a
/// client that sends a heartbeat every third of the lease, as documented.
fn is_silent(member: &Member, grace: &Grace, at: Moment) -> bool {
    let duration = member.facts.lease.duration;
    grace.deadline(member.heartbeats.last_heartbeat(), duration) < at.after(duration / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Author;
    use crate::slot::{Slot, Source};
    use rollcall_model::instance::Instance;

    /// Two instances of one service, with leases of 30 s that began at 0.
    fn two_instances() -> (Table, Publication) {
        let (mut table, mut publication) = (Table::new(false), Publication::new(Arc::default()));
        for name in ["a", "b"] {
            let record = Arc::new(Instance::sample("shop", name));
            let slot = Arc::new(Slot::new(record.clone(), Moment(0), Source::Http, false));
            let entry = Entry::new(record, slot, Author::Own);
            publication.enter(&entry);
            table.insert(entry);
        }
        (table, publication)
    }

    #[test]
    fn instance_held_twice_is_counted_once() {
        let (table, publication) = two_instances();
        let (mut guard, grace) = (Guard::default(), Grace::default());
        let evidence = Evidence { table: &table, publication: &publication, grace: &grace };
        let entry = table.get(&InstanceKey::new("shop", "a")).unwrap();
        let kept = guard.decide(entry, Moment(0), Moment(30_000), &evidence).unwrap();
        assert_eq!((kept.until, kept.announcement.is_some()), (Moment(60_000), true));
        // A heartbeat during grace, which counts without a check, and silence again.
        entry.slot().revive(Moment(31_000), Source::Http);
        let kept = guard.decide(entry, Moment(31_000), Moment(61_000), &evidence).unwrap();
        assert_eq!((kept.until, kept.announcement.is_some()), (Moment(91_000), true));
        assert_eq!(guard.report().unwrap().instances, 1);
        guard.release(&InstanceKey::new("shop", "a"));
        guard.end(Moment(200_000));
        assert!(!guard.is_active(), "a hold without instances ends");
    }
}
