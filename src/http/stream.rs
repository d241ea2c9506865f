//! The body of a watch.
//!
//! Owns: [`Stream`]: when to look, when to show that it lives, and when to end. Does not own: what is told
//! (`follow`), and dropping a client that takes nothing (`progress`). hyper asks for bytes only when there is room for
//! them.

use std::{
    fmt,
    ops::Range,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::clock;
use crate::http::{answer::PIECE, door::Door, events, follow::Follower, waiters::Subscription};
use crate::registry::lease::Moment;

/// A quiet stream says so often that it lives: proxies wait a minute, or half of one.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// How long a client should wait before it connects again, in milliseconds: so that those of a replica that went
/// do not come to another in the same moment.
const RETRY: Range<u32> = 1_000..5_000;

/// The life of a stream, in seconds: so that clients spread anew over the replicas.
const LIFE: Range<u64> = 1_800..3_600;

/// Where readers need a right, which is asked for when a stream begins, and may be taken away.
const LIFE_BY_RIGHT: Range<u64> = 60..120;

/// What is sent for as long as the client wants it.
pub(super) struct Stream {
    door: Arc<Door>,
    subscription: Subscription,
    follower: Follower,
    preface: BytesMut,
    alive: Interval,
    ends: Moment,
}

impl Stream {
    /// Sends what a follower tells, which is subscribed and has looked.
    pub(super) fn new(door: Arc<Door>, subscription: Subscription, follower: Follower) -> Self {
        let mut alive = interval(ALIVE_EVERY);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick would be at once.
        alive.reset();
        let mut preface = BytesMut::new();
        events::retry(&mut preface, fastrand::u32(RETRY));
        let life = fastrand::u64(if door.doorman.reads { LIFE_BY_RIGHT } else { LIFE });
        let ends = clock::moment().after(Duration::from_secs(life));
        Self { door, subscription, follower, preface, alive, ends }
    }

    /// The next bytes; none when all is told.
    fn write(&mut self) -> Option<Bytes> {
        let mut out = std::mem::take(&mut self.preface);
        let before = self.follower.told();
        self.follower.write(&mut out, PIECE, &self.door.zone);
        self.subscription.metrics().events.inc_by(self.follower.told() - before);
        (!out.is_empty()).then(|| out.freeze())
    }

    /// Whether only news are still to be told.
    pub(super) fn has_told_all(&self) -> bool {
        self.preface.is_empty() && self.follower.has_told_all()
    }

    fn is_over(&self) -> bool {
        self.subscription.has_ended() || clock::moment() >= self.ends
    }

    /// The next bytes when there are some; none at the end.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.write() {
                self.alive.reset();
                return Poll::Ready(Some(bytes));
            }
            if self.is_over() {
                return Poll::Ready(None);
            }
            if self.subscription.poll_rung(cx).is_ready() {
                self.follower.look(self.door.inbox.directory());
            } else if self.alive.poll_tick(cx).is_ready() {
                return Poll::Ready(Some(Bytes::from_static(events::ALIVE)));
            } else {
                return Poll::Pending;
            }
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a stream")
    }
}
