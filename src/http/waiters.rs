//! Who waits for which service, and waking them.
//!
//! Owns: [`Waiters`], a table from services to those who wait for them, and how many there may be.
//! Does not own: which services have changed (`registry`), and what a waiter makes of it
//! (`discover`, `follow`).
//!
//! No wake-up is lost. A waiter enters the table and then looks at the view; the engine publishes
//! the view and then looks into the table. Both look under the same lock: if the engine comes first, the
//! waiter sees the new view, else the engine sees the waiter. Nothing is queued for anybody: a bell is rung
//! or it is not, and who hears it looks at the newest view.

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

use crate::http::metrics::{Kind, SubscriberMetrics};

/// Waiters at once: four of five connections, so that there is always room for heartbeats.
const MAX_WAITERS: usize = 8_000;

/// Services waited for, each counted for each who waits for it: some 200 bytes each, if all are
/// different, so 20 MB.
const MAX_PLACES: usize = 100_000;

/// So that threads on several cores seldom wait for each other or for the engine.
const SHARDS: usize = 64;

/// Who waits for which service.
pub struct Waiters {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    next: AtomicU64,
    waiting: AtomicUsize,
    places: AtomicUsize,
    ended: AtomicBool,
    pub(super) metrics: SubscriberMetrics,
}

/// By service, then by number. Of a service for which nobody waits there is nothing.
type Shard = HashMap<ServiceKey, HashMap<u64, Arc<Bell>>>;

/// Wakes one waiter.
#[derive(Debug, Default)]
struct Bell {
    rung: AtomicBool,
    waker: AtomicWaker,
}

/// A place in the table, for as long as it is held.
pub(super) struct Subscription {
    waiters: Arc<Waiters>,
    id: u64,
    kind: Kind,
    bell: Arc<Bell>,
    keys: Box<[ServiceKey]>,
}

impl Waiters {
    /// Nobody waits. Its figures go into `registry`.
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            next: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            places: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            metrics: SubscriberMetrics::new(registry),
        }
    }

    /// Wakes those who wait for one of these services, whose new views are published.
    pub fn announce(&self, revised: &[ServiceKey]) {
        for key in revised {
            // Rung outside the lock: what a waker does is not ours to know.
            let bells: Vec<_> = self.shard(key).map_or_else(Vec::new, |shard| {
                shard
                    .lock()
                    .get(key)
                    .map_or_else(Vec::new, |bells| bells.values().cloned().collect())
            });
            let woken = bells.iter().filter(|bell| bell.ring()).count();
            if woken > 0 {
                self.metrics.woken.inc_by(woken as u64);
            }
        }
    }

    /// This replica goes away: everybody is woken, and nobody waits any more.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        for shard in &self.shards {
            let bells: Vec<_> = shard.lock().values().flat_map(HashMap::values).cloned().collect();
            for bell in bells {
                bell.ring();
            }
        }
    }

    /// Whether this replica goes away. To be asked after subscribing.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// A place for somebody who waits for these services, each named once; none when there is no
    /// room. Look at their views after this.
    pub(super) fn subscribe(
        self: &Arc<Self>,
        kind: Kind,
        keys: Box<[ServiceKey]>,
    ) -> Option<Subscription> {
        if !take(&self.waiting, 1, MAX_WAITERS) {
            return None;
        }
        if !take(&self.places, keys.len(), MAX_PLACES) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let bell = Arc::new(Bell::default());
        for (key, shard) in keys.iter().filter_map(|key| Some((key, self.shard(key)?))) {
            shard.lock().entry(key.clone()).or_default().insert(id, bell.clone());
        }
        self.metrics.came(kind);
        Some(Subscription { waiters: self.clone(), id, kind, bell, keys })
    }

    fn shard(&self, key: &ServiceKey) -> Option<&Mutex<Shard>> {
        let hash = self.hasher.hash_one(key);
        // Below the number of shards, so there always is one.
        self.shards.get(usize::try_from(hash % SHARDS as u64).unwrap_or(0))
    }
}

/// Takes `count` of what there is, if that leaves nobody more than `most`.
fn take(from: &AtomicUsize, count: usize, most: usize) -> bool {
    let fits = |taken: usize| Some(taken + count).filter(|taken| *taken <= most);
    from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
}

impl Bell {
    /// Answers whether it had not been rung already.
    fn ring(&self) -> bool {
        let first = !self.rung.swap(true, Ordering::AcqRel);
        if first {
            self.waker.wake();
        }
        first
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.rung.swap(false, Ordering::AcqRel) {
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        // It may have been rung before there was anybody to wake.
        if self.rung.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Subscription {
    /// Whether one of the services has changed since the last time that this was ready, or the replica
    /// goes away.
    pub(super) fn poll_rung(&self, cx: &Context<'_>) -> Poll<()> {
        self.bell.poll(cx)
    }

    /// Waits for that. Without a deadline: whoever calls has one.
    pub(super) async fn rung(&self) {
        poll_fn(|cx| self.poll_rung(cx)).await;
    }

    /// Whether the replica goes away.
    pub(super) fn has_ended(&self) -> bool {
        self.waiters.has_ended()
    }

    /// What is counted of subscribers.
    pub(super) fn metrics(&self) -> &SubscriberMetrics {
        &self.waiters.metrics
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let waiters = &*self.waiters;
        for (key, shard) in self.keys.iter().filter_map(|key| Some((key, waiters.shard(key)?))) {
            let mut shard = shard.lock();
            let Some(bells) = shard.get_mut(key) else { continue };
            bells.remove(&self.id);
            if bells.is_empty() {
                shard.remove(key);
            }
        }
        waiters.places.fetch_sub(self.keys.len(), Ordering::Relaxed);
        waiters.waiting.fetch_sub(1, Ordering::Relaxed);
        waiters.metrics.went(self.kind);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn waiters() -> Arc<Waiters> {
        Arc::new(Waiters::new(&mut Registry::default()))
    }

    fn key(service: &str) -> ServiceKey {
        ServiceKey::new("shop", service)
    }

    fn is_rung(subscription: &Subscription) -> bool {
        subscription.poll_rung(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_change_wakes_those_who_wait_for_it_and_nobody_else() {
        let waiters = waiters();
        let [a, b, both] = [&["a"][..], &["b"], &["a", "b"]].map(|keys| {
            let keys = keys.iter().map(|service| key(service)).collect();
            waiters.subscribe(Kind::Stream, keys).unwrap()
        });
        waiters.announce(&[key("a"), key("c")]);
        assert_eq!([&a, &b, &both].map(is_rung), [true, false, true]);
        assert_eq!(waiters.metrics.woken.get(), 2);
        assert_eq!([&a, &b, &both].map(is_rung), [false; 3], "heard once");
        waiters.announce(&[key("b"), key("b")]);
        assert_eq!([&a, &b, &both].map(is_rung), [false, true, true]);
        assert_eq!(waiters.metrics.woken.get(), 4, "a bell that is rung need not be rung again");
    }

    #[test]
    fn a_bell_that_was_rung_before_anybody_listened_is_heard() {
        let waiters = waiters();
        let one = waiters.subscribe(Kind::Poll, [key("a")].into()).unwrap();
        waiters.announce(&[key("a")]);
        assert!(is_rung(&one));
    }

    #[test]
    fn nothing_is_left_of_who_has_gone() {
        let waiters = waiters();
        let many: Vec<_> = (0..3)
            .map(|_| waiters.subscribe(Kind::Poll, [key("a"), key("b")].into()).unwrap())
            .collect();
        assert_eq!(waiters.places.load(Ordering::Relaxed), 6);
        drop(many);
        assert!(waiters.shards.iter().all(|shard| shard.lock().is_empty()));
        assert_eq!(waiters.places.load(Ordering::Relaxed), 0);
        assert_eq!(waiters.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn there_is_room_for_so_many_and_again_when_one_goes() {
        let waiters = waiters();
        let subscribe = || waiters.subscribe(Kind::Poll, [key("a")].into());
        let mut all: Vec<_> = (0..MAX_WAITERS).map(|_| subscribe().unwrap()).collect();
        assert!(subscribe().is_none());
        all.pop();
        all.push(subscribe().unwrap());
        all.clear();
        let wide = || (0..100).map(|at| key(&format!("s{at}"))).collect();
        let mut all = Vec::new();
        while let Some(one) = waiters.subscribe(Kind::Stream, wide()) {
            all.push(one);
        }
        assert_eq!(all.len(), MAX_PLACES / 100);
    }

    #[test]
    fn the_end_wakes_everybody() {
        let waiters = waiters();
        let before = waiters.subscribe(Kind::Poll, [key("a")].into()).unwrap();
        waiters.end();
        assert!(is_rung(&before) && before.has_ended());
        assert!(waiters.subscribe(Kind::Poll, [key("a")].into()).unwrap().has_ended());
    }

    #[test]
    fn no_wake_up_is_lost_between_look_and_wait() {
        let waiters = waiters();
        let published = Arc::new(AtomicU64::new(0));
        const ROUNDS: u64 = 20_000;
        std::thread::scope(|scope| {
            let (waiters, published) = (&waiters, &published);
            scope.spawn(move || {
                for round in 1..=ROUNDS {
                    published.store(round, Ordering::Relaxed);
                    waiters.announce(&[key("a")]);
                }
            });
            for _ in 0..2 {
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    let mut seen = 0;
                    while seen < ROUNDS {
                        let one = waiters.subscribe(Kind::Poll, [key("a")].into()).unwrap();
                        let now = published.load(Ordering::Relaxed);
                        if now == seen {
                            // Lost, it would be for ever after the last round.
                            runtime.block_on(one.rung());
                        }
                        seen = published.load(Ordering::Relaxed);
                    }
                });
            }
        });
    }
}
