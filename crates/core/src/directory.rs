//! The directory: the published state of the catalog, which readers and request handlers query.
//!
//! Owns: the published views, the slots by name, recent evictions, and the figures that answers carry. Only
//! the catalog writes it; reading never waits. Does not own: verdicts.

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
    endpoints::{EndpointIndex, SharedAddress},
    fact::StorePosition,
    grace::Grace,
    horizon::STALE_AFTER,
    identity::Identity,
    leadership::Leadership,
    report::Report,
    rules::Rules,
    serial::Serial,
    slot::{Slot, SlotOutcome},
    unreported::Unreported,
};

type HashMap<K, V> = papaya::HashMap<K, V, ahash::RandomState>;

/// A borrowed [`InstanceKey`], for lookups without allocation.
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

/// A borrowed [`ServiceKey`], for lookups without allocation.
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
    /// When the object was evicted; decides when this record is dropped.
    pub at: Moment,
    /// The same time, for answers.
    pub evicted: Wall,
    pub reason: Arc<str>,
}

/// How to treat a heartbeat that comes more than one lease after the previous one, when replicas report
/// heartbeats to each other.
#[derive(Clone, Copy, Debug)]
enum LateHeartbeat {
    /// It is a revival, regardless of grace.
    Revives,
    /// It is an ordinary heartbeat as long as grace keeps the lease. Only the model uses this, to show why
    /// it is wrong.
    CountsByGrace,
}

/// The result of a heartbeat.
#[derive(Debug)]
pub enum Heartbeat {
    /// It counts: a new lease begins now.
    Renewed(Arc<Slot>),
    /// The instance is permanent and needs no heartbeats.
    Permanent(Arc<Slot>),
    /// It changes the object (a revival, or another health), so it must be written before it is answered.
    Write(Arc<Slot>),
    /// The object is being deleted, so no heartbeat counts any more.
    Terminating(Arc<Slot>),
    /// Another incarnation has this name; its uid.
    OtherUid(Arc<str>),
    /// The instance was evicted recently.
    Evicted(RecentEviction),
    /// This replica does not know the instance, but the API server may.
    Unknown,
}

/// The published state of one replica.
#[derive(Debug)]
pub struct Directory {
    /// The only namespace that this replica serves; `None` if it serves all.
    scope: Option<Arc<str>>,
    pub(crate) slots: HashMap<InstanceKey, Arc<Slot>>,
    pub(crate) services: HashMap<ServiceKey, Arc<View>>,
    /// The number of services in each namespace; a namespace without services is absent.
    pub(crate) namespaces: HashMap<Arc<str>, usize>,
    /// The members by address, within the networks that have reverse zones.
    pub(crate) addresses: AddressIndex,
    /// Which live instances share an endpoint.
    pub(crate) endpoints: RwLock<EndpointIndex>,
    pub(crate) recent_evictions: HashMap<InstanceKey, RecentEviction>,
    pub(crate) grace: ArcSwap<Grace>,
    pub(crate) leadership: ArcSwap<Leadership>,
    pub(crate) report: ArcSwap<Report>,
    pub(crate) horizon: AtomicU64,
    pub(crate) index: AtomicU64,
    /// How often the store has gone back. Written after the index that belongs to it, and read before it.
    pub(crate) epoch: AtomicU64,
    /// The highest resourceVersion that an answer can depend on; the watch may be behind it.
    pub(crate) newest: AtomicU64,
    /// Incarnations that this replica has deleted, until the watch delivers their removal.
    pub(crate) removals: HashMap<Arc<str>, ()>,
    pub(crate) installations: ArcSwap<Identity>,
    pub(crate) synced: AtomicBool,
    pub(crate) serial: Serial,
    /// The heartbeats that the replica's ledger does not report yet.
    pub(crate) unreported: Unreported,
    /// Set if this replica has a ledger.
    ledger: OnceLock<LateHeartbeat>,
    /// The moment from which heartbeats are not answered 200; 0 if they never are.
    pub(crate) fence: AtomicU64,
}

impl Default for Directory {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Directory {
    /// An empty directory, for one namespace or for all.
    #[must_use]
    pub fn new(scope: Option<&str>) -> Self {
        Self {
            scope: scope.map(Into::into),
            slots: HashMap::default(),
            services: HashMap::default(),
            namespaces: HashMap::default(),
            addresses: AddressIndex::default(),
            endpoints: RwLock::default(),
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
            unreported: Unreported::default(),
            ledger: OnceLock::new(),
            fence: AtomicU64::new(u64::MAX),
        }
    }

    /// Adds an index of the addresses within `networks`. Call this before anything is published.
    #[must_use]
    pub fn with_networks(self, networks: &[IpNet]) -> Self {
        Self { addresses: AddressIndex::within(networks), ..self }
    }

    /// From now on heartbeats are reported in a ledger. None is confirmed before the other replicas have
    /// received a ledger of this replica.
    pub(crate) fn start_ledger<R: Rules>(&self) {
        let late = if R::LATE_HEARTBEAT_IS_REVIVAL {
            LateHeartbeat::Revives
        } else {
            LateHeartbeat::CountsByGrace
        };
        let _ = self.ledger.set(late);
        self.fence.store(if R::FENCE { 0 } else { u64::MAX }, Ordering::SeqCst);
    }

    #[must_use]
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// Whether this replica serves a namespace. It has no data about other namespaces.
    #[must_use]
    pub fn covers(&self, namespace: &str) -> bool {
        self.scope.as_deref().is_none_or(|scope| scope == namespace)
    }

    /// Whether the first full list was applied. Before that, this replica cannot say that an instance does
    /// not exist.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// The highest resourceVersion that has been applied.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index.load(Ordering::Acquire)
    }

    /// The position in the store before a write is sent.
    #[must_use]
    pub fn before_write(&self) -> StorePosition {
        let epoch = self.epoch.load(Ordering::SeqCst);
        StorePosition { epoch, least: self.index.load(Ordering::SeqCst).saturating_add(1) }
    }

    /// The position in the store before an unknown object is read; see [`StorePosition::of`] for a known one.
    #[must_use]
    pub fn before_read(&self) -> StorePosition {
        StorePosition { epoch: self.epoch.load(Ordering::SeqCst), least: 0 }
    }

    /// The resourceVersion up to which answers of this replica can depend on the store: what the watch has
    /// delivered and what this replica has written. A replica whose [`Directory::index`] has reached it
    /// shows at least as much.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire).max(self.index())
    }

    /// Records that an answer depends on this version. Cheap if the version is already covered, as it is
    /// for nearly every heartbeat.
    pub fn raise_newest(&self, version: u64) {
        if version > self.newest() {
            self.newest.fetch_max(version, Ordering::AcqRel);
        }
    }

    /// Whether this replica has deleted this incarnation and the watch has not delivered the removal yet.
    /// Once the watch has delivered it, [`Directory::index`] covers the removal.
    #[must_use]
    pub fn awaits_removal(&self, uid: &str) -> bool {
        self.removals.pin().contains_key(uid)
    }

    #[must_use]
    pub fn installation(&self) -> Arc<Identity> {
        self.installations.load_full()
    }

    /// Called for every heartbeat, and rarely true.
    fn is_stored_expired(&self, record: &Instance) -> bool {
        record.is_stored_expired() && self.installations.load().is_stored_expired(record)
    }

    #[must_use]
    pub fn horizon(&self) -> Moment {
        Moment(self.horizon.load(Ordering::Acquire))
    }

    /// How far the horizon is behind `now`.
    #[must_use]
    pub fn horizon_age(&self, now: Moment) -> Duration {
        now.since(self.horizon())
    }

    /// Whether the horizon is too old for fresh answers.
    #[must_use]
    pub fn is_stale(&self, now: Moment) -> bool {
        self.horizon_age(now) > STALE_AFTER
    }

    /// Whether a heartbeat taken at `now` can only be answered 202 instead of 200: the other replicas may
    /// no longer wait for this replica's ledger, or have not received one yet. Call this after
    /// [`Directory::heartbeat`] with the same moment. Always false without a ledger.
    #[must_use]
    pub fn is_fenced(&self, now: Moment) -> bool {
        now.0 >= self.fence.load(Ordering::SeqCst)
    }

    #[must_use]
    pub fn leadership(&self) -> Arc<Leadership> {
        self.leadership.load_full()
    }

    #[must_use]
    pub fn report(&self) -> Arc<Report> {
        self.report.load_full()
    }

    /// The zone serial for DNS: the wall time, in seconds, of the last change that readers can see. It
    /// never goes back (RFC 1982).
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.serial.get()
    }

    /// The serial for a zone transfer. Call this before the first view is read: no later content has this
    /// serial, so a secondary that fetches whenever the serial moves never keeps old content.
    #[must_use]
    pub fn serial_for_transfer(&self) -> u32 {
        self.serial.give_out()
    }

    /// The view of a service; `None` if it has no instances.
    #[must_use]
    pub fn service(&self, namespace: &str, service: &str) -> Option<Arc<View>> {
        self.services.pin().get(&ServiceRef { namespace, service }).cloned()
    }

    /// All views, of one namespace or of all namespaces, in no particular order.
    #[must_use]
    pub fn views_in(&self, namespace: Option<&str>) -> Vec<Arc<View>> {
        let services = self.services.pin();
        let views = services.values();
        views
            .filter(|view| namespace.is_none_or(|ns| *view.key.namespace == *ns))
            .cloned()
            .collect()
    }

    /// The members with an address, whatever their phase, by namespace, service and label; none outside the
    /// configured networks. If two members of a service have the same label, only the one that the name
    /// resolves to is included.
    #[must_use]
    pub fn members_at(&self, ip: IpAddr) -> Vec<Arc<Member>> {
        self.addresses.members_at(ip)
    }

    /// Whether [`Directory::members_at`] returns a member for any address of `network`.
    #[must_use]
    pub fn has_address_within(&self, network: IpNet) -> bool {
        self.addresses.has_any_within(network)
    }

    /// An endpoint that this instance shares with another one, if both are discoverable.
    #[must_use]
    pub fn shared_address(&self, facts: &Facts) -> Option<SharedAddress> {
        self.endpoints.read().shared_by(facts)
    }

    /// How many endpoints two or more discoverable instances share.
    #[must_use]
    pub fn shared_addresses(&self) -> usize {
        self.endpoints.read().shared()
    }

    #[must_use]
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.pin().contains_key(namespace)
    }

    #[must_use]
    pub fn slot(&self, namespace: &str, name: &str) -> Option<Arc<Slot>> {
        self.slots.pin().get(&InstanceRef { namespace, name }).cloned()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The eviction of an instance within the last ten minutes.
    #[must_use]
    pub fn recent_eviction(&self, namespace: &str, name: &str) -> Option<RecentEviction> {
        self.recent_evictions.pin().get(&InstanceRef { namespace, name }).cloned()
    }

    /// When the lease of an instance ends, as known now; `None` for a permanent one.
    #[must_use]
    pub fn deadline(&self, slot: &Slot) -> Option<Moment> {
        let lease = slot.record().lease;
        let deadline = || self.grace.load().deadline(slot.last_heartbeat(), lease.duration);
        lease.is_leased().then(deadline)
    }

    /// Takes a heartbeat: one lookup and one atomic store, unless the heartbeat changes the object.
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
                .map_or(Heartbeat::Unknown, Heartbeat::Evicted);
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
        let taken = self.take_heartbeat(&slot, record.lease.duration, now);
        // An instance can be stored as expired although it is live, if a verdict was written late. Check this
        // after the heartbeat is recorded, so that no ledger acknowledges that verdict and leaves out a
        // heartbeat before it.
        let changes = changes || self.is_stored_expired(&slot.record());
        match taken {
            SlotOutcome::Counted if !changes => Heartbeat::Renewed(slot),
            SlotOutcome::Counted | SlotOutcome::Late | SlotOutcome::Expired => {
                Heartbeat::Write(slot)
            }
        }
    }

    /// When replicas report heartbeats to each other, a late heartbeat is a revival even during grace,
    /// because another replica may already have judged the lease.
    fn take_heartbeat(&self, slot: &Arc<Slot>, duration: Duration, now: Moment) -> SlotOutcome {
        let with_grace = |beat| self.grace.load().deadline(beat, duration);
        match self.ledger.get() {
            None => slot.take_heartbeat(now, with_grace),
            Some(LateHeartbeat::Revives) => {
                self.unreported.take_heartbeat(slot, now, |beat| beat.after(duration))
            }
            Some(LateHeartbeat::CountsByGrace) => {
                self.unreported.take_heartbeat(slot, now, with_grace)
            }
        }
    }
}
