//! Names of headers of our own.

use hyper::header::HeaderName;

pub(super) const REPLICA: HeaderName = HeaderName::from_static("rollcall-replica");
pub(super) const INDEX: HeaderName = HeaderName::from_static("rollcall-index");
pub(super) const INDEX_RESET: HeaderName = HeaderName::from_static("rollcall-index-reset");
pub(super) const AGE: HeaderName = HeaderName::from_static("rollcall-age");
/// What a patch may be (RFC 5789 §3.1), on every answer of the route that takes one.
pub(super) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
pub(super) const STALE: HeaderName = HeaderName::from_static("rollcall-stale");

/// How many headers an answer has: those of every answer, with those of the answer itself and those that hyper adds (length, date).
pub(super) const USUAL: usize = 10;
