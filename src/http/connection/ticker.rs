//! Ticks all connections every [`TICK`], and signals those that are stalled or idle.
//!
//! Owns: the list of open connections, and the one timer that they share. A timer in each connection would be armed and
//! polled with every request. Does not own: when a connection counts as stalled (`progress`), and what it does with a
//! signal (`connection`).

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use crate::http::connection::{
    progress::{ConnectionState, Progress},
    signal::Signal,
};

/// How often each connection is checked. Every limit is a multiple of it.
const TICK: Duration = Duration::from_secs(5);

/// Ticks all open connections together.
#[derive(Debug, Default)]
pub(in crate::http) struct Ticker {
    open: Mutex<OpenConnections>,
}

#[derive(Debug, Default)]
struct OpenConnections {
    by_key: HashMap<u64, Arc<Progress>>,
    next_key: u64,
    /// Whether the shutdown began: a connection that is accepted from then on shuts down at once.
    is_shutting_down: bool,
}

/// A connection that the ticker checks until this is dropped.
#[derive(Debug)]
pub(super) struct TickedConnection {
    ticker: Arc<Ticker>,
    key: u64,
    pub(super) progress: Arc<Progress>,
}

impl Ticker {
    /// Adds a new connection.
    pub(super) fn add(self: &Arc<Self>) -> TickedConnection {
        let progress = Arc::new(Progress::default());
        let mut open = self.open.lock();
        let key = open.next_key;
        open.next_key += 1;
        open.by_key.insert(key, progress.clone());
        if open.is_shutting_down {
            progress.signals.send(Signal::ShutDown);
        }
        TickedConnection { ticker: self.clone(), key, progress }
    }

    /// Ticks forever.
    pub(in crate::http) async fn run(&self) {
        let mut interval = interval(TICK);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.tick_all();
        }
    }

    /// Ticks each connection once. The lock is held only while the list is copied, so connections that open or close do
    /// not wait for this.
    fn tick_all(&self) {
        let all: Vec<_> = self.open.lock().by_key.values().cloned().collect();
        for progress in all {
            if progress.tick() != ConnectionState::Active {
                progress.signals.send(Signal::CheckState);
            }
        }
    }

    /// Signals all connections, and every later one, to shut down.
    pub(in crate::http) fn shut_down(&self) {
        let mut open = self.open.lock();
        open.is_shutting_down = true;
        for progress in open.by_key.values() {
            progress.signals.send(Signal::ShutDown);
        }
    }
}

impl Drop for TickedConnection {
    fn drop(&mut self) {
        self.ticker.open.lock().by_key.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn an_idle_connection_is_signalled_and_a_closed_one_is_forgotten() {
        let ticker = Arc::new(Ticker::default());
        let (connection, closed) = (ticker.add(), ticker.add());
        let cx = Context::from_waker(Waker::noop());
        drop(closed);
        assert_eq!(ticker.open.lock().by_key.len(), 1);
        let progress = connection.progress.clone();
        let signals = (1..1_000).map(|_| {
            ticker.tick_all();
            progress.signals.poll_receive(&cx)
        });
        let first: Vec<_> = signals.skip_while(Poll::is_pending).take(2).collect();
        assert_eq!(first, [Poll::Ready(Signal::CheckState); 2], "again at each tick");
        ticker.shut_down();
        assert_eq!(progress.signals.poll_receive(&cx), Poll::Ready(Signal::ShutDown));
        let late = ticker.add();
        assert_eq!(
            late.progress.signals.poll_receive(&cx),
            Poll::Ready(Signal::ShutDown),
            "accepted after the shutdown began"
        );
        drop((connection, late));
        assert!(ticker.open.lock().by_key.is_empty());
    }
}
