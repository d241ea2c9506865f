//! The subscribers of services: requests that wait for a change.
//!
//! Owns: [`Subscribers`], a table from services to their subscriptions, and the limit on subscriptions. Does not own:
//! detecting which services have changed (`engine`), and what a subscriber does then (`discover`, `change_feed`).
//!
//! No wake-up is lost. A subscriber enters the table and then reads the view; the engine publishes the view and then
//! reads the table. Both access the table under the same lock: if the engine comes first, the subscriber reads the new
//! view, otherwise the engine finds the subscriber. Nothing is queued: a subscription has one flag, and a subscriber
//! whose flag is set reads the newest view.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::{future::poll_fn, task::AtomicWaker};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use rollcall_model::instance::ServiceKey;

use crate::http::metrics::{SubscriberKind, SubscriberMetrics};

/// The maximum number of subscriptions: four fifths of the connections, so that some connections are always free for
/// heartbeats.
const MAX_SUBSCRIPTIONS: usize = 8_000;

/// The maximum number of table entries: one for each service of each subscription. If all services are different, each
/// takes about 200 bytes, so 20 MB.
const MAX_ENTRIES: usize = 100_000;

/// The number of shards: enough that threads on several cores seldom wait for each other or for the engine.
const SHARDS: usize = 64;

/// The subscriptions, by service.
pub struct Subscribers {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    next_id: AtomicU64,
    subscriptions: AtomicUsize,
    entries: AtomicUsize,
    is_shutting_down: AtomicBool,
    pub(super) metrics: SubscriberMetrics,
}

/// The wake flags, by service and then by the id of the subscription. A service without subscriptions has no entry.
type Shard = HashMap<ServiceKey, HashMap<u64, Arc<WakeFlag>>>;

/// Wakes one subscriber.
#[derive(Debug, Default)]
struct WakeFlag {
    is_set: AtomicBool,
    waker: AtomicWaker,
}

/// The table entries of one subscriber, removed when this is dropped.
pub(super) struct Subscription {
    subscribers: Arc<Subscribers>,
    id: u64,
    kind: SubscriberKind,
    flag: Arc<WakeFlag>,
    keys: Box<[ServiceKey]>,
}

impl Subscribers {
    /// An empty table, whose metrics are registered in `registry`.
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            next_id: AtomicU64::new(0),
            subscriptions: AtomicUsize::new(0),
            entries: AtomicUsize::new(0),
            is_shutting_down: AtomicBool::new(false),
            metrics: SubscriberMetrics::new(registry),
        }
    }

    /// Wakes the subscribers of these services. Call it when their new views are published.
    pub fn announce(&self, revised: &[ServiceKey]) {
        for key in revised {
            // The flags are set outside the lock, because a waker runs code of the async runtime.
            let flags: Vec<_> = self.shard(key).map_or_else(Vec::new, |shard| {
                shard
                    .lock()
                    .get(key)
                    .map_or_else(Vec::new, |flags| flags.values().cloned().collect())
            });
            let woken = flags.iter().filter(|flag| flag.set()).count();
            if woken > 0 {
                self.metrics.woken.inc_by(woken as u64);
            }
        }
    }

    /// Wakes all subscribers because this replica is shutting down. Later subscribers do not wait.
    pub(super) fn shut_down(&self) {
        self.is_shutting_down.store(true, Ordering::Release);
        for shard in &self.shards {
            let flags: Vec<_> = shard.lock().values().flat_map(HashMap::values).cloned().collect();
            for flag in flags {
                flag.set();
            }
        }
    }

    /// Whether this replica is shutting down. Check it after subscribing.
    pub(super) fn is_shutting_down(&self) -> bool {
        self.is_shutting_down.load(Ordering::Acquire)
    }

    /// Subscribes to these services, which must be distinct. `None` when the table is full. Read the views of the
    /// services after this call.
    pub(super) fn subscribe(
        self: &Arc<Self>,
        kind: SubscriberKind,
        keys: Box<[ServiceKey]>,
    ) -> Option<Subscription> {
        if !take(&self.subscriptions, 1, MAX_SUBSCRIPTIONS) {
            return None;
        }
        if !take(&self.entries, keys.len(), MAX_ENTRIES) {
            self.subscriptions.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let flag = Arc::new(WakeFlag::default());
        for (key, shard) in keys.iter().filter_map(|key| Some((key, self.shard(key)?))) {
            shard.lock().entry(key.clone()).or_default().insert(id, flag.clone());
        }
        self.metrics.subscribed(kind);
        Some(Subscription { subscribers: self.clone(), id, kind, flag, keys })
    }

    fn shard(&self, key: &ServiceKey) -> Option<&Mutex<Shard>> {
        let hash = self.hasher.hash_one(key);
        // The remainder is below the number of shards, so this is never none.
        self.shards.get(usize::try_from(hash % SHARDS as u64).unwrap_or(0))
    }
}

/// Adds `add` to `count`, unless the sum exceeds `most`.
fn take(count: &AtomicUsize, add: usize, most: usize) -> bool {
    let fits = |taken: usize| Some(taken + add).filter(|taken| *taken <= most);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
}

impl WakeFlag {
    /// Sets the flag, and returns whether it was clear before.
    fn set(&self) -> bool {
        let first = !self.is_set.swap(true, Ordering::AcqRel);
        if first {
            self.waker.wake();
        }
        first
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_set.swap(false, Ordering::AcqRel) {
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        // The flag may have been set before the waker was registered.
        if self.is_set.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Subscription {
    /// Ready when one of the services has changed since this was last ready, or the replica is shutting down.
    pub(super) fn poll_changed(&self, cx: &Context<'_>) -> Poll<()> {
        self.flag.poll(cx)
    }

    /// Does the same as [`Self::poll_changed`], as a future. It has no deadline: the caller sets one.
    pub(super) async fn changed(&self) {
        poll_fn(|cx| self.poll_changed(cx)).await;
    }

    /// Whether the replica is shutting down.
    pub(super) fn is_shutting_down(&self) -> bool {
        self.subscribers.is_shutting_down()
    }

    pub(super) fn metrics(&self) -> &SubscriberMetrics {
        &self.subscribers.metrics
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let subscribers = &*self.subscribers;
        for (key, shard) in self.keys.iter().filter_map(|key| Some((key, subscribers.shard(key)?)))
        {
            let mut shard = shard.lock();
            let Some(flags) = shard.get_mut(key) else { continue };
            flags.remove(&self.id);
            if flags.is_empty() {
                shard.remove(key);
            }
        }
        subscribers.entries.fetch_sub(self.keys.len(), Ordering::Relaxed);
        subscribers.subscriptions.fetch_sub(1, Ordering::Relaxed);
        subscribers.metrics.unsubscribed(self.kind);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn subscribers() -> Arc<Subscribers> {
        Arc::new(Subscribers::new(&mut Registry::default()))
    }

    fn key(service: &str) -> ServiceKey {
        ServiceKey::new("shop", service)
    }

    fn is_woken(subscription: &Subscription) -> bool {
        subscription.poll_changed(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_change_wakes_only_the_subscribers_of_its_service() {
        let subscribers = subscribers();
        let [a, b, both] = [&["a"][..], &["b"], &["a", "b"]].map(|keys| {
            let keys = keys.iter().map(|service| key(service)).collect();
            subscribers.subscribe(SubscriberKind::Stream, keys).unwrap()
        });
        subscribers.announce(&[key("a"), key("c")]);
        assert_eq!([&a, &b, &both].map(is_woken), [true, false, true]);
        assert_eq!(subscribers.metrics.woken.get(), 2);
        assert_eq!([&a, &b, &both].map(is_woken), [false; 3], "woken once");
        subscribers.announce(&[key("b"), key("b")]);
        assert_eq!([&a, &b, &both].map(is_woken), [false, true, true]);
        assert_eq!(subscribers.metrics.woken.get(), 4, "a flag that is set is not counted again");
    }

    #[test]
    fn a_change_before_the_first_poll_is_not_lost() {
        let subscribers = subscribers();
        let subscription = subscribers.subscribe(SubscriberKind::Poll, [key("a")].into()).unwrap();
        subscribers.announce(&[key("a")]);
        assert!(is_woken(&subscription));
    }

    #[test]
    fn a_dropped_subscription_leaves_no_entries() {
        let subscribers = subscribers();
        let many: Vec<_> = (0..3)
            .map(|_| {
                subscribers.subscribe(SubscriberKind::Poll, [key("a"), key("b")].into()).unwrap()
            })
            .collect();
        assert_eq!(subscribers.entries.load(Ordering::Relaxed), 6);
        drop(many);
        assert!(subscribers.shards.iter().all(|shard| shard.lock().is_empty()));
        assert_eq!(subscribers.entries.load(Ordering::Relaxed), 0);
        assert_eq!(subscribers.subscriptions.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn subscriptions_and_their_services_are_limited() {
        let subscribers = subscribers();
        let subscribe = || subscribers.subscribe(SubscriberKind::Poll, [key("a")].into());
        let mut all: Vec<_> = (0..MAX_SUBSCRIPTIONS).map(|_| subscribe().unwrap()).collect();
        assert!(subscribe().is_none());
        all.pop();
        all.push(subscribe().unwrap());
        all.clear();
        let wide = || (0..100).map(|at| key(&format!("s{at}"))).collect();
        let mut all = Vec::new();
        while let Some(subscription) = subscribers.subscribe(SubscriberKind::Stream, wide()) {
            all.push(subscription);
        }
        assert_eq!(all.len(), MAX_ENTRIES / 100);
    }

    #[test]
    fn a_shutdown_wakes_every_subscriber() {
        let subscribers = subscribers();
        let before = subscribers.subscribe(SubscriberKind::Poll, [key("a")].into()).unwrap();
        subscribers.shut_down();
        assert!(is_woken(&before) && before.is_shutting_down());
        assert!(
            subscribers
                .subscribe(SubscriberKind::Poll, [key("a")].into())
                .unwrap()
                .is_shutting_down()
        );
    }

    #[test]
    fn no_wake_up_is_lost_between_reading_the_view_and_waiting() {
        let subscribers = subscribers();
        let published = Arc::new(AtomicU64::new(0));
        const ROUNDS: u64 = 20_000;
        std::thread::scope(|scope| {
            let (subscribers, published) = (&subscribers, &published);
            scope.spawn(move || {
                for round in 1..=ROUNDS {
                    published.store(round, Ordering::Relaxed);
                    subscribers.announce(&[key("a")]);
                }
            });
            for _ in 0..2 {
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    let mut last = 0;
                    while last < ROUNDS {
                        let subscription =
                            subscribers.subscribe(SubscriberKind::Poll, [key("a")].into()).unwrap();
                        let now = published.load(Ordering::Relaxed);
                        if now == last {
                            // If the last wake-up were lost, this would wait forever.
                            runtime.block_on(subscription.changed());
                        }
                        last = published.load(Ordering::Relaxed);
                    }
                });
            }
        });
    }
}
