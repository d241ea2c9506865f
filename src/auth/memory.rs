//! What is known for a while: bounded, and asked for once at a time.
//!
//! Owns: how long an answer is good for, one flight a key, and what is said while nobody can be asked:
//! the last answer, as long as it may be. Does not own: what the answers mean.

use std::{convert::Infallible, hash::Hash, sync::Arc, time::Duration};

use ahash::RandomState;
use parking_lot::Mutex;
use quick_cache::{
    Equivalent, UnitWeighter,
    sync::{Cache, DefaultLifecycle},
};
use rollcall_model::lease::Moment;

use crate::clock;

/// How long the last answer is repeated before somebody is asked anew, while nobody answers.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Answers by key; when there are too many, those least asked for go first, and a crowd of keys that
/// are asked for only once does not drive out the others (S3-FIFO).
pub(super) struct Memory<K, V> {
    entries: Cache<K, Arc<Entry<V>>, UnitWeighter, RandomState>,
}

struct Entry<V> {
    known: Mutex<Option<Known<V>>>,
    /// Held by whoever asks.
    flight: tokio::sync::Mutex<()>,
}

/// An answer, and its time.
struct Known<V> {
    value: V,
    /// Answered from memory until then.
    fresh_until: Moment,
    /// While nobody can be asked, until then; none for what is not to be repeated.
    good_until: Option<Moment>,
}

/// An answer that has just been had.
#[derive(Clone, Debug)]
pub(super) struct Answer<V> {
    pub(super) value: V,
    /// Answered from memory for so long.
    pub(super) fresh: Duration,
    /// While nobody can be asked, for so long; none for what is not to be repeated.
    pub(super) good: Option<Duration>,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Memory,
    Asked,
    /// Nobody could be asked: the last answer.
    Outage,
}

impl<V: Clone> Known<V> {
    fn fresh(&self, now: Moment) -> Option<V> {
        (now < self.fresh_until).then(|| self.value.clone())
    }

    fn good(&self, now: Moment) -> Option<V> {
        self.good_until.is_some_and(|until| now < until).then(|| self.value.clone())
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Memory<K, V> {
    /// Keeps that many.
    pub(super) fn new(size: usize) -> Self {
        let (weigh, hash) = (UnitWeighter, RandomState::new());
        Self { entries: Cache::with(size, size as u64, weigh, hash, DefaultLifecycle::default()) }
    }

    /// What is known and fresh.
    pub(super) fn fresh<Q>(&self, key: &Q, now: Moment) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.entries.get(key)?.known.lock().as_ref()?.fresh(now)
    }

    /// What is known and fresh, or else what `ask` answers, which one caller at a time asks for each key
    /// while the others wait. It is told whether there is a last answer to fall back to, and has to
    /// bound its own time.
    ///
    /// # Errors
    /// What `ask` fails with, when there is no last answer.
    pub(super) async fn get<F, E>(
        &self,
        key: &K,
        ask: impl FnOnce(bool) -> F,
    ) -> Result<(V, Source), E>
    where
        F: Future<Output = Result<Answer<V>, E>>,
    {
        let entry = self.entry(key);
        if let Some(value) = entry.fresh(clock::moment()) {
            return Ok((value, Source::Memory));
        }
        // The caller bounds this wait: after an answer all go on at once, after an error the next asks.
        let _flight = entry.flight.lock().await;
        let now = clock::moment();
        if let Some(value) = entry.fresh(now) {
            return Ok((value, Source::Memory));
        }
        let repeated = entry.known.lock().as_ref().and_then(|known| known.good(now));
        match (ask(repeated.is_some()).await, repeated) {
            (Ok(answer), _) => {
                let now = clock::moment();
                *entry.known.lock() = Some(Known {
                    value: answer.value.clone(),
                    fresh_until: now.after(answer.fresh),
                    good_until: answer.good.map(|good| now.after(good)),
                });
                Ok((answer.value, Source::Asked))
            }
            (Err(_), Some(value)) => {
                if let Some(known) = entry.known.lock().as_mut() {
                    let again = clock::moment().after(ASK_AGAIN);
                    known.fresh_until = known.good_until.map_or(again, |until| again.min(until));
                }
                Ok((value, Source::Outage))
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
        Self { known: Mutex::new(None), flight: tokio::sync::Mutex::new(()) }
    }

    fn fresh(&self, now: Moment) -> Option<V> {
        self.known.lock().as_ref()?.fresh(now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    async fn yes(good: Option<Duration>, fresh: Duration) -> Result<Answer<u32>, ()> {
        Ok(Answer { value: 1, fresh, good })
    }

    async fn no_answer() -> Result<Answer<u32>, ()> {
        Err(())
    }

    #[tokio::test]
    async fn a_fresh_answer_is_not_asked_for_again() {
        let memory: Memory<String, u32> = Memory::new(8);
        assert_eq!(memory.fresh("a", clock::moment()), None);
        let got = memory.get(&"a".into(), |_| yes(None, LONG)).await;
        assert_eq!(got, Ok((1, Source::Asked)));
        let got = memory.get(&"a".into(), |_| no_answer()).await;
        assert_eq!(got, Ok((1, Source::Memory)));
        assert_eq!(memory.fresh("a", clock::moment()), Some(1));
        assert_eq!(memory.fresh("a", clock::moment().after(LONG)), None);
    }

    #[tokio::test]
    async fn while_nobody_can_be_asked_the_last_answer_is_repeated_as_long_as_it_is_good() {
        let memory: Memory<String, u32> = Memory::new(8);
        for (key, good, then) in [
            ("to the end", Some(LONG), Ok((1, Source::Outage))),
            ("ended", Some(Duration::ZERO), Err(())),
            ("never", None, Err(())),
        ] {
            memory.get(&key.into(), |_| yes(good, Duration::ZERO)).await.unwrap();
            assert_eq!(memory.get(&key.into(), |_| no_answer()).await, then, "{key}");
        }
        // It is fresh again for a moment: not every caller has to wait for nobody.
        let got = memory.get(&"to the end".into(), |_| no_answer()).await;
        assert_eq!(got, Ok((1, Source::Memory)));
        assert_eq!(memory.get(&"unknown".into(), |_| no_answer()).await, Err(()));
    }

    #[tokio::test]
    async fn of_many_who_want_to_know_one_asks() {
        let memory: Arc<Memory<String, u32>> = Arc::new(Memory::new(8));
        let asked = Arc::new(AtomicU32::new(0));
        let start = Arc::new(tokio::sync::Barrier::new(50));
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (memory, asked, start) = (memory.clone(), asked.clone(), start.clone());
            callers.spawn(async move {
                start.wait().await;
                let ask = |_| async move {
                    asked.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    yes(None, LONG).await
                };
                memory.get(&"a".into(), ask).await
            });
        }
        while let Some(got) = callers.join_next().await {
            assert_eq!(got.unwrap().unwrap().0, 1);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_crowd_of_strangers_does_not_drive_out_those_who_come_often() {
        let memory: Memory<String, u32> = Memory::new(64);
        for _ in 0..3 {
            memory.get(&"often".into(), |_| yes(None, LONG)).await.unwrap();
        }
        for stranger in 0..10_000 {
            let key = stranger.to_string();
            memory.get(&key, |_| yes(None, LONG)).await.unwrap();
            if stranger % 16 == 0 {
                assert!(memory.fresh("often", clock::moment()).is_some(), "after {stranger}");
            }
        }
        assert!(memory.entries.len() <= 64);
    }
}
