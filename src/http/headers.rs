//! The names of response headers.

use hyper::header::HeaderName;

pub(super) const REPLICA: HeaderName = HeaderName::from_static("rollcall-replica");
pub(super) const INDEX: HeaderName = HeaderName::from_static("rollcall-index");
pub(super) const INDEX_RESET: HeaderName = HeaderName::from_static("rollcall-index-reset");
pub(super) const AGE: HeaderName = HeaderName::from_static("rollcall-age");
/// The media types of a patch (RFC 5789 §3.1), in every response of the route that accepts patches.
pub(super) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
pub(super) const STALE: HeaderName = HeaderName::from_static("rollcall-stale");

/// The usual number of headers in a response: those of every response, those of the operation, and those that hyper
/// adds (length, date).
pub(super) const USUAL_COUNT: usize = 10;
