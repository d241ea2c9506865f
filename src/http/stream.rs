//! The body of a watch.
//!
//! Owns: [`WatchStream`]: when to read the views, when to send a keep-alive, and when to end. Does not own: the events
//! (`change_feed`), and dropping a client that takes no data (`progress`). hyper polls for bytes only when it can send
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

use crate::http::{app::AppState, change_feed::ChangeFeed, events, subscribers::Subscription};

/// The approximate number of bytes that are written at a time. For a client that does not read, two pieces can wait
/// (`connection::paced_body`).
const PIECE: usize = 8 * 1024;

/// The interval of keep-alives on a quiet stream. Proxies close a connection that is quiet for a minute, some of them
/// after half a minute.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// How many milliseconds a client should wait before it reconnects. The time is random, so that the clients of a
/// replica that stopped do not all reconnect at the same moment.
const RETRY: Range<u32> = 1_000..5_000;

/// How many seconds a stream lasts. Streams end so that clients are distributed over the replicas again.
const LIFETIME: Range<u64> = 1_800..3_600;

/// How many seconds a stream lasts if reads need a right. The right is checked only when a stream begins, and can be
/// revoked later.
const LIFETIME_WITH_READ_AUTH: Range<u64> = 60..120;

/// The body of a watch, which lasts until the client disconnects or the stream's lifetime ends.
pub(super) struct WatchStream {
    app: Arc<AppState>,
    subscription: Subscription,
    feed: ChangeFeed,
    preface: BytesMut,
    keep_alive: Interval,
    /// When bytes were last sent. The timer is not reset then: with thousands of streams, all of them would contend for
    /// the timer's lock at every change.
    sent: Moment,
    ends: Moment,
}

impl WatchStream {
    /// The feed must have been refreshed after the subscription.
    pub(super) fn new(app: Arc<AppState>, subscription: Subscription, feed: ChangeFeed) -> Self {
        let mut keep_alive = interval(KEEP_ALIVE_EVERY);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Without this the first tick would be immediate.
        keep_alive.reset();
        let mut preface = BytesMut::new();
        events::retry(&mut preface, fastrand::u32(RETRY));
        let lifetime = if app.authorization.reads { LIFETIME_WITH_READ_AUTH } else { LIFETIME };
        let sent = (app.clock)().moment;
        let ends = sent.after(Duration::from_secs(fastrand::u64(lifetime)));
        Self { app, subscription, feed, preface, keep_alive, sent, ends }
    }

    /// The next bytes. `None` when the client has all events.
    fn write(&mut self) -> Option<Bytes> {
        let before = self.feed.event_count();
        let piece = self.feed.write(std::mem::take(&mut self.preface), PIECE);
        self.subscription.metrics().events.inc_by(self.feed.event_count() - before);
        (!piece.is_empty()).then_some(piece)
    }

    fn is_over(&self, now: Moment) -> bool {
        self.subscription.is_shutting_down() || now >= self.ends
    }

    /// The next bytes. `None` at the end of the stream.
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
            if self.subscription.poll_changed(cx).is_ready() {
                self.feed.refresh(&self.app.views);
                continue;
            }
            if self.keep_alive.poll_tick(cx).is_pending() {
                return Poll::Pending;
            }
            let left = time_until_keep_alive(self.sent, now);
            self.keep_alive.reset_after(left.unwrap_or(KEEP_ALIVE_EVERY));
            if left.is_none() {
                self.sent = now;
                return Poll::Ready(Some(Bytes::from_static(events::KEEP_ALIVE)));
            }
        }
    }
}

/// The time until a stream that last sent bytes at `sent` must send a keep-alive; `None` when it must do so now.
fn time_until_keep_alive(sent: Moment, now: Moment) -> Option<Duration> {
    KEEP_ALIVE_EVERY.checked_sub(now.since(sent)).filter(|left| !left.is_zero())
}

impl hyper::body::Body for WatchStream {
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
    fn a_keep_alive_is_due_after_15_seconds_without_bytes() {
        const EVERY: Duration = KEEP_ALIVE_EVERY;
        let sent = Moment(1_000);
        let left = |after| time_until_keep_alive(sent, sent.after(after));
        assert_eq!(left(Duration::ZERO), Some(EVERY));
        assert_eq!(left(EVERY / 3), Some(EVERY * 2 / 3));
        assert_eq!(left(EVERY - Duration::from_millis(1)), Some(Duration::from_millis(1)));
        assert_eq!([left(EVERY), left(EVERY * 3)], [None; 2]);
    }
}
