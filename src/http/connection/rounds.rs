//! One round over all connections, every [`TICK`]: who stands still or is idle is told so.
//!
//! Owns: the list of connections, and the one timer that all of them have together: a timer in each would be
//! armed and polled with every request. Does not own: what standing still means (`progress`), and what a connection
//! does when it is told (`connection`).

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use crate::http::connection::{
    progress::{Progress, Standing},
    told::Word,
};

/// How often each connection is looked at; every limit is a multiple.
const TICK: Duration = Duration::from_secs(5);

/// All connections.
#[derive(Debug, Default)]
pub(in crate::http) struct Rounds {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    connections: HashMap<u64, Arc<Progress>>,
    next: u64,
    /// Whoever comes now is to end at once.
    has_ended: bool,
}

/// A connection that is looked at, until this is dropped.
#[derive(Debug)]
pub(super) struct Joined {
    rounds: Arc<Rounds>,
    key: u64,
    pub(super) progress: Arc<Progress>,
}

impl Rounds {
    /// A connection that begins.
    pub(super) fn join(self: &Arc<Self>) -> Joined {
        let progress = Arc::new(Progress::default());
        let mut open = self.open.lock();
        let key = open.next;
        open.next += 1;
        open.connections.insert(key, progress.clone());
        if open.has_ended {
            progress.told.tell(Word::End);
        }
        Joined { rounds: self.clone(), key, progress }
    }

    /// Goes round, for ever.
    pub(in crate::http) async fn go(&self) {
        let mut ticker = interval(TICK);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticker.tick().await;
            self.once();
        }
    }

    /// Goes round once. Nobody who comes or goes waits for that.
    fn once(&self) {
        let all: Vec<_> = self.open.lock().connections.values().cloned().collect();
        for progress in all {
            if progress.tick() != Standing::Moves {
                progress.told.tell(Word::Stands);
            }
        }
    }

    /// Tells all of them to end, and whoever is still to come.
    pub(in crate::http) fn end(&self) {
        let mut open = self.open.lock();
        open.has_ended = true;
        for progress in open.connections.values() {
            progress.told.tell(Word::End);
        }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.rounds.open.lock().connections.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn who_stands_still_is_told_and_who_left_is_not_kept() {
        let rounds = Arc::new(Rounds::default());
        let (joined, gone) = (rounds.join(), rounds.join());
        let cx = Context::from_waker(Waker::noop());
        drop(gone);
        assert_eq!(rounds.open.lock().connections.len(), 1);
        let progress = joined.progress.clone();
        let words = (1..1_000).map(|_| {
            rounds.once();
            progress.told.poll(&cx)
        });
        let first: Vec<_> = words.skip_while(Poll::is_pending).take(2).collect();
        assert_eq!(first, [Poll::Ready(Word::Stands); 2], "again at each round");
        rounds.end();
        assert_eq!(progress.told.poll(&cx), Poll::Ready(Word::End));
        assert_eq!(rounds.join().progress.told.poll(&cx), Poll::Ready(Word::End), "too late");
        drop(joined);
        assert!(rounds.open.lock().connections.is_empty());
    }
}
