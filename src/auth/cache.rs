//! A bounded cache of answers that expire.
//!
//! Owns: how long an answer is valid, that only one caller at a time fetches the answer for a key, and the fallback to the
//! last answer while fetching fails. Does not own: what the answers mean.

use std::{convert::Infallible, hash::Hash, sync::Arc, time::Duration};

use ahash::RandomState;
use parking_lot::Mutex;
use quick_cache::{
    Equivalent, UnitWeighter,
    sync::{Cache, DefaultLifecycle},
};
use rollcall_model::lease::Moment;

use crate::clock;

/// After a fetch that failed, how long the last answer is repeated before the next fetch.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Answers by key. When the cache is full, entries that are rarely used are evicted first, so a flood of keys that
/// are used only once does not evict the others (S3-FIFO).
pub(super) struct AnswerCache<K, V> {
    entries: Cache<K, Arc<Entry<V>>, UnitWeighter, RandomState>,
}

struct Entry<V> {
    cached: Mutex<Option<CachedAnswer<V>>>,
    /// Held by the caller that fetches the answer.
    flight: tokio::sync::Mutex<()>,
}

/// An answer in the cache.
struct CachedAnswer<V> {
    value: V,
    /// Until this moment the answer is used without a fetch.
    fresh_until: Moment,
    /// Until this moment the answer is repeated when a fetch fails; `None` for an answer that must not be repeated.
    fallback_until: Option<Moment>,
}

/// A fetched answer.
#[derive(Clone, Debug)]
pub(super) struct FetchedAnswer<V> {
    pub(super) value: V,
    /// How long the answer is used without a fetch.
    pub(super) fresh: Duration,
    /// How long the answer is repeated when a fetch fails; `None` for an answer that must not be repeated.
    pub(super) fallback: Option<Duration>,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerSource {
    /// The cache, where it was fresh.
    Cache,
    /// A fetch.
    Fetched,
    /// The cache, after a fetch that failed.
    Outage,
}

impl<V: Clone> CachedAnswer<V> {
    fn fresh(&self, now: Moment) -> Option<V> {
        (now < self.fresh_until).then(|| self.value.clone())
    }

    fn fallback(&self, now: Moment) -> Option<V> {
        self.fallback_until.is_some_and(|until| now < until).then(|| self.value.clone())
    }
}

impl<K: Clone + Eq + Hash, V: Clone> AnswerCache<K, V> {
    /// A cache of at most `size` answers.
    pub(super) fn new(size: usize) -> Self {
        let (weigh, hash) = (UnitWeighter, RandomState::new());
        Self { entries: Cache::with(size, size as u64, weigh, hash, DefaultLifecycle::default()) }
    }

    /// The answer in the cache, if it is fresh.
    pub(super) fn fresh<Q>(&self, key: &Q, now: Moment) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.entries.get(key)?.cached.lock().as_ref()?.fresh(now)
    }

    /// The answer in the cache if it is fresh, or else the result of `fetch`. For each key, one caller at a time runs `fetch`
    /// while the others wait. Its argument is whether there is a last answer to fall back to. It needs a deadline
    /// of its own.
    ///
    /// # Errors
    /// The error of `fetch`, when there is no last answer.
    pub(super) async fn get<F, E>(
        &self,
        key: &K,
        fetch: impl FnOnce(bool) -> F,
    ) -> Result<(V, AnswerSource), E>
    where
        F: Future<Output = Result<FetchedAnswer<V>, E>>,
    {
        let entry = self.entry(key);
        if let Some(value) = entry.fresh(clock::moment()) {
            return Ok((value, AnswerSource::Cache));
        }
        // The caller bounds this wait. After an answer, all waiting callers use it; after an error, the next caller
        // fetches.
        let _flight = entry.flight.lock().await;
        let now = clock::moment();
        if let Some(value) = entry.fresh(now) {
            return Ok((value, AnswerSource::Cache));
        }
        let repeated = entry.cached.lock().as_ref().and_then(|cached| cached.fallback(now));
        match (fetch(repeated.is_some()).await, repeated) {
            (Ok(answer), _) => {
                let now = clock::moment();
                *entry.cached.lock() = Some(CachedAnswer {
                    value: answer.value.clone(),
                    fresh_until: now.after(answer.fresh),
                    fallback_until: answer.fallback.map(|span| now.after(span)),
                });
                Ok((answer.value, AnswerSource::Fetched))
            }
            (Err(_), Some(value)) => {
                if let Some(cached) = entry.cached.lock().as_mut() {
                    let again = clock::moment().after(RETRY_AFTER);
                    cached.fresh_until =
                        cached.fallback_until.map_or(again, |until| again.min(until));
                }
                Ok((value, AnswerSource::Outage))
            }
            (Err(error), None) => Err(error),
        }
    }

    fn entry(&self, key: &K) -> Arc<Entry<V>> {
        let new = || Ok::<_, Infallible>(Arc::new(Entry::new()));
        let Ok(entry) = self.entries.get_or_insert_with(key, new);
        entry
    }
}

impl<V: Clone> Entry<V> {
    fn new() -> Self {
        Self { cached: Mutex::new(None), flight: tokio::sync::Mutex::new(()) }
    }

    fn fresh(&self, now: Moment) -> Option<V> {
        self.cached.lock().as_ref()?.fresh(now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    async fn yes(fallback: Option<Duration>, fresh: Duration) -> Result<FetchedAnswer<u32>, ()> {
        Ok(FetchedAnswer { value: 1, fresh, fallback })
    }

    async fn no_answer() -> Result<FetchedAnswer<u32>, ()> {
        Err(())
    }

    #[tokio::test]
    async fn fresh_answer_is_not_fetched_again() {
        let cache: AnswerCache<String, u32> = AnswerCache::new(8);
        assert_eq!(cache.fresh("a", clock::moment()), None);
        let got = cache.get(&"a".into(), |_| yes(None, LONG)).await;
        assert_eq!(got, Ok((1, AnswerSource::Fetched)));
        let got = cache.get(&"a".into(), |_| no_answer()).await;
        assert_eq!(got, Ok((1, AnswerSource::Cache)));
        assert_eq!(cache.fresh("a", clock::moment()), Some(1));
        assert_eq!(cache.fresh("a", clock::moment().after(LONG)), None);
    }

    #[tokio::test]
    async fn last_answer_is_repeated_within_its_time_while_fetching_fails() {
        let cache: AnswerCache<String, u32> = AnswerCache::new(8);
        for (key, fallback, then) in [
            ("to the end", Some(LONG), Ok((1, AnswerSource::Outage))),
            ("ended", Some(Duration::ZERO), Err(())),
            ("never", None, Err(())),
        ] {
            cache.get(&key.into(), |_| yes(fallback, Duration::ZERO)).await.unwrap();
            assert_eq!(cache.get(&key.into(), |_| no_answer()).await, then, "{key}");
        }
        // It is fresh again for a short time, so that not every caller waits for a fetch that fails.
        let got = cache.get(&"to the end".into(), |_| no_answer()).await;
        assert_eq!(got, Ok((1, AnswerSource::Cache)));
        assert_eq!(cache.get(&"unknown".into(), |_| no_answer()).await, Err(()));
    }

    #[tokio::test]
    async fn concurrent_callers_share_one_fetch() {
        let cache: Arc<AnswerCache<String, u32>> = Arc::new(AnswerCache::new(8));
        let asked = Arc::new(AtomicU32::new(0));
        let start = Arc::new(tokio::sync::Barrier::new(50));
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (cache, asked, start) = (cache.clone(), asked.clone(), start.clone());
            callers.spawn(async move {
                start.wait().await;
                let fetch = |_| async move {
                    asked.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    yes(None, LONG).await
                };
                cache.get(&"a".into(), fetch).await
            });
        }
        while let Some(got) = callers.join_next().await {
            assert_eq!(got.unwrap().unwrap().0, 1);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn flood_of_single_use_keys_does_not_evict_frequent_ones() {
        let cache: AnswerCache<String, u32> = AnswerCache::new(64);
        for _ in 0..3 {
            cache.get(&"often".into(), |_| yes(None, LONG)).await.unwrap();
        }
        for number in 0..10_000 {
            let key = number.to_string();
            cache.get(&key, |_| yes(None, LONG)).await.unwrap();
            if number % 16 == 0 {
                assert!(cache.fresh("often", clock::moment()).is_some(), "after {number}");
            }
        }
        assert!(cache.entries.len() <= 64);
    }
}
