//! The guard: a service is not emptied by one mass expiry, nor the greater part of the cluster.
//!
//! When many stop their heartbeats together, what they have in common has failed more likely than all of them: a
//! network between them and the replicas, a certificate, a node of sidecars. An instance that comes due then is kept in the
//! answers for one further lease at most, and its answers say so (`held`).
//!
//! Owns: what counts as a mass expiry, which instances are held and until when. Does not own: when a lease ends
//! (`leases`), and the evictions that a hold stops (`evictions`).

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
    report::{self, Hold, SHOWN},
    table::{Entry, Table},
};

/// Of fewer leased instances no part is called the greater part of the cluster.
const FEWEST: usize = 10;

/// A look at all instances costs about 0.1 µs an instance: paused for fifty times as long, 2 % of a core at most.
const LOOK_PAUSE: Duration = Duration::from_micros(5);

/// Which hold an instance is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Service,
    Everybody,
}

/// An instance that is kept past its lease.
#[derive(Clone, Debug)]
struct Held {
    service: ServiceKey,
    /// Its last heartbeat; another one ends this.
    beat: Moment,
    until: Moment,
    scope: Scope,
}

/// Every hold.
#[derive(Debug, Default)]
pub(super) struct Guard {
    services: HashMap<ServiceKey, Hold>,
    everybody: Option<Hold>,
    held: HashMap<InstanceKey, Held>,
    /// The deadline for which all instances were looked at last.
    looked: Option<Moment>,
    /// When the held instances were last looked at for heartbeats.
    heard: Option<Moment>,
    begun: u64,
}

/// What shows whether there is a mass expiry.
pub(super) struct Evidence<'a> {
    pub(super) table: &'a Table,
    pub(super) publication: &'a Publication,
    pub(super) grace: &'a Grace,
}

/// An instance is kept though its lease has ended.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) until: Moment,
    /// What is to be announced of it, where it was not kept before.
    pub(super) announcement: Option<Announcement>,
    /// Whether a hold begins with it.
    pub(super) begins: bool,
}

impl Guard {
    /// Whether there is any hold.
    pub(super) fn is_active(&self) -> bool {
        self.everybody.is_some() || !self.services.is_empty()
    }

    /// Whether an instance is held.
    pub(super) fn holds(&self, key: &InstanceKey) -> bool {
        self.held.contains_key(key)
    }

    /// Whether nothing of this service is to be evicted.
    pub(super) fn stops_evictions(&self, service: &ServiceKey) -> bool {
        self.everybody.is_some() || self.services.contains_key(service)
    }

    /// Holds that began.
    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    /// Until when an instance is kept though its lease has ended at `deadline`; none when it is not.
    pub(super) fn keep(
        &mut self,
        entry: &Entry,
        beat: Moment,
        deadline: Moment,
        evidence: &Evidence<'_>,
    ) -> Option<Kept> {
        let key = &entry.instance().key;
        if let Some(held) = self.held.get(key).filter(|held| held.beat == beat) {
            return Some(Kept { until: held.until, announcement: None, begins: false });
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
            Scope::Everybody => Announcement::HeldAll { silent, of },
        });
        self.held.insert(key.clone(), Held { service, beat, until, scope });
        Some(Kept { until, announcement, begins })
    }

    /// An instance that is held already, and whose last heartbeat still is that of then, is so until `deadline` at least;
    /// the end of it.
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

    /// An instance is not held any more. Answers whether it was.
    pub(super) fn release(&mut self, key: &InstanceKey) -> bool {
        let Some(held) = self.held.remove(key) else { return false };
        if let Some(hold) = self.hold(&held.service, held.scope) {
            hold.held = hold.held.saturating_sub(1);
        }
        true
    }

    /// The same, if it has been heard of since, or its silence does not count any more.
    pub(super) fn release_if_heard(&mut self, entry: &Entry) -> bool {
        let key = &entry.instance().key;
        let heard = self
            .held
            .get(key)
            .is_some_and(|held| !entry.is_guarded() || held.beat != entry.slot().last_heartbeat());
        heard && self.release(key)
    }

    /// The held instances that may have been heard of since: now and then all of them. Where grace have given a lease
    /// more time a heartbeat counts without another look at its instance.
    pub(super) fn take_look(&mut self, now: Moment, instances: usize) -> Vec<InstanceKey> {
        let recent = |heard| now.since(heard) < look_pause(instances);
        if !self.is_active() || self.heard.is_some_and(recent) {
            return Vec::new();
        }
        self.heard = Some(now);
        self.held()
    }

    /// The instances that are held.
    pub(super) fn held(&self) -> Vec<InstanceKey> {
        self.held.keys().cloned().collect()
    }

    /// Holds end that hold no instance, once all of their mass expiry have come due: the horizon is at `horizon`.
    pub(super) fn end(&mut self, horizon: Moment) {
        let lasts = |hold: &Hold| hold.held > 0 || hold.over >= horizon;
        self.everybody = self.everybody.filter(lasts);
        self.services.retain(|_, hold| lasts(hold));
    }

    /// For people; none when nothing is held.
    pub(super) fn report(&self) -> Option<Arc<report::Held>> {
        if !self.is_active() {
            return None;
        }
        let everybody = self.everybody;
        let of_services = self.services.iter().map(|(key, hold)| (key.clone(), *hold));
        let mut services: Vec<_> = of_services.collect();
        services.sort_by(|a, b| a.0.cmp(&b.0));
        let held = |hold: Hold| hold.held;
        let instances =
            everybody.map_or(0, held) + services.iter().map(|it| it.1.held).sum::<usize>();
        let more = services.len().saturating_sub(SHOWN);
        services.truncate(SHOWN);
        Some(Arc::new(report::Held { instances, everybody, services, more }))
    }

    /// The hold that an instance is in whose last heartbeat was then.
    fn covers(&self, service: &ServiceKey, beat: Moment, discoverable: bool) -> Option<Scope> {
        let covers = |hold: &Hold| beat <= hold.since;
        if self.everybody.as_ref().is_some_and(covers) {
            return Some(Scope::Everybody);
        }
        let hold = self.services.get(service).filter(|_| discoverable);
        hold.is_some_and(covers).then_some(Scope::Service)
    }

    fn hold(&mut self, service: &ServiceKey, scope: Scope) -> Option<&mut Hold> {
        match scope {
            Scope::Service => self.services.get_mut(service),
            Scope::Everybody => self.everybody.as_mut(),
        }
    }

    /// Whether the lease that ended at `deadline` is one of many; `over` is when the last of these is given up.
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
            self.begin(service, Scope::Everybody, hold(silent, of));
            return Some(Scope::Everybody);
        }
        let of = discoverable.then(|| silent_in_service(service, deadline, evidence)).flatten()?;
        self.begin(service, Scope::Service, hold(of, of));
        Some(Scope::Service)
    }

    /// A hold begins, or another mass expiry falls into one.
    fn begin(&mut self, service: &ServiceKey, scope: Scope, new: Hold) {
        self.begun += 1;
        if let Some(hold) = self.hold(service, scope) {
            (hold.silent, hold.of) = (new.silent, new.of);
            (hold.since, hold.over) = (hold.since.max(new.since), hold.over.max(new.over));
            return;
        }
        match scope {
            Scope::Service => drop(self.services.insert(service.clone(), new)),
            Scope::Everybody => self.everybody = Some(new),
        }
    }

    /// How many of how many leased instances fell silent together, if they are the greater part. Of deadlines
    /// close together the first is looked at: all of a mass expiry are silent already when that comes due.
    fn silent_in_cluster(&mut self, at: Moment, evidence: &Evidence<'_>) -> Option<(usize, usize)> {
        let instances = evidence.table.len();
        let recent = |looked| at.since(looked) < look_pause(instances);
        if instances < FEWEST || self.looked.is_some_and(recent) {
            return None;
        }
        self.looked = Some(at);
        let (mut silent, mut of) = (0, 0);
        for entry in evidence
            .table
            .entries()
            .filter(|entry| entry.is_guarded() && !entry.slot().is_expired())
        {
            of += 1;
            silent += usize::from(is_silent(&entry.member, evidence.grace, at));
        }
        (of >= FEWEST && silent * 2 > of).then_some((silent, of))
    }
}

/// How long not all instances are looked at again.
fn look_pause(instances: usize) -> Duration {
    LOOK_PAUSE * u32::try_from(instances).unwrap_or(u32::MAX)
}

/// How many the service offers, if all of them fell silent together, and there are two or more. Most
/// services answer by the first member.
fn silent_in_service(service: &ServiceKey, at: Moment, evidence: &Evidence<'_>) -> Option<usize> {
    let members = evidence.publication.members(service);
    let mut of = 0;
    for member in members.filter(|member| member.phase.is_discoverable()) {
        if !member.facts.lease.is_leased() || !is_silent(member, evidence.grace, at) {
            return None;
        }
        of += 1;
    }
    (of >= 2).then_some(of)
}

/// Whether a leased member had been silent for more than half its lease at `at`. An instance that sends heartbeats when
/// it is told to, each third, has not.
fn is_silent(member: &Member, grace: &Grace, at: Moment) -> bool {
    let duration = member.facts.lease.duration;
    grace.deadline(member.pulse.last_heartbeat(), duration) < at.after(duration / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Mark;
    use crate::slot::{Slot, Source};
    use rollcall_model::instance::Instance;

    /// Two instances of one service whose leases of 30 s began at 0.
    fn two_instances() -> (Table, Publication) {
        let (mut table, mut publication) = (Table::new(false), Publication::new(Arc::default()));
        for name in ["a", "b"] {
            let record = Arc::new(Instance::sample("shop", name));
            let slot = Arc::new(Slot::new(record.clone(), Moment(0), Source::Http, false));
            let entry = Entry::new(record, slot, Mark::Own);
            publication.enter(&entry);
            table.insert(entry);
        }
        (table, publication)
    }

    #[test]
    fn an_instance_that_comes_due_again_is_counted_once() {
        let (table, publication) = two_instances();
        let (mut guard, grace) = (Guard::default(), Grace::default());
        let evidence = Evidence { table: &table, publication: &publication, grace: &grace };
        let entry = table.get(&InstanceKey::new("shop", "a")).unwrap();
        let kept = guard.keep(entry, Moment(0), Moment(30_000), &evidence).unwrap();
        assert_eq!((kept.until, kept.announcement.is_some()), (Moment(60_000), true));
        // A heartbeat that counts without a look at its instance, and silence again.
        entry.slot().revive(Moment(31_000), Source::Http);
        let kept = guard.keep(entry, Moment(31_000), Moment(61_000), &evidence).unwrap();
        assert_eq!((kept.until, kept.announcement.is_some()), (Moment(91_000), true));
        assert_eq!(guard.report().unwrap().instances, 1);
        guard.release(&InstanceKey::new("shop", "a"));
        guard.end(Moment(200_000));
        assert!(!guard.is_active(), "a hold that holds no instance ends");
    }
}
