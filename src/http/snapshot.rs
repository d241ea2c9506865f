//! `GET /v1/snapshot`: every instance in every phase, one line each.
//!
//! Owns: the body, which is produced while the client reads it. Until then it holds only references to views. Does not
//! own: the JSON of an instance (`encode`).

use std::{convert::Infallible, sync::Arc};

use axum::{body::Body, extract::State};
use bytes::{Bytes, BytesMut};
use futures::stream;
use hyper::{StatusCode, header::CACHE_CONTROL};
use rollcall_model::view::View;

use crate::http::{
    answer::{Answer, HandlerResult, PIECE},
    app::AppState,
    encode,
    encoded_views::{EncodedMember, EncodedView},
    query::Query,
};

/// `GET /v1/snapshot`
pub(super) async fn snapshot(
    State(app): State<Arc<AppState>>,
    Query(()): Query<()>,
) -> HandlerResult {
    let mut views = app.intake.directory().views_in(None);
    views.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let views = views.into_iter();
    let lines = SnapshotLines { app, views, view: None, served: None, next: 0 };
    let answer =
        Answer::new(StatusCode::OK, "application/x-ndjson", Body::from_stream(stream::iter(lines)));
    Ok(answer.with_static(CACHE_CONTROL, "no-store"))
}

/// Writes the lines of the snapshot, from the next one on.
pub(super) struct SnapshotLines {
    app: Arc<AppState>,
    views: std::vec::IntoIter<Arc<View>>,
    view: Option<Arc<View>>,
    /// The encoded form of `view`, if there is one. A snapshot stores no JSON: otherwise the whole registry would be in
    /// memory twice.
    served: Option<Arc<EncodedView>>,
    /// The index of the next member of `view`.
    next: usize,
}

impl Iterator for SnapshotLines {
    type Item = Result<Bytes, Infallible>;

    /// The next lines, about [`PIECE`] bytes.
    fn next(&mut self) -> Option<Self::Item> {
        let mut out = BytesMut::new();
        while out.len() < PIECE {
            let member = self.view.as_ref().and_then(|view| view.members.get(self.next));
            match member {
                Some(member) => {
                    let served = self.served.as_ref().and_then(|it| it.members.get(self.next));
                    match served.and_then(EncodedMember::encoded_json) {
                        Some(json) => out.extend_from_slice(json),
                        None => out.extend_from_slice(&encode::member_json(member, &self.app.zone)),
                    }
                    out.extend_from_slice(b"\n");
                    self.next += 1;
                }
                None => match self.views.next() {
                    Some(view) => {
                        self.served = self.app.views.encoded(&view);
                        (self.view, self.next) = (Some(view), 0);
                    }
                    None => break,
                },
            }
        }
        (!out.is_empty()).then(|| Ok(out.freeze()))
    }
}
