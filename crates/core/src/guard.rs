//! The guard: a service is not emptied at a stroke, nor the greater part of the cluster.
//!
//! When many stop beating together, what they have in common has failed more likely than all of them: a
//! network between them and the doors, a certificate, a node of sidecars. Whoever comes due then is kept in the answers for
//! one further lease at most, and says so (`held`).
//!
//! Owns: what counts as a stroke, who is held and until when. Does not own: when a lease ends (`judge`), and
//! the evictions that a hold stops (`duties`).

use std::{collections::HashMap, time::Duration};

use crate::{
    catalog::{Catalog, Entry},
    fact::{Announcement, Duty, Version},
    floors::Floors,
    instance::{InstanceKey, ServiceKey},
    lease::Moment,
    view::Member,
};

/// Of fewer leased instances no part is called the greater part of the cluster.
const FEWEST: usize = 10;

/// A look at everybody costs some 0.1 µs an instance: paused for fifty times as long, 2 % of a core at most.
const LOOK_PAUSE: Duration = Duration::from_micros(5);

/// Whose hold an instance is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Service,
    Everybody,
}

/// An instance that is kept past its lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// Its last beat; another one ends this.
    beat: Moment,
    until: Moment,
    scope: Scope,
}

/// Many that came due at a stroke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The end of the first lease.
    pub since: Moment,
    /// When the last of those who are held now is given up.
    pub until: Moment,
    /// How many are held now.
    pub held: usize,
    /// Up to when others of the same stroke come due: before that it does not end.
    pub over: Moment,
    /// How many had fallen silent when it began.
    pub silent: usize,
    /// And of how many: that the service offered, or that had a lease in the cluster.
    pub of: usize,
}

/// Every hold.
#[derive(Debug, Default)]
pub(super) struct Guard {
    services: HashMap<ServiceKey, Hold>,
    everybody: Option<Hold>,
    /// The deadline for which everybody was looked at last.
    looked: Option<Moment>,
    /// When those held were last asked for who has beaten.
    heard: Option<Moment>,
}

impl Guard {
    /// Whether anybody is held.
    pub(super) fn is_active(&self) -> bool {
        self.everybody.is_some() || !self.services.is_empty()
    }

    /// Whether nothing of this service is to be evicted.
    pub(super) fn stops_evictions(&self, service: &ServiceKey) -> bool {
        self.everybody.is_some() || self.services.contains_key(service)
    }

    pub(super) fn everybody(&self) -> Option<Hold> {
        self.everybody
    }

    pub(super) fn services(&self) -> impl Iterator<Item = (&ServiceKey, &Hold)> {
        self.services.iter()
    }

    /// The hold that an instance is in whose last beat was then.
    fn covers(&self, service: &ServiceKey, beat: Moment, offered: bool) -> Option<Scope> {
        let covers = |hold: &Hold| beat <= hold.since;
        if self.everybody.as_ref().is_some_and(covers) {
            return Some(Scope::Everybody);
        }
        let hold = self.services.get(service).filter(|_| offered);
        hold.is_some_and(covers).then_some(Scope::Service)
    }

    fn hold(&mut self, service: &ServiceKey, scope: Scope) -> Option<&mut Hold> {
        match scope {
            Scope::Service => self.services.get_mut(service),
            Scope::Everybody => self.everybody.as_mut(),
        }
    }

    fn enter(&mut self, service: &ServiceKey, held: Held) {
        if let Some(hold) = self.hold(service, held.scope) {
            hold.held += 1;
            hold.until = hold.until.max(held.until);
        }
    }

    /// A hold begins, or another stroke falls into one.
    fn begin(&mut self, service: &ServiceKey, scope: Scope, new: Hold) {
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

    /// Holds end that hold nobody, once all of their stroke have come due: the horizon is at `reach`.
    pub(super) fn end(&mut self, reach: Moment) {
        let lasts = |hold: &Hold| hold.held > 0 || hold.over >= reach;
        self.everybody = self.everybody.filter(lasts);
        self.services.retain(|_, hold| lasts(hold));
    }

    /// One is not held any more.
    pub(super) fn leave(&mut self, service: &ServiceKey, held: Held) {
        if let Some(hold) = self.hold(service, held.scope) {
            hold.held = hold.held.saturating_sub(1);
        }
    }
}

/// Whether a leased member had been silent for more than half its lease at `at`. Whoever beats when it is
/// told to, each third, has not.
fn is_silent(member: &Member, floors: &Floors, at: Moment) -> bool {
    let duration = member.facts.lease.duration;
    floors.deadline(member.pulse.last_beat(), duration) < at.after(duration / 2)
}

impl Catalog {
    /// How long nobody looks at everybody again.
    fn look_pause(&self) -> Duration {
        LOOK_PAUSE * u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }

    /// Until when an instance is kept though its lease has ended at `deadline`; none when it is not.
    pub(super) fn kept_until(
        &mut self,
        key: &InstanceKey,
        (beat, deadline): (Moment, Moment),
    ) -> Option<Moment> {
        let entry = self.entries.get(key)?;
        if let Some(held) = entry.held.filter(|held| held.beat == beat) {
            return Some(held.until);
        }
        let until = deadline.after(entry.instance().lease.duration);
        let (service, on) = (entry.instance().service_key(), Version::of(entry.instance()));
        let offered = entry.member.phase.is_discoverable();
        let scope = match self.guard.covers(&service, beat, offered) {
            Some(scope) => scope,
            None => self.begin_hold((&service, on, offered), (deadline, until))?,
        };
        let held = Held { beat, until, scope };
        self.guard.enter(&service, held);
        let entry = self.entries.get_mut(key)?;
        entry.held = Some(held);
        let (instance, slot) = (entry.instance().clone(), entry.slot().clone());
        self.show(instance, slot);
        Some(until)
    }

    /// An instance that is held already, and whose last beat still is that of then, is so until `deadline` at least;
    /// the end of it.
    pub(super) fn hold_longer(
        &mut self,
        key: &InstanceKey,
        beat: Moment,
        deadline: Moment,
    ) -> Option<Moment> {
        let entry = self.entries.get_mut(key)?;
        let mut held = entry.held.filter(|held| held.beat == beat)?;
        held.until = held.until.max(deadline);
        entry.held = Some(held);
        let service = entry.instance().service_key();
        if let Some(hold) = self.guard.hold(&service, held.scope) {
            hold.until = hold.until.max(held.until);
        }
        Some(held.until)
    }

    /// Whoever is held and has beaten is held no more. Where floors have given its lease more time a beat counts without
    /// coming by here, so everybody is looked at now and then.
    pub(super) fn release_heard(&mut self, now: Moment) {
        let pause = self.look_pause();
        let recent = |heard| now.since(heard) < pause;
        if !self.guard.is_active() || self.guard.heard.is_some_and(recent) {
            return;
        }
        self.guard.heard = Some(now);
        let held = self.entries.iter().filter(|(_, entry)| entry.held.is_some());
        let held: Vec<_> = held.map(|(key, _)| key.clone()).collect();
        held.iter().for_each(|key| self.release_if_heard(key));
    }

    /// An instance is not held any more, if it was.
    pub(super) fn release(&mut self, key: &InstanceKey) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Some(held) = entry.held.take() else { return };
        let (instance, slot) = (entry.instance().clone(), entry.slot().clone());
        self.guard.leave(&instance.service_key(), held);
        self.show(instance, slot);
    }

    /// The same, if it has been heard of since, or needs no beats any more.
    pub(super) fn release_if_heard(&mut self, key: &InstanceKey) {
        let heard = self.entries.get(key).is_some_and(|entry| {
            let leased = entry.instance().lease.is_leased();
            entry.held.is_some_and(|held| !leased || held.beat != entry.slot().last_beat())
        });
        if heard {
            self.release(key);
        }
    }

    /// Whether the lease that ended at `deadline` is one of many.
    fn begin_hold(
        &mut self,
        (service, on, offered): (&ServiceKey, Version, bool),
        (deadline, over): (Moment, Moment),
    ) -> Option<Scope> {
        if !self.settings.rules.guard {
            return None;
        }
        let hold =
            |silent, of| Hold { since: deadline, until: deadline, held: 0, silent, over, of };
        if let Some((silent, of)) = self.stroke_on_all(deadline) {
            self.guard.begin(service, Scope::Everybody, hold(silent, of));
            let own = self.entries.get(&self.settings.own);
            let on = own.map_or(on, |own| Version::of(own.instance()));
            self.tell_of_hold(on, Announcement::HeldAll { silent, of });
            return Some(Scope::Everybody);
        }
        let of = offered.then(|| self.stroke_on(service, deadline)).flatten()?;
        self.guard.begin(service, Scope::Service, hold(of, of));
        self.tell_of_hold(on, Announcement::Held { service: service.service.clone(), of });
        Some(Scope::Service)
    }

    fn tell_of_hold(&mut self, on: Version, what: Announcement) {
        self.counts.holds += 1;
        self.outbox.announce(Duty::Announce { on, what });
    }

    /// How many the service offers, if all of them fell silent together, and there are two or more. Most
    /// services answer by the first member.
    fn stroke_on(&self, service: &ServiceKey, at: Moment) -> Option<usize> {
        let members = self.services.get(service)?.values();
        let mut of = 0;
        for member in members.filter(|member| member.phase.is_discoverable()) {
            if !member.facts.lease.is_leased() || !is_silent(member, &self.floors, at) {
                return None;
            }
            of += 1;
        }
        (of >= 2).then_some(of)
    }

    /// How many of how many leased instances fell silent together, if they are the greater part. Of deadlines
    /// close together the first is asked for: all of a stroke are silent already when that comes due.
    fn stroke_on_all(&mut self, at: Moment) -> Option<(usize, usize)> {
        let pause = self.look_pause();
        let recent = |looked| at.since(looked) < pause;
        if self.entries.len() < FEWEST || self.guard.looked.is_some_and(recent) {
            return None;
        }
        self.guard.looked = Some(at);
        let leased = |entry: &&Box<Entry>| entry.instance().lease.is_leased();
        let entries = self.entries.values().filter(leased);
        let (mut silent, mut of) = (0, 0);
        for entry in entries.filter(|entry| !entry.slot().is_dead()) {
            of += 1;
            silent += usize::from(is_silent(&entry.member, &self.floors, at));
        }
        (of >= FEWEST && silent * 2 > of).then_some((silent, of))
    }
}
