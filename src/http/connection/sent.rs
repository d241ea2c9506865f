//! A response's body as a connection sends it: a piece at a time, and no piece before the last one is gone.
//!
//! Owns: [`Sent`]. hyper would take 64 KiB ahead from every body, whether its client reads or not; so
//! many clients that do not would fill the memory. Does not own: making pieces (the handlers' bodies).

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{Error, body::Body};
use bytes::Bytes;
use hyper::body::{Body as _, Frame, SizeHint};

use crate::http::{
    answer::PIECE,
    connection::{progress::Progress, streams::Taken},
};

/// Bytes that wait on a connection of HTTP/2 whose client is slow: from there on each response is looked at by itself.
const SLOW: usize = PIECE;

/// A body on its way.
#[derive(Debug)]
pub(super) struct Sent {
    body: Body,
    way: Way,
}

/// How it goes.
#[derive(Debug)]
enum Way {
    /// HTTP/1, and it is one piece; or there is no body.
    Whole,
    /// HTTP/1: another piece while no more than so many wait for the kernel.
    Pieces { progress: Arc<Progress>, most: u32 },
    /// HTTP/2: hyper gives a piece to its stream as soon as there is room for a byte of it. Where a client is slow, the
    /// last byte of each goes by itself: when that has room, the client has made room for all of it.
    Stream { progress: Arc<Progress>, taken: Taken, is_watch: bool, rest: Bytes },
}

impl Sent {
    /// Over HTTP/1.
    pub(super) fn http1(body: Body, is_watch: bool, progress: &Arc<Progress>) -> Self {
        let length = body.size_hint().exact();
        let is_short = length.is_some_and(|length| length <= PIECE as u64);
        // A watch asks for more at once: most often there is nothing, and it need not be woken when its piece is written.
        let pieces = || Way::Pieces { progress: progress.clone(), most: u32::from(is_watch) };
        Self { body, way: if is_short { Way::Whole } else { pieces() } }
    }

    /// Over HTTP/2.
    pub(super) fn http2(
        body: Body,
        is_watch: bool,
        progress: &Arc<Progress>,
        taken: Taken,
    ) -> Self {
        taken.owes(is_watch);
        // Without a body the response is over with its head.
        let is_over = body.is_end_stream();
        let progress = progress.clone();
        let rest = Bytes::new();
        let stream = Way::Stream { progress, taken, is_watch, rest };
        Self { body, way: if is_over { Way::Whole } else { stream } }
    }
}

impl hyper::body::Body for Sent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Self { body, way } = &mut *self;
        let mut body = Pin::new(body);
        match way {
            Way::Whole => body.poll_frame(cx),
            Way::Pieces { progress, most } => {
                ready!(progress.poll_written(*most, cx));
                let frame = ready!(body.poll_frame(cx));
                if frame.is_some() {
                    progress.hands_over();
                }
                Poll::Ready(frame)
            }
            Way::Stream { progress, taken, is_watch, rest } => {
                while rest.is_empty() {
                    match body.as_mut().poll_frame(cx) {
                        Poll::Pending => {
                            taken.parked();
                            return Poll::Pending;
                        }
                        Poll::Ready(Some(Ok(frame))) => {
                            // No body here has trailers.
                            let Ok(data) = frame.into_data() else { continue };
                            *rest = data;
                        }
                        Poll::Ready(end) => {
                            taken.owes(*is_watch);
                            return Poll::Ready(end);
                        }
                    }
                }
                taken.owes(*is_watch);
                // In pieces even where it is whole: or a client could leave it all with us, and nothing would show it.
                let mut piece = rest.split_to(rest.len().min(PIECE));
                if rest.is_empty() && progress.untaken() > SLOW && piece.len() > 1 {
                    *rest = piece.split_off(piece.len() - 1);
                }
                progress.hands(piece.len());
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let has_more = matches!(&self.way, Way::Stream { rest, .. } if !rest.is_empty());
        !has_more && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Asked for before the first piece is taken.
        self.body.size_hint()
    }
}
