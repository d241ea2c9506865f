//! Views with their encoded form, which all HTTP requests share.
//!
//! Owns: for each service, the JSON of its members, the whole response to a plain discovery, and the events since the
//! previous view. An entry is created when a service is first read over HTTP, and from then on is updated with the
//! service: a member that the next view shares keeps its JSON, and nothing is kept for a view that is not current. Does
//! not own: the encoding (`encode`, `set`, `shared_events`), and the views (the directory of `rollcall-core`).

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

/// A member and its JSON. Clones share both.
#[derive(Clone, Debug)]
pub(super) struct EncodedMember(Arc<Encoded>);

#[derive(Debug)]
struct Encoded {
    member: Arc<Member>,
    json: OnceLock<Bytes>,
}

/// A view and its encoded form.
#[derive(Debug)]
pub(super) struct EncodedView {
    view: Arc<View>,
    /// In the order of the view.
    pub(super) members: Box<[EncodedMember]>,
    /// The response to a discovery without parameters; `None` when it is too long to be stored.
    pub(super) plain: OnceLock<Option<EncodedDiscovery>>,
    /// The events for watches of only this service that know the previous view; `None` when they are too long to be
    /// stored.
    pub(super) shared_events: OnceLock<Option<SharedEvents>>,
}

/// The encoded response to a discovery without parameters.
#[derive(Debug)]
pub(super) struct EncodedDiscovery {
    /// The revision of the discoverable members, as an entity tag.
    pub(super) tag: Bytes,
    /// The discoverable members, as JSON.
    pub(super) body: Bytes,
}

/// The events that lead from the discoverable members of the previous view to those of this one.
#[derive(Debug)]
pub(super) struct SharedEvents {
    /// The number of events.
    pub(super) count: usize,
    /// The encoded events; empty when both sets are equal.
    pub(super) events: Bytes,
}

/// The encoded views of the services that were read over HTTP: at most one entry a service.
pub struct Views {
    directory: Arc<Directory>,
    served: papaya::HashMap<ServiceKey, Arc<EncodedView>, ahash::RandomState>,
}

impl EncodedMember {
    pub(super) fn new(member: Arc<Member>) -> Self {
        Self(Arc::new(Encoded { member, json: OnceLock::new() }))
    }

    /// The instance as JSON, encoded at the first call.
    pub(super) fn json(&self, zone: &str) -> &Bytes {
        self.0.json.get_or_init(|| encode::member_json(&self.0.member, zone).into())
    }

    /// The JSON, if it is already encoded.
    pub(super) fn encoded_json(&self) -> Option<&Bytes> {
        self.0.json.get()
    }

    /// Whether both refer to the same member in memory.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.member, &other.0.member)
    }

    /// The key by which a view sorts its members.
    pub(super) fn sort_key(&self) -> (&str, Wall, &str) {
        sort_key(self)
    }
}

impl Deref for EncodedMember {
    type Target = Member;

    fn deref(&self) -> &Member {
        &self.0.member
    }
}

impl AsRef<Member> for EncodedMember {
    fn as_ref(&self) -> &Member {
        self
    }
}

impl EncodedView {
    /// Reuses the encoded members of `before` that `view` shares.
    pub(super) fn new(view: Arc<View>, before: Option<&Self>) -> Self {
        let before = before.map_or(&[][..], |before| &before.members);
        let members = reuse_encoded(&view.members, before);
        Self { view, members, plain: OnceLock::new(), shared_events: OnceLock::new() }
    }

    /// Whether this is the encoded form of exactly that view, and not of an equal one.
    pub(super) fn is_encoding_of(&self, view: &Arc<View>) -> bool {
        Arc::ptr_eq(&self.view, view)
    }

    /// Whether both refer to the same view in memory.
    pub(super) fn is_same_view(&self, other: &Self) -> bool {
        self.is_encoding_of(&other.view)
    }

    /// The discoverable members.
    pub(super) fn discoverable(&self) -> impl Iterator<Item = &EncodedMember> {
        self.members.iter().filter(|member| member.phase.is_discoverable())
    }
}

impl Deref for EncodedView {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}

impl Views {
    /// An empty map.
    #[must_use]
    pub fn new(directory: Arc<Directory>) -> Self {
        Self { directory, served: papaya::HashMap::default() }
    }

    /// The current view of a service. `None` when the service has no instances.
    pub(super) fn service(&self, namespace: &str, service: &str) -> Option<Arc<EncodedView>> {
        let view = self.directory.service(namespace, service)?;
        let served = self.served.pin();
        let before = served.get(&view.key);
        if let Some(current) = before.filter(|before| before.is_encoding_of(&view)) {
            return Some(current.clone());
        }
        let new = Arc::new(EncodedView::new(view, before.map(AsRef::as_ref)));
        let is_before = |known: Option<&Arc<EncodedView>>| match (known, before) {
            (Some(known), Some(before)) => Arc::ptr_eq(known, before),
            (known, before) => known.is_none() && before.is_none(),
        };
        // An entry that another thread has inserted in between is kept: it has the same view, or a newer one.
        let put = served.compute(new.key.clone(), |known| match known.map(|(_, known)| known) {
            known if is_before(known) => Operation::Insert(new.clone()),
            known => Operation::Abort(known.cloned()),
        });
        if let Compute::Aborted(known) = put {
            return Some(known.filter(|known| known.is_encoding_of(&new.view)).unwrap_or(new));
        }
        // Since the view was read, the service may have changed or disappeared, and `update` may have run: then nothing
        // is stored.
        let newest = self.directory.service(namespace, service);
        if !newest.is_some_and(|newest| new.is_encoding_of(&newest)) {
            served.remove(&new.key);
        }
        Some(new)
    }

    /// The encoded form of this view, if the service was read before.
    pub(super) fn encoded(&self, view: &Arc<View>) -> Option<Arc<EncodedView>> {
        let served = self.served.pin();
        served.get(&view.key).filter(|served| served.is_encoding_of(view)).cloned()
    }

    /// Updates the entries of services that have changed, or removes them. The cost is proportional to the size of
    /// those that were read before. The task that publishes views calls this before it wakes subscribers.
    pub fn update(&self, revised: &[ServiceKey]) {
        let served = self.served.pin();
        for key in revised {
            let Some(before) = served.get(key) else { continue };
            match self.directory.service(&key.namespace, &key.service) {
                Some(view) if before.is_encoding_of(&view) => {}
                Some(view) => {
                    let next = Arc::new(EncodedView::new(view, Some(before)));
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

/// Both lists have the order of their views, so one pass finds every shared member.
fn reuse_encoded(members: &[Arc<Member>], before: &[EncodedMember]) -> Box<[EncodedMember]> {
    let mut before = before.iter().peekable();
    let mut reuse = |member: &Arc<Member>| {
        while let Some(old) = before.peek() {
            match old.sort_key().cmp(&sort_key(member)) {
                Ordering::Less => drop(before.next()),
                Ordering::Equal if Arc::ptr_eq(&old.0.member, member) => return (*old).clone(),
                _ => break,
            }
        }
        EncodedMember::new(member.clone())
    };
    members.iter().map(&mut reuse).collect()
}

fn sort_key(member: &Member) -> (&str, Wall, &str) {
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

    /// A catalog, and the encoded views of its directory.
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
            let pointer =
                |it: &EncodedMember| (it.facts.key.name.to_string(), it.json("z.").as_ptr());
            served.members.iter().map(pointer).collect()
        }
    }

    #[test]
    fn a_member_is_encoded_again_only_when_it_changes() {
        let mut world = World::new();
        for name in ["a", "b", "c"] {
            world.put(name, 1);
        }
        let first = world.json();
        assert_eq!(world.json(), first, "the same view");
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
    fn concurrent_readers_share_one_encoded_view() {
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
    fn only_existing_services_that_were_read_are_kept() {
        let mut world = World::new();
        world.put("a", 1);
        assert_eq!(world.views.served.len(), 0, "it was not read");
        world.json();
        let view = world.views.directory.service("shop", "orders").unwrap();
        assert!(world.views.encoded(&view).is_some());
        world.put("a", 2);
        world.views.update(&[ServiceKey::new("shop", "orders")]);
        let newer = world.views.directory.service("shop", "orders").unwrap();
        assert!(world.views.encoded(&newer).is_some(), "it is updated without being read");
        assert!(world.views.encoded(&view).is_none());
        world.delete("a");
        world.views.update(&[ServiceKey::new("shop", "orders")]);
        assert_eq!(world.views.served.len(), 0);
        assert!(world.views.service("shop", "orders").is_none());
    }
}
