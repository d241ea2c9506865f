//! The body of a watch.
//!
//! Owns: [`Stream`]: when to look, when to show that it lives, and when to end. Does not own: what is told
//! (`follow`), and dropping a client that takes nothing (`progress`). hyper asks for bytes only when there is room for
//! them.

use std::{
    convert::Infallible,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hyper::body::Frame;
use rollcall_model::lease::Moment;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::http::{app::App, events, follow::Follower, waiters::Subscription};

/// About how much is written at a time: two of them may wait for a client that does not read (`connection::sent`).
const PIECE: usize = 8 * 1024;

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
    app: Arc<App>,
    subscription: Subscription,
    follower: Follower,
    preface: BytesMut,
    alive: Interval,
    /// When something was sent last. The timer is not set anew for that: with thousands of streams they would all wait for
    /// its lock with every change.
    sent: Moment,
    ends: Moment,
}

impl Stream {
    /// Sends what a follower tells, which is subscribed and has looked.
    pub(super) fn new(app: Arc<App>, subscription: Subscription, follower: Follower) -> Self {
        let mut alive = interval(ALIVE_EVERY);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick would be at once.
        alive.reset();
        let mut preface = BytesMut::new();
        events::retry(&mut preface, fastrand::u32(RETRY));
        let life = fastrand::u64(if app.authorization.reads { LIFE_BY_RIGHT } else { LIFE });
        let sent = (app.clock)().moment;
        let ends = sent.after(Duration::from_secs(life));
        Self { app, subscription, follower, preface, alive, sent, ends }
    }

    /// The next bytes; none when all is told.
    fn write(&mut self) -> Option<Bytes> {
        let before = self.follower.told();
        let piece = self.follower.write(std::mem::take(&mut self.preface), PIECE);
        self.subscription.metrics().events.inc_by(self.follower.told() - before);
        (!piece.is_empty()).then_some(piece)
    }

    fn is_over(&self, now: Moment) -> bool {
        self.subscription.has_ended() || now >= self.ends
    }

    /// The next bytes when there are some; none at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let now = (self.app.clock)().moment;
        loop {
            if let Some(bytes) = self.write() {
                self.sent = now;
                return Poll::Ready(Some(bytes));
            }
            if self.is_over(now) {
                return Poll::Ready(None);
            }
            if self.subscription.poll_rung(cx).is_ready() {
                self.follower.look(&self.app.views);
                continue;
            }
            if self.alive.poll_tick(cx).is_pending() {
                return Poll::Pending;
            }
            let left = may_be_silent(self.sent, now);
            self.alive.reset_after(left.unwrap_or(ALIVE_EVERY));
            if left.is_none() {
                self.sent = now;
                return Poll::Ready(Some(Bytes::from_static(events::ALIVE)));
            }
        }
    }
}

/// For how long a stream that sent something then may still be silent; none when it has to show that it lives.
fn may_be_silent(sent: Moment, now: Moment) -> Option<Duration> {
    ALIVE_EVERY.checked_sub(now.since(sent)).filter(|left| !left.is_zero())
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.poll_piece(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_shows_that_it_lives_when_it_has_sent_nothing_for_so_long() {
        let sent = Moment(1_000);
        let left = |after| may_be_silent(sent, sent.after(after));
        assert_eq!(left(Duration::ZERO), Some(ALIVE_EVERY));
        assert_eq!(left(ALIVE_EVERY / 3), Some(ALIVE_EVERY * 2 / 3));
        assert_eq!(left(ALIVE_EVERY - Duration::from_millis(1)), Some(Duration::from_millis(1)));
        assert_eq!([left(ALIVE_EVERY), left(ALIVE_EVERY * 3)], [None; 2]);
    }
}
