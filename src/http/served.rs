//! What HTTP keeps beside a view, so that it is encoded once and shared by all requests.
//!
//! Owns: the JSON of each member, the whole answer to a plain discovery, the events since the view before; and the map
//! that leads from a service to these. It is made when a service is first read over HTTP, and follows the service from then
//! on: a member that the next view shares keeps its JSON, and nothing is kept beside a view that is no longer shown. Does
//! not own: the bytes themselves (`encode`, `set`, `news`) and the views (the directory of `rollcall-core`).

use std::{
    cmp::Ordering,
    fmt,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use papaya::{Compute, Operation};
use rollcall_core::directory::Directory;
use rollcall_model::{
    instance::ServiceKey,
    lease::Wall,
    view::{Member, View},
};

use crate::http::encode;

/// A member and its JSON. A clone is the same one.
#[derive(Clone, Debug)]
pub(super) struct ServedMember(Arc<Encoded>);

#[derive(Debug)]
struct Encoded {
    member: Arc<Member>,
    json: OnceLock<Bytes>,
}

/// A view, and what is kept beside it.
#[derive(Debug)]
pub(super) struct ServedView {
    view: Arc<View>,
    /// In the order of the view.
    pub(super) members: Box<[ServedMember]>,
    /// The answer to a discovery without any parameter; none where it is too long to be kept.
    pub(super) plain: OnceLock<Option<Plain>>,
    /// The events for subscribers that know the view before and follow nothing else; none where they are too long to be
    /// kept.
    pub(super) news: OnceLock<Option<News>>,
}

/// An encoded answer.
#[derive(Debug)]
pub(super) struct Plain {
    /// The revision of the discoverable members, as an entity tag.
    pub(super) tag: Bytes,
    /// Those members.
    pub(super) body: Bytes,
}

/// Events that lead from the members discoverable before a view to those discoverable in it.
#[derive(Debug)]
pub(super) struct News {
    /// How many.
    pub(super) count: usize,
    /// Encoded; empty when both sets are the same.
    pub(super) events: Bytes,
}

/// What is kept beside the view of each service that was read over HTTP: one entry a service at most.
pub struct Views {
    directory: Arc<Directory>,
    served: papaya::HashMap<ServiceKey, Arc<ServedView>, ahash::RandomState>,
}

impl ServedMember {
    pub(super) fn new(member: Arc<Member>) -> Self {
        Self(Arc::new(Encoded { member, json: OnceLock::new() }))
    }

    /// The instance as JSON, encoded once in the life of the member.
    pub(super) fn json(&self, zone: &str) -> &Bytes {
        self.0.json.get_or_init(|| encode::member(&self.0.member, zone).into())
    }

    /// The same, if it was encoded before.
    pub(super) fn known_json(&self) -> Option<&Bytes> {
        self.0.json.get()
    }

    /// Whether both are the same member, and not just equal ones.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.member, &other.0.member)
    }

    /// Where it stands in its view.
    pub(super) fn place(&self) -> (&str, Wall, &str) {
        place(self)
    }
}

impl Deref for ServedMember {
    type Target = Member;

    fn deref(&self) -> &Member {
        &self.0.member
    }
}

impl AsRef<Member> for ServedMember {
    fn as_ref(&self) -> &Member {
        self
    }
}

impl ServedView {
    /// Beside `view`, with what can be carried over from `before`.
    pub(super) fn new(view: Arc<View>, before: Option<&Self>) -> Self {
        let before = before.map_or(&[][..], |before| &before.members);
        let members = carried_over(&view.members, before);
        Self { view, members, plain: OnceLock::new(), news: OnceLock::new() }
    }

    /// Whether this is beside that view, and not just an equal one.
    pub(super) fn is_beside(&self, view: &Arc<View>) -> bool {
        Arc::ptr_eq(&self.view, view)
    }

    /// Whether both are beside the same view.
    pub(super) fn is_same_view(&self, other: &Self) -> bool {
        self.is_beside(&other.view)
    }

    /// The discoverable members.
    pub(super) fn discoverable(&self) -> impl Iterator<Item = &ServedMember> {
        self.members.iter().filter(|member| member.phase.is_discoverable())
    }
}

impl Deref for ServedView {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}

impl Views {
    /// Nothing kept yet.
    #[must_use]
    pub fn new(directory: Arc<Directory>) -> Self {
        Self { directory, served: papaya::HashMap::default() }
    }

    /// The newest view of a service; none when it has no instance at all.
    pub(super) fn service(&self, namespace: &str, service: &str) -> Option<Arc<ServedView>> {
        let view = self.directory.service(namespace, service)?;
        let served = self.served.pin();
        let before = served.get(&view.key);
        if let Some(same) = before.filter(|before| before.is_beside(&view)) {
            return Some(same.clone());
        }
        let new = Arc::new(ServedView::new(view, before.map(AsRef::as_ref)));
        let is_before = |known: Option<&Arc<ServedView>>| match (known, before) {
            (Some(known), Some(before)) => Arc::ptr_eq(known, before),
            (known, before) => known.is_none() && before.is_none(),
        };
        // What another thread has put here since stays: it is of the same view, or of a newer one.
        let put = served.compute(new.key.clone(), |known| match known.map(|(_, known)| known) {
            known if is_before(known) => Operation::Insert(new.clone()),
            known => Operation::Abort(known.cloned()),
        });
        if let Compute::Aborted(known) = put {
            return Some(known.filter(|known| known.is_beside(&new.view)).unwrap_or(new));
        }
        // The service may have changed or gone, and been followed here, since its view was read: then nothing is kept.
        let newest = self.directory.service(namespace, service);
        if !newest.is_some_and(|newest| new.is_beside(&newest)) {
            served.remove(&new.key);
        }
        Some(new)
    }

    /// What is kept beside this view, if anything is.
    pub(super) fn known(&self, view: &Arc<View>) -> Option<Arc<ServedView>> {
        let served = self.served.pin();
        served.get(&view.key).filter(|known| known.is_beside(view)).cloned()
    }

    /// Follows services that look different now: what was kept beside the views before is carried over or dropped. Costs
    /// time by the size of those that were read. For the one task that publishes views, before it wakes subscribers.
    pub fn follow(&self, revised: &[ServiceKey]) {
        let served = self.served.pin();
        for key in revised {
            let Some(before) = served.get(key) else { continue };
            match self.directory.service(&key.namespace, &key.service) {
                Some(view) if before.is_beside(&view) => {}
                Some(view) => {
                    let next = Arc::new(ServedView::new(view, Some(before)));
                    served.insert(key.clone(), next);
                }
                None => drop(served.remove(key)),
            }
        }
    }
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Views").field("served", &self.served.len()).finish_non_exhaustive()
    }
}

/// Both are in the order of their views, so one walk along them finds every member that stayed.
fn carried_over(members: &[Arc<Member>], before: &[ServedMember]) -> Box<[ServedMember]> {
    let mut before = before.iter().peekable();
    let mut carry = |member: &Arc<Member>| {
        while let Some(old) = before.peek() {
            match old.place().cmp(&place(member)) {
                Ordering::Less => drop(before.next()),
                Ordering::Equal if Arc::ptr_eq(&old.0.member, member) => return (*old).clone(),
                _ => break,
            }
        }
        ServedMember::new(member.clone())
    };
    members.iter().map(&mut carry).collect()
}

fn place(member: &Member) -> (&str, Wall, &str) {
    (&member.label, member.facts.created, &member.facts.key.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollcall_core::{
        catalog::{Catalog, Settings},
        fact::Fact,
    };
    use rollcall_model::{
        instance::{Instance, InstanceKey},
        lease::{Moment, Now},
    };

    const NOW: Now = Now { moment: Moment(1_000), wall: Wall(0) };

    /// A catalog whose views are served.
    struct World {
        catalog: Catalog,
        views: Views,
        version: u64,
    }

    impl World {
        fn new() -> Self {
            let directory = Arc::<Directory>::default();
            let own = InstanceKey::new("rollcall-system", "rollcall-0");
            let settings = Settings { own, boot: "b".into(), zone: "z.".into(), ledger: None };
            let catalog = Catalog::new(settings, directory.clone());
            Self { catalog, views: Views::new(directory), version: 100 }
        }

        fn put(&mut self, name: &str, weight: u16) {
            self.version += 1;
            let instance =
                Instance { resource_version: self.version, ..Instance::sample("shop", name) };
            let instance = instance.with(|facts| (facts.uid, facts.weight) = (name.into(), weight));
            self.catalog.apply(Fact::Upserted(Arc::new(instance)), NOW);
            let _ = self.catalog.settle(NOW, 0);
        }

        fn delete(&mut self, name: &str) {
            self.version += 1;
            let (key, uid) = (InstanceKey::new("shop", name), name.into());
            self.catalog.apply(Fact::Removed { key, uid, index: self.version }, NOW);
            let _ = self.catalog.settle(NOW, 0);
        }

        fn json(&self) -> Vec<(String, *const u8)> {
            let served = self.views.service("shop", "orders").unwrap();
            let one = |it: &ServedMember| (it.facts.key.name.to_string(), it.json("z.").as_ptr());
            served.members.iter().map(one).collect()
        }
    }

    #[test]
    fn a_member_is_encoded_once_and_again_only_when_it_changes() {
        let mut world = World::new();
        for name in ["a", "b", "c"] {
            world.put(name, 1);
        }
        let first = world.json();
        assert_eq!(world.json(), first, "of the same view");
        world.put("b", 2);
        let second = world.json();
        assert_eq!((&second[0], &second[2]), (&first[0], &first[2]));
        assert_ne!(second[1].1, first[1].1);
        world.put("aa", 1);
        world.delete("a");
        let third = world.json();
        let names: Vec<_> = third.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["aa", "b", "c"]);
        assert_eq!(third[1..], second[1..]);
    }

    #[test]
    fn readers_at_once_share_what_is_kept() {
        let mut world = World::new();
        world.put("a", 1);
        let views = &world.views;
        let read = || views.service("shop", "orders").unwrap();
        for _ in 0..200 {
            let all: Vec<_> = std::thread::scope(|scope| {
                let readers: Vec<_> = (0..4).map(|_| scope.spawn(read)).collect();
                readers.into_iter().map(|reader| reader.join().unwrap()).collect()
            });
            assert!(all.iter().all(|it| Arc::ptr_eq(it, &all[0])));
            views.served.pin().clear();
        }
    }

    #[test]
    fn nothing_is_kept_beside_a_service_that_has_gone_or_was_never_read() {
        let mut world = World::new();
        world.put("a", 1);
        assert_eq!(world.views.served.len(), 0, "it was not read");
        world.json();
        let view = world.views.directory.service("shop", "orders").unwrap();
        assert!(world.views.known(&view).is_some());
        world.put("a", 2);
        world.views.follow(&[ServiceKey::new("shop", "orders")]);
        let newer = world.views.directory.service("shop", "orders").unwrap();
        assert!(world.views.known(&newer).is_some(), "it follows without being read");
        assert!(world.views.known(&view).is_none());
        world.delete("a");
        world.views.follow(&[ServiceKey::new("shop", "orders")]);
        assert_eq!(world.views.served.len(), 0);
        assert!(world.views.service("shop", "orders").is_none());
    }
}
