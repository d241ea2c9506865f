//! Server-Sent Events as bytes.
//!
//! Source: WHATWG HTML §9.2. Owns: the shape of each event and of the id by which a client goes on where it was.
//! Does not own: which events there are (`difference`) and when they are sent (`follow`).
//!
//! An event is its lines and a blank one. Of several that lead together from one set to the next only the last bears
//! an id: whoever was cut off among them comes back with the id of before, and gets everything.

use bytes::{Bytes, BytesMut};
use rollcall_model::{instance::ServiceKey, view::Revision};

/// Keeps proxies from taking a quiet stream for a dead one. Without a blank line of its own: of one many clients make an event
/// that is empty.
pub(super) const ALIVE: &[u8] = b": alive\n";

/// How long a client should wait before it connects again, in milliseconds: the first line of the first event, whenever
/// that comes.
pub(super) fn retry(out: &mut BytesMut, millis: u32) {
    put(out, &["retry: ", &millis.to_string(), "\n"]);
}

/// The beginning of a `snapshot`; its members follow, then [`snapshot_end`]. Names of services and namespaces are DNS
/// labels, and need no escaping.
pub(super) fn snapshot_begin(out: &mut BytesMut, key: &ServiceKey, revision: Revision) {
    put(out, &["event: snapshot\ndata: {\"namespace\":\"", &key.namespace]);
    put(out, &["\",\"service\":\"", &key.service]);
    put(out, &["\",\"revision\":\"", &revision.to_string(), "\",\"instances\":["]);
}

/// One of its members.
pub(super) fn snapshot_member(out: &mut BytesMut, encoded: &Bytes, is_first: bool) {
    put(out, &[if is_first { "" } else { "," }]);
    out.extend_from_slice(encoded);
}

/// Its end, but for [`close`].
pub(super) fn snapshot_end(out: &mut BytesMut) {
    put(out, &["]}\n"]);
}

/// An `upsert`, but for [`close`]: the instance, and the revision to which it leads.
pub(super) fn upsert(out: &mut BytesMut, encoded: &Bytes, revision: Revision) {
    put(out, &["event: upsert\ndata: {\"revision\":\"", &revision.to_string(), "\","]);
    // It is an object, and never an empty one.
    out.extend_from_slice(encoded.get(1..).unwrap_or_default());
    put(out, &["\n"]);
}

/// A `remove`, but for [`close`]. The name is a DNS subdomain, and needs no escaping.
pub(super) fn remove(out: &mut BytesMut, key: &ServiceKey, name: &str, revision: Revision) {
    put(out, &["event: remove\ndata: {\"namespace\":\"", &key.namespace]);
    put(out, &["\",\"service\":\"", &key.service, "\",\"name\":\"", name]);
    put(out, &["\",\"revision\":\"", &revision.to_string(), "\"}\n"]);
}

/// The end of an event, with the id of all that the client knows then, if it is to have one.
pub(super) fn close(out: &mut BytesMut, id: Option<&str>) {
    if let Some(id) = id {
        put(out, &["id: ", id, "\n"]);
    }
    put(out, &["\n"]);
}

/// What a client knows, as it will say it: the revision of each service, in the order asked.
pub(super) fn id(revisions: impl Iterator<Item = Revision>) -> String {
    let words: Vec<_> = revisions.map(|revision| revision.to_string()).collect();
    words.join(",")
}

fn put(out: &mut BytesMut, parts: &[&str]) {
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The lines of an event, and what its data says.
    fn read(out: &BytesMut) -> (Vec<&str>, Value) {
        let text = std::str::from_utf8(out).unwrap();
        assert!(text.ends_with("\n\n") && text.matches("\n\n").count() == 1, "{text}");
        let lines: Vec<_> = text.trim_end().lines().collect();
        let data = lines.iter().find_map(|line| line.strip_prefix("data: ")).unwrap();
        (lines.clone(), serde_json::from_str(data).unwrap())
    }

    #[test]
    fn every_event_is_lines_with_json_on_one_of_them() {
        let (key, revision) = (ServiceKey::new("shop", "orders"), Revision(7));
        let encoded = Bytes::from_static(b"{\"name\":\"orders-1\"}");
        for count in 0..3 {
            let mut out = BytesMut::new();
            snapshot_begin(&mut out, &key, revision);
            (0..count).for_each(|at| snapshot_member(&mut out, &encoded, at == 0));
            snapshot_end(&mut out);
            close(&mut out, Some("0000000000000007"));
            let (lines, data) = read(&out);
            assert_eq!((lines[0], lines[2]), ("event: snapshot", "id: 0000000000000007"));
            assert_eq!(data["revision"], "0000000000000007");
            assert_eq!(data["instances"].as_array().unwrap().len(), count);
        }
        let mut out = BytesMut::new();
        upsert(&mut out, &encoded, revision);
        close(&mut out, None);
        let (lines, data) = read(&out);
        assert_eq!((lines.len(), lines[0]), (2, "event: upsert"));
        assert_eq!(data, json!({"revision": "0000000000000007", "name": "orders-1"}));
        let mut out = BytesMut::new();
        remove(&mut out, &key, "orders.1", revision);
        close(&mut out, None);
        let expected = json!({"namespace": "shop", "service": "orders", "name": "orders.1",
                              "revision": "0000000000000007"});
        let (lines, data) = read(&out);
        assert_eq!((lines.len(), lines[0], data), (2, "event: remove", expected));
    }

    #[test]
    fn an_id_is_the_revisions_in_the_order_asked() {
        let revisions = [Revision(10), Revision(2)];
        assert_eq!(id(revisions.into_iter()), "000000000000000a,0000000000000002");
    }
}
