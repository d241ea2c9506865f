//! What a client knows of some services, and what it is told next.
//!
//! Owns: [`Follower`]. Does not own: when to look, and when there is room to write (`stream`); the shape
//! of events (`events`); what many are told alike (`news`).
//!
//! Nothing is queued for a slow client. A follower holds the views that it has told of, which it shares with
//! everybody; when all of them is written it computes what leads to the newest ones. What happened in between is
//! never told, and never kept.

use std::{collections::VecDeque, sync::Arc, vec};

use bytes::{Bytes, BytesMut};
use rollcall_model::{
    instance::ServiceKey,
    select::Filter,
    view::{Revision, revision},
};

use crate::http::{
    difference::{self, Change},
    events, news,
    served::{News, ServedMember, ServedView, Views},
};

/// What follows some services.
pub(super) struct Follower {
    filter: Filter,
    /// The DNS zone.
    zone: Arc<str>,
    known: Box<[Known]>,
    /// What is still to be told of the last look: at most one of each service.
    round: VecDeque<Telling>,
    /// Or the news of its only service, and how many events they are.
    news: Option<(usize, Bytes)>,
    /// Events told so far.
    told: u64,
}

/// What the client knows of a service when all of the round is told.
struct Known {
    key: ServiceKey,
    /// None: nothing is there.
    view: Option<Arc<ServedView>>,
    /// Of those in it who are wanted. None: nothing was told yet.
    revision: Option<Revision>,
}

/// What is to be told of one service.
struct Telling {
    /// Which of those known.
    at: usize,
    what: What,
}

enum What {
    Snapshot { members: vec::IntoIter<ServedMember>, begun: bool },
    Changes(vec::IntoIter<Change>),
}

impl Follower {
    /// Of these services, of which nothing is known.
    pub(super) fn new(filter: Filter, keys: Box<[ServiceKey]>, zone: Arc<str>) -> Self {
        let known = keys.into_iter().map(|key| Known { key, view: None, revision: None });
        let known = known.collect();
        Self { filter, zone, known, round: VecDeque::new(), news: None, told: 0 }
    }

    /// Events told so far.
    pub(super) fn told(&self) -> u64 {
        self.told
    }

    /// Takes what is new. To be called when all of the last look is told.
    pub(super) fn look(&mut self, views: &Views) {
        let is_like_others = self.known.len() == 1 && self.filter.is_plain();
        for (at, known) in self.known.iter_mut().enumerate() {
            let view = views.service(&known.key.namespace, &known.key.service);
            if known.revision.is_some() && is_same(known.view.as_ref(), view.as_ref()) {
                continue;
            }
            let newest = view.as_deref().filter(|_| is_like_others);
            let news = newest.and_then(|newest| Some((newest, known.news(newest, &self.zone)?)));
            let revision = if let Some((newest, News { count, events })) = news {
                self.news = (*count > 0).then(|| (*count, events.clone()));
                newest.discoverable_revision
            } else {
                let (revision, what) = known.next(&self.filter, view.as_ref());
                self.round.extend(what.map(|what| Telling { at, what }));
                revision
            };
            (known.view, known.revision) = (view, Some(revision));
        }
    }

    /// After the first look: leaves out what a client knows that comes back with this id.
    pub(super) fn leave_out(&mut self, last: &str) {
        let last: Vec<_> = last.split(',').map(str::trim).collect();
        if last.len() != self.known.len() {
            return;
        }
        let known = &self.known;
        self.round.retain(|telling| {
            let revision = known.get(telling.at).and_then(|known| known.revision);
            let revision = revision.map(|revision| revision.to_string());
            last.get(telling.at).copied() != revision.as_deref()
        });
    }

    /// What is next, after `out`: about `most` bytes, or all that is to be told.
    pub(super) fn write(&mut self, mut out: BytesMut, most: usize) -> Bytes {
        if let Some((count, events)) = self.news.take() {
            self.told += count as u64;
            // Always: what comes before all events went with the first piece. So all send the same memory.
            if out.is_empty() {
                return events;
            }
            out.extend_from_slice(&events);
        }
        while out.len() < most {
            let Some(telling) = self.round.front_mut() else { break };
            let Some(known) = self.known.get(telling.at) else { break };
            let Some(told) = telling.step(&mut out, known, &self.zone) else { continue };
            self.told += 1;
            if told == Told::All {
                self.round.pop_front();
            }
            let is_last = self.round.is_empty();
            let revisions = self.known.iter().filter_map(|known| known.revision);
            events::close(&mut out, is_last.then(|| events::id(revisions)).as_deref());
        }
        out.freeze()
    }
}

impl Known {
    /// What all are told alike who know the same.
    fn news<'a>(&self, view: &'a ServedView, zone: &str) -> Option<&'a News> {
        news::between(self.view.as_deref(), self.revision?, view, zone)
    }

    /// The revision of those who are wanted of a view, and what leads there.
    fn next(&self, filter: &Filter, view: Option<&Arc<ServedView>>) -> (Revision, Option<What>) {
        let members = chosen(filter, view);
        let newest = revision(members.iter().map(|member| &***member));
        let what = match self.revision {
            Some(told) if told == newest => None,
            Some(_) => {
                let before = chosen(filter, self.view.as_ref());
                let changes = difference::between(&before, &members);
                (!changes.is_empty()).then(|| What::Changes(changes.into_iter()))
            }
            None => {
                let members: Vec<_> = members.into_iter().cloned().collect();
                Some(What::Snapshot { members: members.into_iter(), begun: false })
            }
        };
        (newest, what)
    }
}

/// An event was told, but for its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    One,
    /// The last of its service.
    All,
}

impl Telling {
    /// Writes a part. Answers whether that was the last part of an event.
    fn step(&mut self, out: &mut BytesMut, known: &Known, zone: &str) -> Option<Told> {
        let revision = known.revision.unwrap_or(Revision(0));
        match &mut self.what {
            What::Snapshot { members, begun } => {
                let is_first = !std::mem::replace(begun, true);
                if is_first {
                    events::snapshot_begin(out, &known.key, revision);
                }
                let Some(member) = members.next() else {
                    events::snapshot_end(out);
                    return Some(Told::All);
                };
                events::snapshot_member(out, member.json(zone), is_first);
                None
            }
            What::Changes(changes) => {
                news::tell(out, &changes.next()?, &known.key, revision, zone);
                Some(if changes.as_slice().is_empty() { Told::All } else { Told::One })
            }
        }
    }
}

fn chosen<'a>(filter: &Filter, view: Option<&'a Arc<ServedView>>) -> Vec<&'a ServedMember> {
    view.map(|view| filter.select(&view.members)).unwrap_or_default()
}

fn is_same(one: Option<&Arc<ServedView>>, other: Option<&Arc<ServedView>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_same_view(other),
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

    /// A registry, and a follower of two of its services.
    struct World {
        catalog: Catalog,
        views: Views,
        follower: Follower,
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
            let follower = Follower::new(filter, keys.into(), "z.".into());
            Self { catalog, views, follower, version: 100 }
        }

        fn put(&mut self, name: &str, change: impl FnOnce(&mut Facts)) {
            self.take(name, change);
            self.settle();
        }

        /// The same, which nobody sees before the next [`Self::settle`].
        fn take(&mut self, name: &str, change: impl FnOnce(&mut Facts)) {
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
            self.settle();
        }

        /// What was applied so far is published.
        fn settle(&mut self) {
            let _ = self.catalog.settle(NOW, 0);
        }

        /// What is told at a look: each event by its kind and whom it names, and the ids.
        fn told(&mut self) -> (Vec<String>, Vec<String>) {
            self.follower.look(&self.views);
            self.rest()
        }

        fn rest(&mut self) -> (Vec<String>, Vec<String>) {
            read(&self.follower.write(BytesMut::new(), usize::MAX))
        }
    }

    fn read(out: &[u8]) -> (Vec<String>, Vec<String>) {
        let text = std::str::from_utf8(out).unwrap();
        assert!(text.is_empty() || text.ends_with("\n\n"), "{text}");
        let (mut told, mut ids) = (Vec::new(), Vec::new());
        for event in text.split_terminator("\n\n") {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
            let data = field("data: ").unwrap();
            let data: serde_json::Value = serde_json::from_str(data).unwrap();
            let whom = data["name"].as_str().map_or_else(
                || format!("{}({})", data["service"], data["instances"].as_array().unwrap().len()),
                str::to_owned,
            );
            told.push(format!("{} {}", field("event: ").unwrap(), whom.replace('"', "")));
            ids.extend(field("id: ").map(str::to_owned));
        }
        (told, ids)
    }

    #[test]
    fn the_first_look_is_snapshots_and_the_last_event_of_a_look_has_the_id_of_all() {
        let mut world = World::new(Filter::default());
        world.put("a", |_| {});
        let (told, ids) = world.told();
        assert_eq!(told, ["snapshot orders(1)", "snapshot ledger(0)"]);
        assert_eq!(ids.len(), 1);
        assert_eq!(ids[0].split(',').count(), 2);
        assert_eq!(world.told().0, [""; 0]);
        world.put("b", |_| {});
        world.put("c", |instance| instance.service = "ledger".into());
        world.delete("a");
        let (told, ids) = world.told();
        assert_eq!(told, ["upsert b", "remove a", "upsert c"]);
        assert_eq!(ids.len(), 1, "only when all is told the client may come back with it");
        assert_eq!(world.follower.told(), 5);
    }

    #[test]
    fn what_happens_between_two_looks_is_told_by_its_outcome() {
        let mut world = World::new(Filter::default());
        world.put("a", |_| {});
        world.told();
        for weight in 1..50 {
            world.put("a", |instance| instance.weight = weight);
            world.put("b", |_| {});
            world.delete("b");
        }
        assert_eq!(world.told().0, ["upsert a"]);
        world.put("a", |instance| instance.weight = 7);
        world.put("a", |instance| instance.weight = 49);
        assert_eq!(world.told().0, [""; 0], "there and back");
    }

    #[test]
    fn a_round_is_written_in_parts_and_ends_as_it_was_when_it_was_looked_at() {
        let mut world = World::new(Filter::default());
        (0..100).for_each(|at| world.put(&format!("a{at:02}"), |_| {}));
        world.follower.look(&world.views);
        let (mut all, mut parts) = (BytesMut::new(), 0);
        loop {
            let part = world.follower.write(BytesMut::new(), 1_000);
            if part.is_empty() {
                break;
            }
            assert!(part.len() < 3_000, "{}", part.len());
            all.extend_from_slice(&part);
            parts += 1;
            world.delete(&format!("a{parts:02}"));
        }
        assert!(parts > 20, "{parts}");
        assert_eq!(read(&all).0, ["snapshot orders(100)", "snapshot ledger(0)"]);
        assert_eq!(world.told().0.len(), parts);
    }

    #[test]
    fn who_comes_back_is_told_only_of_what_differs() {
        let mut world = World::new(Filter::default());
        world.put("a", |_| {});
        let (_, ids) = world.told();
        let back = |last: &str, world: &mut World| {
            let keys = ["orders", "ledger"].map(|service| ServiceKey::new("shop", service));
            world.follower = Follower::new(Filter::default(), keys.into(), "z.".into());
            world.follower.look(&world.views);
            world.follower.leave_out(last);
            world.rest().0
        };
        assert_eq!(back(&ids[0], &mut world), [""; 0]);
        assert_eq!(back("x,y,z", &mut world).len(), 2);
        assert_eq!(back("", &mut world).len(), 2);
        world.put("a", |instance| instance.weight = 1);
        assert_eq!(back(&ids[0], &mut world), ["snapshot orders(1)"]);
        world.put("b", |_| {});
        assert_eq!(world.told().0, ["upsert b"], "and then of changes");
    }

    #[test]
    fn who_asks_for_some_is_told_when_they_join_and_leave_those() {
        let tag = |instance: &mut Facts| instance.tags = Arc::from(["x".into()]);
        let mut world = World::new(Filter { tags: vec!["x".to_owned()], ..Filter::default() });
        world.put("a", |_| {});
        assert_eq!(world.told().0, ["snapshot orders(0)", "snapshot ledger(0)"]);
        world.put("a", tag);
        assert_eq!(world.told().0, ["upsert a"]);
        world.put("b", |_| {});
        assert_eq!(world.told().0, [""; 0]);
        world.put("a", |_| {});
        assert_eq!(world.told().0, ["remove a"]);
    }

    /// A follower of one service.
    fn of_orders(filter: Filter) -> Follower {
        Follower::new(filter, [ServiceKey::new("shop", "orders")].into(), "z.".into())
    }

    /// All that it is told at a look.
    fn tell(follower: &mut Follower, world: &World) -> Bytes {
        follower.look(&world.views);
        follower.write(BytesMut::new(), usize::MAX)
    }

    /// What a client that follows one service knows of it: the weights, by name, and the last id.
    #[derive(Default)]
    struct Client(std::collections::BTreeMap<String, u64>, String);

    impl Client {
        fn hear(&mut self, piece: &[u8]) {
            for event in std::str::from_utf8(piece).unwrap().split_terminator("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                self.1 = field("id: ").map_or(String::new(), str::to_owned);
                let data: serde_json::Value =
                    serde_json::from_str(field("data: ").unwrap()).unwrap();
                let named = |it: &serde_json::Value| {
                    (it["name"].as_str().unwrap().to_owned(), it["weight"].as_u64().unwrap_or(0))
                };
                match field("event: ").unwrap() {
                    "upsert" => self.0.extend([named(&data)]),
                    "remove" => drop(self.0.remove(&named(&data).0).unwrap()),
                    _ => self.0 = data["instances"].as_array().unwrap().iter().map(named).collect(),
                }
            }
        }
    }

    #[test]
    fn whoever_looks_now_and_then_knows_in_the_end_what_is_there() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..50 {
            let mut world = World::new(Filter::default());
            let new = |_| (of_orders(Filter::default()), Client::default());
            let mut all: Vec<_> = (0..6).map(new).collect();
            for turn in 0..60 {
                let name = ["a", "b", "c"][random.usize(..3)];
                let weight = random.u16(1..4);
                match random.u8(..3) {
                    0 => world.delete(name),
                    1 => world.put(name, |facts| facts.weight = weight),
                    // Somebody who is not discoverable: another view, the same set.
                    _ => world.put("out", |facts| {
                        (facts.state, facts.weight) = (State::OutOfService, weight);
                    }),
                }
                random.shuffle(&mut all);
                for (at, (follower, client)) in all.iter_mut().enumerate() {
                    if turn == 59 || random.usize(..=at) == 0 {
                        client.hear(&tell(follower, &world));
                    }
                }
            }
            let view = world.views.service("shop", "orders");
            let there = view.iter().flat_map(|view| view.discoverable());
            let there = there.map(|it| (it.facts.key.name.to_string(), it.facts.weight.into()));
            let there: std::collections::BTreeMap<String, u64> = there.collect();
            let nobody = revision(std::iter::empty());
            let newest = view.as_ref().map_or(nobody, |view| view.discoverable_revision);
            for (_, client) in &all {
                assert_eq!((&client.0, &client.1), (&there, &newest.to_string()));
            }
        }
    }

    #[test]
    fn those_who_follow_one_service_are_told_the_same_octets_in_the_same_memory() {
        let mut world = World::new(Filter::default());
        let any = Filter { health: rollcall_model::select::Health::Any, ..Filter::default() };
        let mut all = [Filter::default(), Filter::default(), any].map(of_orders);
        world.put("a", |_| {});
        for follower in &mut all {
            tell(follower, &world);
        }
        world.take("a", |facts| facts.weight = 1);
        world.take("b", |_| {});
        world.settle();
        let [one, other, alone] = all.each_mut().map(|follower| tell(follower, &world));
        assert_eq!(read(&one).0, ["upsert a", "upsert b"]);
        assert_eq!(one, alone, "and as whoever is told alone");
        assert_eq!(one.as_ptr(), other.as_ptr());
        assert_ne!(one.as_ptr(), alone.as_ptr());
        assert_eq!(all.map(|follower| follower.told()), [3; 3]);
    }

    #[test]
    fn changes_of_many_at_once_are_told_to_each_alone_and_are_the_same() {
        let mut world = World::new(Filter::default());
        let mut all = [(); 2].map(|()| of_orders(Filter::default()));
        for follower in &mut all {
            tell(follower, &world);
        }
        // In one view.
        (0..100).for_each(|at| world.take(&format!("a{at:02}"), |_| {}));
        world.settle();
        let [one, other] = all.each_mut().map(|follower| tell(follower, &world));
        assert_eq!(read(&one).0.len(), 100);
        assert_eq!(one, other);
        assert_ne!(one.as_ptr(), other.as_ptr(), "nothing so long is kept");
    }
}
