//! Server-Sent Events as bytes.
//!
//! Source: WHATWG HTML §9.2. Owns: the format of each event, and of the id with which a client resumes. Does not own:
//! which events are sent (`difference`) and when (`change_feed`).
//!
//! An event consists of lines and a blank line. When several events together lead from one set to the next, only the
//! last has an id: a client that is disconnected in between resumes with the previous id and gets everything.

use bytes::{Bytes, BytesMut};
use rollcall_model::{instance::ServiceKey, view::Revision};

/// A comment that keeps proxies from closing a quiet stream. No blank line follows it, because many clients would
/// interpret that as an empty event.
pub(super) const KEEP_ALIVE: &[u8] = b": alive\n";

/// How many milliseconds a client should wait before it reconnects. This is the first line of the first event.
pub(super) fn retry(out: &mut BytesMut, millis: u32) {
    put(out, &["retry: ", &millis.to_string(), "\n"]);
}

/// The beginning of a `snapshot`; its members follow, then [`snapshot_end`]. The names of services and namespaces are
/// DNS labels and need no escaping.
pub(super) fn snapshot_begin(out: &mut BytesMut, key: &ServiceKey, revision: Revision) {
    put(out, &["event: snapshot\ndata: {\"namespace\":\"", &key.namespace]);
    put(out, &["\",\"service\":\"", &key.service]);
    put(out, &["\",\"revision\":\"", &revision.to_string(), "\",\"instances\":["]);
}

pub(super) fn snapshot_member(out: &mut BytesMut, encoded: &Bytes, is_first: bool) {
    put(out, &[if is_first { "" } else { "," }]);
    out.extend_from_slice(encoded);
}

/// The end of a `snapshot`; [`end_event`] follows.
pub(super) fn snapshot_end(out: &mut BytesMut) {
    put(out, &["]}\n"]);
}

/// An `upsert`: the instance, and the revision of the set after it; [`end_event`] follows.
pub(super) fn upsert(out: &mut BytesMut, encoded: &Bytes, revision: Revision) {
    put(out, &["event: upsert\ndata: {\"revision\":\"", &revision.to_string(), "\","]);
    // `encoded` is a JSON object that is never empty.
    out.extend_from_slice(encoded.get(1..).unwrap_or_default());
    put(out, &["\n"]);
}

/// A `remove`; [`end_event`] follows. The name is a DNS subdomain and needs no escaping.
pub(super) fn remove(out: &mut BytesMut, key: &ServiceKey, name: &str, revision: Revision) {
    put(out, &["event: remove\ndata: {\"namespace\":\"", &key.namespace]);
    put(out, &["\",\"service\":\"", &key.service, "\",\"name\":\"", name]);
    put(out, &["\",\"revision\":\"", &revision.to_string(), "\"}\n"]);
}

/// The end of an event. The id represents everything that the client knows after this event.
pub(super) fn end_event(out: &mut BytesMut, id: Option<&str>) {
    if let Some(id) = id {
        put(out, &["id: ", id, "\n"]);
    }
    put(out, &["\n"]);
}

/// The id with which a client resumes: the revision of each service, in the order of the request.
pub(super) fn event_id(revisions: impl Iterator<Item = Revision>) -> String {
    let revisions: Vec<_> = revisions.map(|revision| revision.to_string()).collect();
    revisions.join(",")
}

fn put(out: &mut BytesMut, parts: &[&str]) {
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The lines of an event, and its parsed data.
    fn parse(out: &BytesMut) -> (Vec<&str>, Value) {
        let text = std::str::from_utf8(out).unwrap();
        assert!(text.ends_with("\n\n") && text.matches("\n\n").count() == 1, "{text}");
        let lines: Vec<_> = text.trim_end().lines().collect();
        let data = lines.iter().find_map(|line| line.strip_prefix("data: ")).unwrap();
        (lines.clone(), serde_json::from_str(data).unwrap())
    }

    #[test]
    fn every_event_has_json_in_one_data_line() {
        let (key, revision) = (ServiceKey::new("shop", "orders"), Revision(7));
        let encoded = Bytes::from_static(b"{\"name\":\"orders-1\"}");
        for count in 0..3 {
            let mut out = BytesMut::new();
            snapshot_begin(&mut out, &key, revision);
            (0..count).for_each(|at| snapshot_member(&mut out, &encoded, at == 0));
            snapshot_end(&mut out);
            end_event(&mut out, Some("0000000000000007"));
            let (lines, data) = parse(&out);
            assert_eq!((lines[0], lines[2]), ("event: snapshot", "id: 0000000000000007"));
            assert_eq!(data["revision"], "0000000000000007");
            assert_eq!(data["instances"].as_array().unwrap().len(), count);
        }
        let mut out = BytesMut::new();
        upsert(&mut out, &encoded, revision);
        end_event(&mut out, None);
        let (lines, data) = parse(&out);
        assert_eq!((lines.len(), lines[0]), (2, "event: upsert"));
        assert_eq!(data, json!({"revision": "0000000000000007", "name": "orders-1"}));
        let mut out = BytesMut::new();
        remove(&mut out, &key, "orders.1", revision);
        end_event(&mut out, None);
        let expected = json!({"namespace": "shop", "service": "orders", "name": "orders.1",
                              "revision": "0000000000000007"});
        let (lines, data) = parse(&out);
        assert_eq!((lines.len(), lines[0], data), (2, "event: remove", expected));
    }

    #[test]
    fn an_id_lists_the_revisions_in_the_order_of_the_request() {
        let revisions = [Revision(10), Revision(2)];
        assert_eq!(event_id(revisions.into_iter()), "000000000000000a,0000000000000002");
    }
}
