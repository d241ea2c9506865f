//! The body of a response as a connection sends it: one piece at a time, the next piece only when the last one is
//! written.
//!
//! Owns: [`PacedBody`]. Without it, hyper would buffer 64 KiB of every body, whether the client reads or not, and many
//! slow clients would exhaust the memory. Does not own: producing the pieces (the handlers' bodies).

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
    connection::{progress::Progress, streams::OpenStream},
};

/// When more bytes than this wait on an HTTP/2 connection, its client counts as slow, and each response is tracked
/// separately.
const SLOW_CLIENT: usize = PIECE;

/// A body that is being sent.
#[derive(Debug)]
pub(super) struct PacedBody {
    body: Body,
    pacing: Pacing,
}

#[derive(Debug)]
enum Pacing {
    /// HTTP/1 with a body of one piece, or no body at all.
    None,
    /// HTTP/1: the next piece follows while at most `max_unwritten` wait for the kernel.
    Pieces { progress: Arc<Progress>, max_unwritten: u32 },
    /// HTTP/2: hyper passes a piece to its stream as soon as the window has room for one byte. For a slow client, the
    /// last byte of each piece is sent separately: once the window has room for that byte, the client has taken the
    /// rest of the piece.
    Stream { progress: Arc<Progress>, stream: OpenStream, is_watch: bool, rest: Bytes },
}

impl PacedBody {
    pub(super) fn http1(body: Body, is_watch: bool, progress: &Arc<Progress>) -> Self {
        let length = body.size_hint().exact();
        let is_short = length.is_some_and(|length| length <= PIECE as u64);
        // hyper polls a watch again right after a piece. Usually there are no further events yet, and then the task
        // need not be woken when the piece is written.
        let max_unwritten = u32::from(is_watch);
        let pieces = || Pacing::Pieces { progress: progress.clone(), max_unwritten };
        Self { body, pacing: if is_short { Pacing::None } else { pieces() } }
    }

    pub(super) fn http2(
        body: Body,
        is_watch: bool,
        progress: &Arc<Progress>,
        stream: OpenStream,
    ) -> Self {
        stream.data_waiting(is_watch);
        // Without a body the response ends with its head.
        let is_over = body.is_end_stream();
        let progress = progress.clone();
        let paced = Pacing::Stream { progress, stream, is_watch, rest: Bytes::new() };
        Self { body, pacing: if is_over { Pacing::None } else { paced } }
    }
}

impl hyper::body::Body for PacedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Self { body, pacing } = &mut *self;
        let mut body = Pin::new(body);
        match pacing {
            Pacing::None => body.poll_frame(cx),
            Pacing::Pieces { progress, max_unwritten } => {
                ready!(progress.poll_unwritten(*max_unwritten, cx));
                let frame = ready!(body.poll_frame(cx));
                if frame.is_some() {
                    progress.piece_queued();
                }
                Poll::Ready(frame)
            }
            Pacing::Stream { progress, stream, is_watch, rest } => {
                while rest.is_empty() {
                    match body.as_mut().poll_frame(cx) {
                        Poll::Pending => {
                            stream.data_taken();
                            return Poll::Pending;
                        }
                        Poll::Ready(Some(Ok(frame))) => {
                            // No body of this server has trailers.
                            let Ok(data) = frame.into_data() else { continue };
                            *rest = data;
                        }
                        Poll::Ready(end) => {
                            stream.data_waiting(*is_watch);
                            return Poll::Ready(end);
                        }
                    }
                }
                stream.data_waiting(*is_watch);
                // A body that is complete from the start is also split into pieces: otherwise it would not be noticed
                // that a client leaves all of it in this process.
                let mut piece = rest.split_to(rest.len().min(PIECE));
                if rest.is_empty() && progress.unsent() > SLOW_CLIENT && piece.len() > 1 {
                    *rest = piece.split_off(piece.len() - 1);
                }
                progress.bytes_queued(piece.len());
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let has_more = matches!(&self.pacing, Pacing::Stream { rest, .. } if !rest.is_empty());
        !has_more && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // hyper asks for the size before it takes the first piece.
        self.body.size_hint()
    }
}
