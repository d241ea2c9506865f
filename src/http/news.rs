//! What is told to all who follow one service and nothing else.
//!
//! Owns: the events that lead from one view to the next, made once for each view and kept in it, so that of a
//! thousand subscribers each costs no more than its write. Does not own: what is told to whoever follows several
//! services, or some of one, or lags behind the others (`follow`).

use bytes::{Bytes, BytesMut};

use crate::http::{
    answer::PIECE,
    difference::{self, Change},
    encode, events,
};
use crate::registry::{
    instance::ServiceKey,
    view::{News, Revision, View, revision},
};

/// What leads to `view` from the one that a client knows, and the revision of those whom that offered; none
/// when it has to be made for this client alone.
pub(super) fn between<'a>(
    known: Option<&View>,
    before: Revision,
    view: &'a View,
    zone: &str,
) -> Option<&'a News> {
    let news = view.news.get_or_init(|| make(known, before, view, zone));
    // Whoever is the first to ask may have missed some views, unlike the others; or they have.
    news.as_ref().filter(|news| news.before == before)
}

/// One change as an event, but for its end ([`events::close`]).
pub(super) fn tell(
    out: &mut BytesMut,
    change: &Change,
    key: &ServiceKey,
    revision: Revision,
    zone: &str,
) {
    match change {
        Change::Upsert(member) => events::upsert(out, encode::member(member, zone), revision),
        Change::Remove(member) => events::remove(out, key, &member.facts.key.name, revision),
    }
}

/// It; none when it is too long to be kept.
fn make(known: Option<&View>, before: Revision, view: &View, zone: &str) -> Option<News> {
    let offered: Vec<_> = view.offered().collect();
    let after = revision(offered.iter().map(|member| member.as_ref()));
    let (mut out, mut told) = (BytesMut::new(), 0);
    if before != after {
        let known: Vec<_> = known.map(|known| known.offered().collect()).unwrap_or_default();
        let changes = difference::between(&known, &offered);
        let id = events::id([after].into_iter());
        told = changes.len();
        for (at, change) in changes.iter().enumerate() {
            tell(&mut out, change, &view.key, after, zone);
            events::close(&mut out, (at + 1 == changes.len()).then_some(&*id));
            if out.len() > PIECE {
                return None;
            }
        }
    }
    // Without the room that was left.
    let events = Bytes::copy_from_slice(&out);
    Some(News { before, after, told, events })
}
