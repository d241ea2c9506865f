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
    /// HTTP/2: hyper asks for a piece when the stream has room for one.
    Stream(Taken),
}

impl Sent {
    /// Over HTTP/1.
    pub(super) fn alone(body: Body, progress: &Arc<Progress>) -> Self {
        let is_whole = matches!(body, Body::Whole(_));
        let way = if is_whole { Way::Whole } else { Way::Pieces(progress.clone()) };
        Self { body, way }
    }

    /// Over HTTP/2.
    pub(super) fn among_others(body: Body, taken: Taken) -> Self {
        taken.owes(body.is_stream());
        Self { body, way: Way::Stream(taken) }
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
            Way::Whole => Pin::new(body).poll_frame(cx),
            Way::Pieces(progress) => {
                ready!(progress.poll_written(cx));
                let polled = Pin::new(body).poll_frame(cx);
                if matches!(polled, Poll::Ready(Some(_))) {
                    progress.hands_over();
                }
                polled
            }
            Way::Stream(taken) => {
                // In pieces here, too: or a client could leave it all with us, and nobody would notice.
                if let Body::Whole(Some(bytes)) = body
                    && bytes.len() > PIECE
                {
                    taken.owes(false);
                    return Poll::Ready(Some(Ok(Frame::data(bytes.split_to(PIECE)))));
                }
                let polled = Pin::new(&mut *body).poll_frame(cx);
                match &polled {
                    Poll::Ready(_) => taken.owes(body.is_stream()),
                    Poll::Pending => taken.parked(),
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
