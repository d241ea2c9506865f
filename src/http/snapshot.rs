//! `GET /v1/snapshot`: every instance, whatever its phase, a line each.
//!
//! Owns: the body, which is made while it is read: what it holds meanwhile are views that there are
//! anyway. Does not own: an instance's JSON (`encode`).

use std::{fmt, sync::Arc};

use bytes::{Bytes, BytesMut};
use hyper::header::CACHE_CONTROL;
use rollcall_model::view::View;

use crate::http::{
    answer::{Answer, PIECE},
    door::{Door, Given},
    encode, query,
    served::{ServedMember, ServedView},
};

/// `GET /v1/snapshot`
pub(super) fn snapshot(door: &Arc<Door>, query: Option<&str>) -> Given {
    query::none(query)?;
    let mut views = door.inbox.directory().all_services(None);
    views.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let views = views.into_iter();
    let lines = Snapshot { door: door.clone(), views, view: None, served: None, next: 0 };
    Ok(Answer::lines(lines).with_static(CACHE_CONTROL, "no-store"))
}

/// What is left to be written.
pub(super) struct Snapshot {
    door: Arc<Door>,
    views: std::vec::IntoIter<Arc<View>>,
    view: Option<Arc<View>>,
    /// What is kept beside `view`, if it was read before: what was not encoded yet is not kept, or all of a registry
    /// would be in memory twice.
    served: Option<Arc<ServedView>>,
    /// Of the members of `view`.
    next: usize,
}

impl Snapshot {
    /// The next lines; none when all are written.
    pub(super) fn write(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        while out.len() < PIECE {
            let member = self.view.as_ref().and_then(|view| view.members.get(self.next));
            match member {
                Some(member) => {
                    let served = self.served.as_ref().and_then(|it| it.members.get(self.next));
                    match served.and_then(ServedMember::known_json) {
                        Some(json) => out.extend_from_slice(json),
                        None => out.extend_from_slice(&encode::member(member, &self.door.zone)),
                    }
                    out.extend_from_slice(b"\n");
                    self.next += 1;
                }
                None => match self.views.next() {
                    Some(view) => {
                        self.served = self.door.views.known(&view);
                        (self.view, self.next) = (Some(view), 0);
                    }
                    None => break,
                },
            }
        }
        (!out.is_empty()).then(|| out.freeze())
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a snapshot")
    }
}
