//! What is told to all who follow one service and nothing else.
//!
//! Owns: the events that lead from one view to the next, made once for each view and kept beside it, so that of a
//! thousand subscribers each costs little more than its write. Does not own: what is told to whoever follows several
//! services, or some of one. Who missed a view, or whose service is gone, is told of that alone, too (`follow`).

use bytes::{Bytes, BytesMut};
use rollcall_model::{instance::ServiceKey, view::Revision};

use crate::http::{
    difference::{self, Change},
    events,
    served::{News, ServedView},
};

/// The most that is kept, in octets: changes of some eight instances. It stays until the service changes again, whether or not anybody
/// follows it still: of 10,000 services 40 MB at worst, and 5 where one instance changed in each.
const MOST_KEPT: usize = 4 * 1024;

/// What leads to `view` from the one that a client knows, of which the discoverable ones have this revision; none when it
/// has to be made for this client alone.
pub(super) fn between<'a>(
    known: Option<&ServedView>,
    revision: Revision,
    view: &'a ServedView,
    zone: &str,
) -> Option<&'a News> {
    if revision != view.before {
        return None;
    }
    view.news.get_or_init(|| make(known, view, zone)).as_ref()
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
        Change::Upsert(member) => events::upsert(out, member.json(zone), revision),
        Change::Remove(member) => events::remove(out, key, &member.facts.key.name, revision),
    }
}

/// The news of a view; none when they are too long to be kept.
fn make(known: Option<&ServedView>, view: &ServedView, zone: &str) -> Option<News> {
    let (mut out, mut count) = (BytesMut::new(), 0);
    let revision = view.discoverable_revision;
    if view.before != revision {
        let known: Vec<_> = known.map(|known| known.discoverable().collect()).unwrap_or_default();
        let discoverable: Vec<_> = view.discoverable().collect();
        let changes = difference::between(&known, &discoverable);
        let id = events::id([revision].into_iter());
        count = changes.len();
        for (at, change) in changes.iter().enumerate() {
            tell(&mut out, change, &view.key, revision, zone);
            events::close(&mut out, (at + 1 == count).then_some(&*id));
            if out.len() > MOST_KEPT {
                return None;
            }
        }
    }
    // Without the room that was left.
    Some(News { count, events: Bytes::copy_from_slice(&out) })
}
