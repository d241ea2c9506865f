//! What the client of a watch knows of its services, and which events it gets next.
//!
//! Owns: [`ChangeFeed`]. Does not own: when to refresh it and when to write (`stream`); the format of events
//! (`events`); the events that many watches share (`shared_events`).
//!
//! Nothing is queued for a slow client. A feed holds references to the views that its client knows. When all events up
//! to these views are written, the feed computes the events that lead to the current views. Changes in between that
//! cancel each other out are neither sent nor stored.

use std::{collections::VecDeque, sync::Arc, vec};

use bytes::{Bytes, BytesMut};
use rollcall_model::{
    instance::ServiceKey,
    select::Filter,
    view::{Revision, revision},
};

use crate::http::{
    difference::{self, MemberChange},
    encoded_views::{EncodedMember, EncodedView, SharedEvents, Views},
    events, shared_events,
};

/// The events of one watch.
pub(super) struct ChangeFeed {
    filter: Filter,
    /// The DNS zone.
    zone: Arc<str>,
    services: Box<[KnownService]>,
    /// Events since the last refresh that are not written yet: at most one entry a service.
    pending: VecDeque<PendingService>,
    /// Used in place of `pending`: the shared events of the only service, and their number.
    shared: Option<(usize, Bytes)>,
    /// The number of events written so far.
    event_count: u64,
}

/// What the client knows of a service when all pending events are written.
struct KnownService {
    key: ServiceKey,
    /// `None` when the service has no instance.
    view: Option<Arc<EncodedView>>,
    /// The revision of the selected members of `view`; `None` before the first refresh.
    revision: Option<Revision>,
}

/// The pending events of one service.
struct PendingService {
    /// The index of the service in [`ChangeFeed::services`].
    service: usize,
    events: PendingEvents,
}

enum PendingEvents {
    Snapshot { members: vec::IntoIter<EncodedMember>, begun: bool },
    Changes(vec::IntoIter<MemberChange>),
}

impl ChangeFeed {
    /// A feed for a client that knows nothing of these services.
    pub(super) fn new(filter: Filter, keys: Box<[ServiceKey]>, zone: Arc<str>) -> Self {
        let services =
            keys.into_iter().map(|key| KnownService { key, view: None, revision: None }).collect();
        Self { filter, zone, services, pending: VecDeque::new(), shared: None, event_count: 0 }
    }

    /// The number of events written so far.
    pub(super) fn event_count(&self) -> u64 {
        self.event_count
    }

    /// Reads the current views. Call it only when no events are pending.
    pub(super) fn refresh(&mut self, views: &Views) {
        let can_share = self.services.len() == 1 && self.filter.is_plain();
        for (at, known) in self.services.iter_mut().enumerate() {
            let view = views.service(&known.key.namespace, &known.key.service);
            if known.revision.is_some() && is_same(known.view.as_ref(), view.as_ref()) {
                continue;
            }
            let newest = view.as_deref().filter(|_| can_share);
            let shared =
                newest.and_then(|newest| Some((newest, known.shared_events(newest, &self.zone)?)));
            let revision = if let Some((newest, SharedEvents { count, events })) = shared {
                self.shared = (*count > 0).then(|| (*count, events.clone()));
                newest.discoverable_revision
            } else {
                let (revision, events) = known.events_to(&self.filter, view.as_ref());
                self.pending.extend(events.map(|events| PendingService { service: at, events }));
                revision
            };
            (known.view, known.revision) = (view, Some(revision));
        }
    }

    /// After the first refresh: drops the snapshots that a client with this last event id has already.
    pub(super) fn resume_after(&mut self, last: &str) {
        let last: Vec<_> = last.split(',').map(str::trim).collect();
        if last.len() != self.services.len() {
            return;
        }
        let services = &self.services;
        self.pending.retain(|pending| {
            let revision = services.get(pending.service).and_then(|known| known.revision);
            let revision = revision.map(|revision| revision.to_string());
            last.get(pending.service).copied() != revision.as_deref()
        });
    }

    /// Appends pending events to `out`: about `most` bytes of them, or all that remain.
    pub(super) fn write(&mut self, mut out: BytesMut, most: usize) -> Bytes {
        if let Some((count, events)) = self.shared.take() {
            self.event_count += count as u64;
            // `out` is always empty here, because the preface is written with the first piece. So all watches send the
            // same bytes without copying them.
            if out.is_empty() {
                return events;
            }
            out.extend_from_slice(&events);
        }
        while out.len() < most {
            let Some(pending) = self.pending.front_mut() else { break };
            let Some(known) = self.services.get(pending.service) else { break };
            let Some(written) = pending.write_part(&mut out, known, &self.zone) else { continue };
            self.event_count += 1;
            if written == WrittenEvent::Last {
                self.pending.pop_front();
            }
            let is_last = self.pending.is_empty();
            let revisions = self.services.iter().filter_map(|known| known.revision);
            let id = is_last.then(|| events::event_id(revisions));
            events::end_event(&mut out, id.as_deref());
        }
        out.freeze()
    }
}

impl KnownService {
    /// The events that are shared by all watches whose clients know the same view.
    fn shared_events<'a>(&self, view: &'a EncodedView, zone: &str) -> Option<&'a SharedEvents> {
        shared_events::between(self.view.as_deref(), self.revision?, view, zone)
    }

    /// The revision of the selected members of `view`, and the events that lead to it.
    fn events_to(
        &self,
        filter: &Filter,
        view: Option<&Arc<EncodedView>>,
    ) -> (Revision, Option<PendingEvents>) {
        let members = select(filter, view);
        let newest = revision(members.iter().map(|member| &***member));
        let events = match self.revision {
            Some(known) if known == newest => None,
            Some(_) => {
                let before = select(filter, self.view.as_ref());
                let changes = difference::between(&before, &members);
                (!changes.is_empty()).then(|| PendingEvents::Changes(changes.into_iter()))
            }
            None => {
                let members: Vec<_> = members.into_iter().cloned().collect();
                Some(PendingEvents::Snapshot { members: members.into_iter(), begun: false })
            }
        };
        (newest, events)
    }
}

/// The event that was written, except for its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WrittenEvent {
    /// More events of the service are pending.
    NotLast,
    /// No more events of the service are pending.
    Last,
}

impl PendingService {
    /// Writes a part of an event. `None` when parts of the same event are still missing.
    fn write_part(
        &mut self,
        out: &mut BytesMut,
        known: &KnownService,
        zone: &str,
    ) -> Option<WrittenEvent> {
        let revision = known.revision.unwrap_or(Revision(0));
        match &mut self.events {
            PendingEvents::Snapshot { members, begun } => {
                let is_first = !std::mem::replace(begun, true);
                if is_first {
                    events::snapshot_begin(out, &known.key, revision);
                }
                let Some(member) = members.next() else {
                    events::snapshot_end(out);
                    return Some(WrittenEvent::Last);
                };
                events::snapshot_member(out, member.json(zone), is_first);
                None
            }
            PendingEvents::Changes(changes) => {
                shared_events::write_change(out, &changes.next()?, &known.key, revision, zone);
                let is_last = changes.as_slice().is_empty();
                Some(if is_last { WrittenEvent::Last } else { WrittenEvent::NotLast })
            }
        }
    }
}

fn select<'a>(filter: &Filter, view: Option<&'a Arc<EncodedView>>) -> Vec<&'a EncodedMember> {
    view.map(|view| filter.select(&view.members)).unwrap_or_default()
}

fn is_same(a: Option<&Arc<EncodedView>>, b: Option<&Arc<EncodedView>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.is_same_view(b),
        (None, None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollcall_core::{
        catalog::{Catalog, Settings},
        directory::Directory,
        fact::Fact,
    };
    use rollcall_model::{
        instance::{Facts, Instance, InstanceKey, State},
        lease::{Moment, Now, Wall},
    };

    const NOW: Now = Now { moment: Moment(1_000), wall: Wall(0) };

    /// A registry, and a feed of two of its services.
    struct World {
        catalog: Catalog,
        views: Views,
        feed: ChangeFeed,
        version: u64,
    }

    impl World {
        fn new(filter: Filter) -> Self {
            let directory = Arc::<Directory>::default();
            let views = Views::new(directory.clone());
            let own = InstanceKey::new("rollcall-system", "rollcall-0");
            let settings = Settings { own, boot: "b".into(), zone: "z.".into(), ledger: None };
            let catalog = Catalog::new(settings, directory);
            let keys = ["orders", "ledger"].map(|service| ServiceKey::new("shop", service));
            let feed = ChangeFeed::new(filter, keys.into(), "z.".into());
            Self { catalog, views, feed, version: 100 }
        }

        fn put(&mut self, name: &str, change: impl FnOnce(&mut Facts)) {
            self.put_unpublished(name, change);
            self.publish();
        }

        /// Changes an instance. The change is visible after the next [`Self::publish`].
        fn put_unpublished(&mut self, name: &str, change: impl FnOnce(&mut Facts)) {
            self.version += 1;
            let instance =
                Instance { resource_version: self.version, ..Instance::sample("shop", name) };
            let instance = instance.with(|facts| facts.uid = name.into()).with(change);
            self.catalog.apply(Fact::Upserted(Arc::new(instance)), NOW);
        }

        fn delete(&mut self, name: &str) {
            self.version += 1;
            let (key, uid) = (InstanceKey::new("shop", name), name.into());
            self.catalog.apply(Fact::Removed { key, uid, index: self.version }, NOW);
            self.publish();
        }

        /// Publishes all changes so far.
        fn publish(&mut self) {
            let _ = self.catalog.settle(NOW, 0);
        }

        /// Refreshes the feed. Returns the events, each by its kind and name, and their ids.
        fn events(&mut self) -> (Vec<String>, Vec<String>) {
            self.feed.refresh(&self.views);
            self.pending_events()
        }

        fn pending_events(&mut self) -> (Vec<String>, Vec<String>) {
            parse(&self.feed.write(BytesMut::new(), usize::MAX))
        }
    }

    fn parse(out: &[u8]) -> (Vec<String>, Vec<String>) {
        let text = std::str::from_utf8(out).unwrap();
        assert!(text.is_empty() || text.ends_with("\n\n"), "{text}");
        let (mut events, mut ids) = (Vec::new(), Vec::new());
        for event in text.split_terminator("\n\n") {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
            let data = field("data: ").unwrap();
            let data: serde_json::Value = serde_json::from_str(data).unwrap();
            let subject = data["name"].as_str().map_or_else(
                || format!("{}({})", data["service"], data["instances"].as_array().unwrap().len()),
                str::to_owned,
            );
            events.push(format!("{} {}", field("event: ").unwrap(), subject.replace('"', "")));
            ids.extend(field("id: ").map(str::to_owned));
        }
        (events, ids)
    }

    #[test]
    fn snapshots_come_first_and_only_the_last_event_of_a_refresh_has_an_id() {
        let mut world = World::new(Filter::default());
        world.put("a", |_| {});
        let (events, ids) = world.events();
        assert_eq!(events, ["snapshot orders(1)", "snapshot ledger(0)"]);
        assert_eq!(ids.len(), 1);
        assert_eq!(ids[0].split(',').count(), 2);
        assert_eq!(world.events().0, [""; 0]);
        world.put("b", |_| {});
        world.put("c", |instance| instance.service = "ledger".into());
        world.delete("a");
        let (events, ids) = world.events();
        assert_eq!(events, ["upsert b", "remove a", "upsert c"]);
        assert_eq!(ids.len(), 1, "a client can resume only after all events");
        assert_eq!(world.feed.event_count(), 5);
    }

    #[test]
    fn changes_between_two_refreshes_are_merged() {
        let mut world = World::new(Filter::default());
        world.put("a", |_| {});
        world.events();
        for weight in 1..50 {
            world.put("a", |instance| instance.weight = weight);
            world.put("b", |_| {});
            world.delete("b");
        }
        assert_eq!(world.events().0, ["upsert a"]);
        world.put("a", |instance| instance.weight = 7);
        world.put("a", |instance| instance.weight = 49);
        assert_eq!(world.events().0, [""; 0], "changed and changed back");
    }

    #[test]
    fn pending_events_are_written_in_parts_and_do_not_see_later_changes() {
        let mut world = World::new(Filter::default());
        (0..100).for_each(|at| world.put(&format!("a{at:02}"), |_| {}));
        world.feed.refresh(&world.views);
        let (mut all, mut parts) = (BytesMut::new(), 0);
        loop {
            let part = world.feed.write(BytesMut::new(), 1_000);
            if part.is_empty() {
                break;
            }
            assert!(part.len() < 3_000, "{}", part.len());
            all.extend_from_slice(&part);
            parts += 1;
            world.delete(&format!("a{parts:02}"));
        }
        assert!(parts > 20, "{parts}");
        assert_eq!(parse(&all).0, ["snapshot orders(100)", "snapshot ledger(0)"]);
        assert_eq!(world.events().0.len(), parts);
    }

    #[test]
    fn a_resuming_client_gets_only_what_has_changed() {
        let mut world = World::new(Filter::default());
        world.put("a", |_| {});
        let (_, ids) = world.events();
        let resume = |last: &str, world: &mut World| {
            let keys = ["orders", "ledger"].map(|service| ServiceKey::new("shop", service));
            world.feed = ChangeFeed::new(Filter::default(), keys.into(), "z.".into());
            world.feed.refresh(&world.views);
            world.feed.resume_after(last);
            world.pending_events().0
        };
        assert_eq!(resume(&ids[0], &mut world), [""; 0]);
        assert_eq!(resume("x,y,z", &mut world).len(), 2);
        assert_eq!(resume("", &mut world).len(), 2);
        world.put("a", |instance| instance.weight = 1);
        assert_eq!(resume(&ids[0], &mut world), ["snapshot orders(1)"]);
        world.put("b", |_| {});
        assert_eq!(world.events().0, ["upsert b"], "later changes are events again");
    }

    #[test]
    fn a_filtered_watch_gets_upserts_and_removes_of_matching_members() {
        let tag = |instance: &mut Facts| instance.tags = Arc::from(["x".into()]);
        let mut world = World::new(Filter { tags: vec!["x".to_owned()], ..Filter::default() });
        world.put("a", |_| {});
        assert_eq!(world.events().0, ["snapshot orders(0)", "snapshot ledger(0)"]);
        world.put("a", tag);
        assert_eq!(world.events().0, ["upsert a"]);
        world.put("b", |_| {});
        assert_eq!(world.events().0, [""; 0]);
        world.put("a", |_| {});
        assert_eq!(world.events().0, ["remove a"]);
    }

    /// A feed of one service.
    fn orders_feed(filter: Filter) -> ChangeFeed {
        ChangeFeed::new(filter, [ServiceKey::new("shop", "orders")].into(), "z.".into())
    }

    /// The bytes of all events of a refresh.
    fn next_events(feed: &mut ChangeFeed, world: &World) -> Bytes {
        feed.refresh(&world.views);
        feed.write(BytesMut::new(), usize::MAX)
    }

    /// A client that watches one service.
    #[derive(Default)]
    struct Client {
        weights: std::collections::BTreeMap<String, u64>,
        last_id: String,
    }

    impl Client {
        fn receive(&mut self, piece: &[u8]) {
            for event in std::str::from_utf8(piece).unwrap().split_terminator("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                self.last_id = field("id: ").map_or(String::new(), str::to_owned);
                let data: serde_json::Value =
                    serde_json::from_str(field("data: ").unwrap()).unwrap();
                let weight = |it: &serde_json::Value| {
                    (it["name"].as_str().unwrap().to_owned(), it["weight"].as_u64().unwrap_or(0))
                };
                match field("event: ").unwrap() {
                    "upsert" => self.weights.extend([weight(&data)]),
                    "remove" => drop(self.weights.remove(&weight(&data).0).unwrap()),
                    _ => {
                        let members = data["instances"].as_array().unwrap().iter();
                        self.weights = members.map(weight).collect();
                    }
                }
            }
        }
    }

    #[test]
    fn clients_with_irregular_refreshes_converge_to_the_current_set() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..50 {
            let mut world = World::new(Filter::default());
            let new = |_| (orders_feed(Filter::default()), Client::default());
            let mut all: Vec<_> = (0..6).map(new).collect();
            for step in 0..60 {
                let name = ["a", "b", "c"][random.usize(..3)];
                let weight = random.u16(1..4);
                match random.u8(..3) {
                    0 => world.delete(name),
                    1 => world.put(name, |facts| facts.weight = weight),
                    // An instance that is not discoverable: a new view with the same set.
                    _ => world.put("out", |facts| {
                        (facts.state, facts.weight) = (State::OutOfService, weight);
                    }),
                }
                random.shuffle(&mut all);
                for (at, (feed, client)) in all.iter_mut().enumerate() {
                    if step == 59 || random.usize(..=at) == 0 {
                        client.receive(&next_events(feed, &world));
                    }
                }
            }
            let view = world.views.service("shop", "orders");
            let current = view.iter().flat_map(|view| view.discoverable());
            let current = current.map(|it| (it.facts.key.name.to_string(), it.facts.weight.into()));
            let current: std::collections::BTreeMap<String, u64> = current.collect();
            let empty = revision(std::iter::empty());
            let newest = view.as_ref().map_or(empty, |view| view.discoverable_revision);
            for (_, client) in &all {
                assert_eq!((&client.weights, &client.last_id), (&current, &newest.to_string()));
            }
        }
    }

    #[test]
    fn watches_of_one_service_share_the_events_in_memory() {
        let mut world = World::new(Filter::default());
        let any = Filter { health: rollcall_model::select::PhaseFilter::Any, ..Filter::default() };
        let mut all = [Filter::default(), Filter::default(), any].map(orders_feed);
        world.put("a", |_| {});
        for feed in &mut all {
            next_events(feed, &world);
        }
        world.put_unpublished("a", |facts| facts.weight = 1);
        world.put_unpublished("b", |_| {});
        world.publish();
        let [first, second, unshared] = all.each_mut().map(|feed| next_events(feed, &world));
        assert_eq!(parse(&first).0, ["upsert a", "upsert b"]);
        assert_eq!(first, unshared, "shared and unshared events are equal");
        assert_eq!(first.as_ptr(), second.as_ptr());
        assert_ne!(first.as_ptr(), unshared.as_ptr());
        assert_eq!(all.map(|feed| feed.event_count()), [3; 3]);
    }

    #[test]
    fn long_events_are_equal_but_not_shared() {
        let mut world = World::new(Filter::default());
        let mut all = [(); 2].map(|()| orders_feed(Filter::default()));
        for feed in &mut all {
            next_events(feed, &world);
        }
        // All changes in one view.
        (0..100).for_each(|at| world.put_unpublished(&format!("a{at:02}"), |_| {}));
        world.publish();
        let [first, second] = all.each_mut().map(|feed| next_events(feed, &world));
        assert_eq!(parse(&first).0.len(), 100);
        assert_eq!(first, second);
        assert_ne!(first.as_ptr(), second.as_ptr(), "events this long are not stored");
    }
}
