//! The body of a discovery: a set of instances, joined from encoded members.
//!
//! Owns: its bytes. A body of up to [`PIECE`] bytes is copied into one buffer. A longer one is produced while the
//! client reads it, so that thousands of requests for a large set hold no copies of it. Does not own: the members of
//! the set (`discover`), and the JSON of an instance (`encode`).

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use hyper::body::{Frame, SizeHint};
use rollcall_model::view::Revision;

use crate::http::{answer::PIECE, encode, encoded_views::EncodedMember, route::PathNames};

/// A body that is produced piece by piece.
pub(super) struct SetBody {
    /// The DNS zone.
    zone: Arc<str>,
    members: vec::IntoIter<EncodedMember>,
    /// The beginning of the next piece.
    out: BytesMut,
    /// The bytes that are not written yet, including `out`.
    left: usize,
}

const END: &[u8] = b"]}";

/// The body with these members, in this order.
pub(super) fn body(
    zone: &Arc<str>,
    names: PathNames<'_>,
    revision: Revision,
    members: &[&EncodedMember],
) -> Body {
    let encoded = |member: &&EncodedMember| member.json(zone).len();
    let commas = members.len().saturating_sub(1);
    let revision = revision.to_string();
    let fixed = begin_len(names, &revision) + END.len();
    let size = fixed + commas + members.iter().map(encoded).sum::<usize>();
    let mut out = BytesMut::with_capacity(size.min(2 * PIECE));
    begin(&mut out, names, &revision);
    if size <= PIECE {
        for (at, member) in members.iter().enumerate() {
            put(&mut out, at > 0, member.json(zone));
        }
        out.extend_from_slice(END);
        return Body::from(out.freeze());
    }
    let members: Vec<EncodedMember> = members.iter().copied().cloned().collect();
    let members = members.into_iter();
    Body::new(SetBody { zone: zone.clone(), members, out, left: size })
}

/// The same bytes in one piece, without storing the JSON of members. `None` when they would be longer than [`PIECE`].
pub(super) fn one_piece(
    zone: &str,
    names: PathNames<'_>,
    revision: Revision,
    members: &[&EncodedMember],
) -> Option<Bytes> {
    let mut out = BytesMut::new();
    begin(&mut out, names, &revision.to_string());
    for (at, member) in members.iter().enumerate() {
        match member.encoded_json() {
            Some(json) => put(&mut out, at > 0, json),
            None => put(&mut out, at > 0, &encode::member_json(member, zone)),
        }
        if out.len() + END.len() > PIECE {
            return None;
        }
    }
    out.extend_from_slice(END);
    // Copied, so that the stored bytes have no unused capacity.
    Some(Bytes::copy_from_slice(&out))
}

const BEGIN: [&str; 4] =
    ["{\"namespace\":\"", "\",\"service\":\"", "\",\"revision\":\"", "\",\"instances\":["];

fn begin_len(names: PathNames<'_>, revision: &str) -> usize {
    let fixed: usize = BEGIN.iter().map(|part| part.len()).sum();
    fixed + names.namespace.len() + names.name.len() + revision.len()
}

/// Names are DNS labels and need no escaping.
fn begin(out: &mut BytesMut, names: PathNames<'_>, revision: &str) {
    let parts = [names.namespace, names.name, revision, ""];
    for (fixed, part) in BEGIN.iter().zip(parts) {
        out.extend_from_slice(fixed.as_bytes());
        out.extend_from_slice(part.as_bytes());
    }
}

fn put(out: &mut BytesMut, is_next: bool, encoded: &[u8]) {
    if is_next {
        out.extend_from_slice(b",");
    }
    out.extend_from_slice(encoded);
}

impl SetBody {
    /// The next piece. `None` at the end.
    fn write(&mut self) -> Option<Bytes> {
        let mut out = std::mem::take(&mut self.out);
        if out.capacity() == 0 {
            out.reserve(self.left.min(2 * PIECE));
        }
        while out.len() < PIECE {
            let Some(member) = self.members.next() else { break };
            let is_last = self.members.as_slice().is_empty();
            put(&mut out, false, member.json(&self.zone));
            out.extend_from_slice(if is_last { END } else { b"," });
        }
        self.left = self.left.saturating_sub(out.len());
        (!out.is_empty()).then(|| out.freeze())
    }
}

impl hyper::body::Body for SetBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.write().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[cfg(test)]
mod tests {
    use hyper::body::Body as _;

    use super::*;
    use rollcall_core::slot::{Slot, Source};
    use rollcall_model::{
        instance::{Instance, Phase},
        lease::Moment,
        view::Member,
    };

    fn member(at: usize) -> EncodedMember {
        let record = Arc::new(Instance::sample("shop", &format!("orders-{at}")));
        let slot = Arc::new(Slot::new(record.clone(), Moment(0), Source::Start, false));
        let member = Member::new(record.facts.clone(), slot, Phase::Ready, false);
        EncodedMember::new(Arc::new(member))
    }

    /// The bytes of a body, and the number of its pieces.
    fn collect(body: Body) -> (Vec<u8>, usize) {
        let (mut all, mut pieces) = (Vec::new(), 0);
        let announced = body.size_hint().exact();
        let mut body = std::pin::pin!(body);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while !body.is_end_stream() {
            let Poll::Ready(Some(Ok(frame))) = body.as_mut().poll_frame(&mut cx) else {
                panic!("it ended after {} of {announced:?} bytes", all.len());
            };
            let piece = frame.into_data().unwrap();
            assert!(piece.len() < 2 * PIECE, "{}", piece.len());
            all.extend_from_slice(&piece);
            pieces += 1;
        }
        assert_eq!(announced, Some(all.len() as u64));
        (all, pieces)
    }

    #[test]
    fn a_body_is_json_of_the_announced_length_whole_or_in_pieces() {
        let shop = PathNames { namespace: "shop", name: "orders" };
        for (count, in_pieces) in [(0, false), (1, false), (2, false), (50, true), (2_000, true)] {
            let members: Vec<_> = (0..count).map(member).collect();
            let shown: Vec<_> = members.iter().collect();
            let (bytes, pieces) = collect(body(&"z.".into(), shop, Revision(7), &shown));
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(value["revision"], "0000000000000007");
            let names: Vec<_> = value["instances"].as_array().unwrap().iter().collect();
            assert_eq!(names.len(), count);
            assert!(names.iter().enumerate().all(|(at, it)| it["name"] == format!("orders-{at}")));
            assert_eq!(pieces > 1, in_pieces, "{count}: {pieces}");
            let unencoded: Vec<_> = (0..count).map(member).collect();
            let unencoded: Vec<_> = unencoded.iter().collect();
            let one_piece = one_piece("z.", shop, Revision(7), &unencoded);
            assert_eq!(one_piece.as_deref(), (!in_pieces).then_some(&*bytes));
            assert!(unencoded.iter().all(|member| member.encoded_json().is_none()));
        }
    }
}
