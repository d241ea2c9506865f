//! Signals to a connection, from the ticker or from one of its own responses.
//!
//! Owns: [`SignalSlot`], which keeps the strongest signal until the connection receives it. Does not own: what the
//! connection does with it (`connection`).

use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use parking_lot::Mutex;

/// A signal to one connection. The order is by strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Signal {
    /// The connection is idle or stalled, and must check its state again, because it may have made progress since. This
    /// is the weakest signal: the ticker repeats it at the next tick.
    CheckState,
    /// The client should open its next request on another connection, once the responses in progress are complete.
    MoveOn,
    /// The connection must shut down gracefully.
    ShutDown,
}

/// The signal that a connection has not received yet. A stronger signal replaces a weaker one.
#[derive(Debug, Default)]
pub(super) struct SignalSlot {
    pending: Mutex<Option<Signal>>,
    receiver: AtomicWaker,
}

impl SignalSlot {
    pub(super) fn send(&self, signal: Signal) {
        let mut pending = self.pending.lock();
        *pending = (*pending).max(Some(signal));
        drop(pending);
        self.receiver.wake();
    }

    /// Takes the pending signal.
    pub(super) fn poll_receive(&self, cx: &Context<'_>) -> Poll<Signal> {
        self.receiver.register(cx.waker());
        self.pending.lock().take().map_or(Poll::Pending, Poll::Ready)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_connection_receives_the_strongest_signal_once() {
        let cx = Context::from_waker(Waker::noop());
        for (sent, received) in [
            ([Signal::ShutDown, Signal::MoveOn], Signal::ShutDown),
            ([Signal::MoveOn, Signal::CheckState], Signal::MoveOn),
            ([Signal::CheckState, Signal::CheckState], Signal::CheckState),
        ] {
            let slot = SignalSlot::default();
            assert_eq!(slot.poll_receive(&cx), Poll::Pending);
            sent.into_iter().for_each(|signal| slot.send(signal));
            assert_eq!(slot.poll_receive(&cx), Poll::Ready(received), "{sent:?}");
            assert_eq!(slot.poll_receive(&cx), Poll::Pending);
        }
    }
}
