//! An answer's body as a connection takes it: a piece at a time, and no piece before the last one is gone.
//!
//! Owns: [`Sent`]. hyper would take 64 KiB ahead from every body, whether its client reads or not; so
//! many clients that do not would fill the memory. Does not own: making pieces (`answer`).

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::http::{
    answer::{Body, PIECE},
    connection::{progress::Progress, streams::Taken},
};

/// Octets that wait on a connection of HTTP/2 whose client is slow: from there on it is looked at each answer by itself.
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
    /// HTTP/1, and it is whole.
    Whole,
    /// HTTP/1: each piece when the one before is written.
    Pieces(Arc<Progress>),
    /// HTTP/2: hyper gives a piece to its stream as soon as there is room for an octet of it. Where a client is slow, the
    /// last octet of each goes by itself: when that has room, the client has made room for all of it.
    Stream { progress: Arc<Progress>, taken: Taken, last: Option<Bytes> },
}

impl Sent {
    /// Over HTTP/1.
    pub(super) fn alone(body: Body, progress: &Arc<Progress>) -> Self {
        let is_whole = matches!(body, Body::Whole(_));
        let way = if is_whole { Way::Whole } else { Way::Pieces(progress.clone()) };
        Self { body, way }
    }

    /// Over HTTP/2.
    pub(super) fn among_others(body: Body, progress: &Arc<Progress>, taken: Taken) -> Self {
        taken.owes(body.is_stream());
        // Without a body the answer is over with its head.
        let is_over = body.is_over();
        let progress = progress.clone();
        let way = if is_over { Way::Whole } else { Way::Stream { progress, taken, last: None } };
        Self { body, way }
    }
}

impl hyper::body::Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Self { body, way } = &mut *self;
        match way {
            Way::Whole => body.poll_piece(cx).map(framed),
            Way::Pieces(progress) => {
                // Who has told everything is asked for news at once: most often there are none, and nobody has to be
                // woken when the last piece is written.
                let most = u32::from(body.has_told_all());
                ready!(progress.poll_written(most, cx));
                let piece = ready!(body.poll_piece(cx));
                if piece.is_some() {
                    progress.hands_over();
                }
                Poll::Ready(framed(piece))
            }
            Way::Stream { progress, taken, last } => {
                let polled =
                    last.take().map_or_else(|| next(body, cx), |last| Poll::Ready(Some(last)));
                let Poll::Ready(mut piece) = polled else {
                    taken.parked();
                    return Poll::Pending;
                };
                taken.owes(body.is_stream());
                if let Some(piece) = &mut piece {
                    if progress.untaken() > SLOW && piece.len() > 1 {
                        *last = Some(piece.split_off(piece.len() - 1));
                    }
                    progress.hands(piece.len());
                }
                Poll::Ready(framed(piece))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let has_more = matches!(&self.way, Way::Stream { last: Some(_), .. });
        !has_more && self.body.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.body.length().map(|length| length as u64);
        length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The next piece of a body, in pieces even where it is whole: or a client could leave it all with us, and nobody
/// would notice.
fn next(body: &mut Body, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
    if let Body::Whole(Some(bytes)) = body
        && bytes.len() > PIECE
    {
        return Poll::Ready(Some(bytes.split_to(PIECE)));
    }
    body.poll_piece(cx)
}

fn framed(piece: Option<Bytes>) -> Option<Result<Frame<Bytes>, Infallible>> {
    piece.map(|piece| Ok(Frame::data(piece)))
}
