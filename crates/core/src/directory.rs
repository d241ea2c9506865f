//! The directory: what readers and doors look into while the catalog works.
//!
//! Owns: the published views, the slots by name, the memory of the evicted, and the few figures
//! that every answer carries. Written by the catalog alone; read by anybody, without waiting.
//! Does not own: any verdict.

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use papaya::Equivalent;
use parking_lot::RwLock;
use rollcall_model::{
    instance::{Facts, HealthReport, Instance, InstanceKey, ServiceKey},
    lease::{Moment, Wall},
    view::{Member, View},
};

use crate::{
    address_index::AddressIndex,
    fact::Sent,
    grace::Grace,
    horizon::STALE_AFTER,
    identity::Identity,
    leadership::Leadership,
    report::Report,
    rules::Rules,
    serial::Serial,
    slot::{Slot, Taken},
    sockets::{Shared, Sockets},
    touched::Touched,
};

type HashMap<K, V> = papaya::HashMap<K, V, ahash::RandomState>;

/// A borrowed [`InstanceKey`], to look up without allocating.
#[derive(Clone, Copy, Hash)]
struct InstanceRef<'a> {
    namespace: &'a str,
    name: &'a str,
}

impl Equivalent<InstanceKey> for InstanceRef<'_> {
    fn equivalent(&self, key: &InstanceKey) -> bool {
        *self.namespace == *key.namespace && *self.name == *key.name
    }
}

/// A borrowed [`ServiceKey`].
#[derive(Clone, Copy, Hash)]
struct ServiceRef<'a> {
    namespace: &'a str,
    service: &'a str,
}

impl Equivalent<ServiceKey> for ServiceRef<'_> {
    fn equivalent(&self, key: &ServiceKey) -> bool {
        *self.namespace == *key.namespace && *self.service == *key.service
    }
}

/// When and why an instance was evicted; kept for ten minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentEviction {
    /// To forget it in time.
    pub at: Moment,
    /// To tell people.
    pub evicted: Wall,
    /// A sentence.
    pub reason: Arc<str>,
}

/// What a heartbeat is that came later than a lease after the one before, where replicas tell each other of theirs.
#[derive(Clone, Copy, Debug)]
enum LateHeartbeat {
    /// A revival, whatever grace there are.
    Revives,
    /// Ordinary, as long as grace say so. Only where the model shows why not.
    CountsByFloors,
}

/// What the doors make of a heartbeat.
#[derive(Debug)]
pub enum Heartbeat {
    /// Counted: the lease runs anew from now.
    Renewed(Arc<Slot>),
    /// A permanent instance needs none.
    Permanent(Arc<Slot>),
    /// It changes something (a revival, or another health): to be written before it is answered.
    Write(Arc<Slot>),
    /// Its object is being deleted: no heartbeat counts any more.
    Terminating(Arc<Slot>),
    /// Another incarnation bears the name; its uid.
    OtherUid(Arc<str>),
    /// Evicted lately.
    Gone(RecentEviction),
    /// No such instance is known here; the API server may know better.
    Unknown,
}

/// The published state of one replica.
#[derive(Debug)]
pub struct Directory {
    /// The only namespace that is looked after, if not all.
    scope: Option<Arc<str>>,
    pub(crate) slots: HashMap<InstanceKey, Arc<Slot>>,
    pub(crate) services: HashMap<ServiceKey, Arc<View>>,
    /// How many services each namespace has; absent when none.
    pub(crate) namespaces: HashMap<Arc<str>, usize>,
    /// Who bears the addresses of the networks whose names are asked for.
    pub(crate) addresses: AddressIndex,
    /// Which live instances offer the same address and port.
    pub(crate) sockets: RwLock<Sockets>,
    pub(crate) recent_evictions: HashMap<InstanceKey, RecentEviction>,
    pub(crate) grace: ArcSwap<Grace>,
    pub(crate) leadership: ArcSwap<Leadership>,
    pub(crate) report: ArcSwap<Report>,
    pub(crate) horizon: AtomicU64,
    pub(crate) index: AtomicU64,
    /// How often the store has gone back. Written after the index that belongs to it, and read before it.
    pub(crate) epoch: AtomicU64,
    /// The highest version of an instance that an answer may rest on: the watch may be behind it.
    pub(crate) newest: AtomicU64,
    /// Incarnations that this replica has deleted, and whose removal the watch has not brought yet.
    pub(crate) removals: HashMap<Arc<str>, ()>,
    pub(crate) installations: ArcSwap<Identity>,
    pub(crate) synced: AtomicBool,
    pub(crate) serial: Serial,
    /// What this replica has to tell the others.
    pub(crate) touched: Touched,
    /// Set when this replica keeps a ledger.
    ledger: OnceLock<LateHeartbeat>,
    /// From when on beats are not answered 200; 0 when they are not at all.
    pub(crate) fence: AtomicU64,
}

impl Default for Directory {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Directory {
    /// Nothing known yet, of one namespace or of all.
    #[must_use]
    pub fn new(scope: Option<&str>) -> Self {
        Self {
            scope: scope.map(Into::into),
            slots: HashMap::default(),
            services: HashMap::default(),
            namespaces: HashMap::default(),
            addresses: AddressIndex::default(),
            sockets: RwLock::default(),
            recent_evictions: HashMap::default(),
            grace: ArcSwap::default(),
            leadership: ArcSwap::default(),
            report: ArcSwap::default(),
            horizon: AtomicU64::default(),
            index: AtomicU64::default(),
            epoch: AtomicU64::default(),
            newest: AtomicU64::default(),
            removals: HashMap::default(),
            installations: ArcSwap::default(),
            synced: AtomicBool::default(),
            serial: Serial::default(),
            touched: Touched::default(),
            ledger: OnceLock::new(),
            fence: AtomicU64::new(u64::MAX),
        }
    }

    /// With an index of the addresses within `networks`; without one, nobody bears any. To be said
    /// before anything is published.
    #[must_use]
    pub fn with_networks(self, networks: &[IpNet]) -> Self {
        Self { addresses: AddressIndex::within(networks), ..self }
    }

    /// From now on beats are to be told, and none is answered before the others know this replica.
    pub(crate) fn keep_ledger<R: Rules>(&self) {
        let late = if R::LATE_BEAT_IS_REVIVAL {
            LateHeartbeat::Revives
        } else {
            LateHeartbeat::CountsByFloors
        };
        let _ = self.ledger.set(late);
        self.fence.store(if R::FENCE { 0 } else { u64::MAX }, Ordering::SeqCst);
    }

    /// The only namespace that is looked after, if not all.
    #[must_use]
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// Whether a namespace is looked after: of any other, nothing can be said.
    #[must_use]
    pub fn covers(&self, namespace: &str) -> bool {
        self.scope.as_deref().is_none_or(|scope| scope == namespace)
    }

    /// Whether the first full list has been taken in. Before that, nothing is known to be absent.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// The highest resourceVersion that has been applied.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index.load(Ordering::Acquire)
    }

    /// What is known of the store before a write is sent.
    #[must_use]
    pub fn before_write(&self) -> Sent {
        let epoch = self.epoch.load(Ordering::SeqCst);
        Sent { epoch, least: self.index.load(Ordering::SeqCst).saturating_add(1) }
    }

    /// The same before an object is read, of which nothing is known: see [`Sent::of`].
    #[must_use]
    pub fn before_read(&self) -> Sent {
        Sent { epoch: self.epoch.load(Ordering::SeqCst), least: 0 }
    }

    /// The version that covers all that an answer of this replica may rest on: what the watch has brought, and what this
    /// replica has written. A replica whose [`Directory::index`] has reached it shows no less.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire).max(self.index())
    }

    /// An answer rests on this version. Cheap where it is covered already, as with nearly every heartbeat.
    pub fn raise_newest(&self, version: u64) {
        if version > self.newest() {
            self.newest.fetch_max(version, Ordering::AcqRel);
        }
    }

    /// Whether this replica has deleted an incarnation whose removal the watch has not brought yet. Once it has,
    /// [`Directory::index`] covers the removal.
    #[must_use]
    pub fn awaits_removal(&self, uid: &str) -> bool {
        self.removals.pin().contains_key(uid)
    }

    /// What this installation is called.
    #[must_use]
    pub fn installation(&self) -> Arc<Identity> {
        self.installations.load_full()
    }

    /// Asked of every heartbeat, and seldom true.
    fn is_stored_expired(&self, record: &Instance) -> bool {
        record.is_stored_expired() && self.installations.load().is_stored_expired(record)
    }

    /// The horizon.
    #[must_use]
    pub fn horizon(&self) -> Moment {
        Moment(self.horizon.load(Ordering::Acquire))
    }

    /// How far the horizon is behind `now`.
    #[must_use]
    pub fn age(&self, now: Moment) -> Duration {
        now.since(self.horizon())
    }

    /// Whether the horizon has stood still for too long to be called fresh.
    #[must_use]
    pub fn is_stale(&self, now: Moment) -> bool {
        self.age(now) > STALE_AFTER
    }

    /// Whether a beat taken at `now` may not be answered 200, but only 202: the others may not
    /// wait for this replica's ledger any more, or do not know it yet. To be asked after
    /// [`Directory::heartbeat`], with the same moment. Never, where no ledgers are kept.
    #[must_use]
    pub fn is_fenced(&self, now: Moment) -> bool {
        now.0 >= self.fence.load(Ordering::SeqCst)
    }

    /// Who leads.
    #[must_use]
    pub fn leadership(&self) -> Arc<Leadership> {
        self.leadership.load_full()
    }

    /// What this replica tells of itself.
    #[must_use]
    pub fn report(&self) -> Arc<Report> {
        self.report.load_full()
    }

    /// The serial of what is published, for DNS: the second of wall time in which something changed
    /// that a reader can see; never goes back (RFC 1982).
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.serial.get()
    }

    /// The serial for a zone transfer, to be taken before the first view is read: no later content
    /// goes by it, so that nobody who fetches whenever it moves keeps what is old.
    #[must_use]
    pub fn serial_for_transfer(&self) -> u32 {
        self.serial.give()
    }

    /// The view of a service; none when it has no instance at all.
    #[must_use]
    pub fn service(&self, namespace: &str, service: &str) -> Option<Arc<View>> {
        self.services.pin().get(&ServiceRef { namespace, service }).cloned()
    }

    /// Every view, of one namespace or of all, in no order.
    #[must_use]
    pub fn all_services(&self, namespace: Option<&str>) -> Vec<Arc<View>> {
        let services = self.services.pin();
        let views = services.values();
        views
            .filter(|view| namespace.is_none_or(|ns| *view.key.namespace == *ns))
            .cloned()
            .collect()
    }

    /// The members that bear an address, whatever their phase, by namespace, service and label;
    /// none outside the networks that were given. A member whose label another one of its service
    /// bears is left out: its name leads to that one.
    #[must_use]
    pub fn members_at(&self, ip: IpAddr) -> Vec<Arc<Member>> {
        self.addresses.of(ip)
    }

    /// Whether [`Directory::members_at`] has anybody for any address of `network`.
    #[must_use]
    pub fn has_address_below(&self, network: IpNet) -> bool {
        self.addresses.is_any_within(network)
    }

    /// An address and port that this instance shares with another one, if both are discoverable.
    #[must_use]
    pub fn shared_address(&self, facts: &Facts) -> Option<Shared> {
        self.sockets.read().of(facts)
    }

    /// How many addresses with a port are discoverable by two discoverable instances or more.
    #[must_use]
    pub fn shared_addresses(&self) -> usize {
        self.sockets.read().shared()
    }

    /// Whether a namespace has any instance.
    #[must_use]
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.pin().contains_key(namespace)
    }

    /// The slot of an instance.
    #[must_use]
    pub fn slot(&self, namespace: &str, name: &str) -> Option<Arc<Slot>> {
        self.slots.pin().get(&InstanceRef { namespace, name }).cloned()
    }

    /// How many instances are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The eviction of an instance within the last ten minutes.
    #[must_use]
    pub fn recent_eviction(&self, namespace: &str, name: &str) -> Option<RecentEviction> {
        self.recent_evictions.pin().get(&InstanceRef { namespace, name }).cloned()
    }

    /// When the lease of an instance ends, as known now; none for a permanent one.
    #[must_use]
    pub fn deadline(&self, slot: &Slot) -> Option<Moment> {
        let lease = slot.record().lease;
        let deadline = || self.grace.load().deadline(slot.last_heartbeat(), lease.duration);
        lease.is_leased().then(deadline)
    }

    /// Takes a heartbeat: one look-up and one store, unless it changes something.
    pub fn heartbeat(
        &self,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
        health: Option<HealthReport>,
        now: Moment,
    ) -> Heartbeat {
        let Some(slot) = self.slot(namespace, name) else {
            return self
                .recent_eviction(namespace, name)
                .map_or(Heartbeat::Unknown, Heartbeat::Gone);
        };
        let record = slot.record();
        if uid.is_some_and(|uid| *uid != *record.uid) {
            return Heartbeat::OtherUid(record.uid.clone());
        }
        if record.is_terminating() {
            return Heartbeat::Terminating(slot);
        }
        let changes = health.is_some_and(|health| !record.reports(health));
        if !record.lease.is_leased() {
            return if changes { Heartbeat::Write(slot) } else { Heartbeat::Permanent(slot) };
        }
        let taken = self.take(&slot, record.lease.duration, now);
        // Stored as expired though alive: a verdict may have landed late. Asked after the beat was
        // noted, so that no ledger says it has seen that verdict and leaves out a beat before it.
        let changes = changes || self.is_stored_expired(&slot.record());
        match taken {
            Taken::Counted if !changes => Heartbeat::Renewed(slot),
            Taken::Counted | Taken::Late | Taken::Dead => Heartbeat::Write(slot),
        }
    }

    /// Where replicas tell each other of beats, grace do not make a late one good: another replica
    /// may have judged already.
    fn take(&self, slot: &Arc<Slot>, duration: Duration, now: Moment) -> Taken {
        let with_grace = |beat| self.grace.load().deadline(beat, duration);
        match self.ledger.get() {
            None => slot.beat(now, with_grace),
            Some(LateHeartbeat::Revives) => {
                self.touched.beat(slot, now, |beat| beat.after(duration))
            }
            Some(LateHeartbeat::CountsByFloors) => self.touched.beat(slot, now, with_grace),
        }
    }
}
