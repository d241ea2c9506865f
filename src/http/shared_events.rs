//! Events that are shared by all watches of exactly one service without a filter.
//!
//! Owns: the events that lead from one view to the next, encoded once for each view and stored with it, so that each of
//! a thousand subscribers costs little more than its write. Does not own: the events of watches of several services or
//! with a filter, of a watch that missed a view, and of a watch whose service is gone: these are encoded for each watch
//! (`change_feed`).

use bytes::{Bytes, BytesMut};
use rollcall_model::{instance::ServiceKey, view::Revision};

use crate::http::{
    difference::{self, MemberChange},
    encoded_views::{EncodedView, SharedEvents},
    events,
};

/// The maximum number of bytes that are stored: changes of about eight instances. They are stored until the service
/// changes again, whether it still has watches or not: for 10,000 services 40 MB at most, and 5 MB if one instance
/// changed in each.
const MAX_STORED: usize = 4 * 1024;

/// The events that lead to `view` from the view that a client knows, whose discoverable members have this revision.
/// `None` when they must be encoded for this client.
pub(super) fn between<'a>(
    known: Option<&EncodedView>,
    revision: Revision,
    view: &'a EncodedView,
    zone: &str,
) -> Option<&'a SharedEvents> {
    if revision != view.before {
        return None;
    }
    view.shared_events.get_or_init(|| encode(known, view, zone)).as_ref()
}

/// Writes one change as an event, without its end ([`events::end_event`]).
pub(super) fn write_change(
    out: &mut BytesMut,
    change: &MemberChange,
    key: &ServiceKey,
    revision: Revision,
    zone: &str,
) {
    match change {
        MemberChange::Upsert(member) => events::upsert(out, member.json(zone), revision),
        MemberChange::Remove(member) => events::remove(out, key, &member.facts.key.name, revision),
    }
}

/// `None` when the events are too long to be stored.
fn encode(known: Option<&EncodedView>, view: &EncodedView, zone: &str) -> Option<SharedEvents> {
    let (mut out, mut count) = (BytesMut::new(), 0);
    let revision = view.discoverable_revision;
    if view.before != revision {
        let known: Vec<_> = known.map(|known| known.discoverable().collect()).unwrap_or_default();
        let discoverable: Vec<_> = view.discoverable().collect();
        let changes = difference::between(&known, &discoverable);
        let id = events::event_id([revision].into_iter());
        count = changes.len();
        for (at, change) in changes.iter().enumerate() {
            write_change(&mut out, change, &view.key, revision, zone);
            events::end_event(&mut out, (at + 1 == count).then_some(&*id));
            if out.len() > MAX_STORED {
                return None;
            }
        }
    }
    // Copied, so that the stored bytes have no unused capacity.
    Some(SharedEvents { count, events: Bytes::copy_from_slice(&out) })
}
