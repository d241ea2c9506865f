//! Bodies that are JSON in name only, or JSON that nobody would write.

use super::wire::{json, request};
use super::{Case, case, hold, registered};
use crate::support::{Rollcall, namespace};

const LEASE: &str = "lease.durationSeconds";

/// A registration with further fields.
fn with(fields: &str) -> String {
    format!(r#"{{"service": "orders", "addresses": ["10.0.0.7"]{fields}}}"#)
}

/// A PUT of an instance.
fn put(body: impl AsRef<[u8]>) -> Vec<u8> {
    json("PUT", "/v1/namespaces/NS/instances/a", body)
}

/// Every field that is a number, with a value in it.
fn number(value: &str) -> Vec<(&'static str, Vec<u8>)> {
    let lease = format!(r#"{{"durationSeconds": {value}}}"#);
    let fields = [
        ("weight", format!(r#", "weight": {value}"#)),
        ("priority", format!(r#", "priority": {value}"#)),
        ("ports[0].port", format!(r#", "ports": [{{"name": "a", "port": {value}}}]"#)),
        (LEASE, format!(r#", "lease": {{"durationSeconds": {value}}}"#)),
        ("lease.evictAfterSeconds", format!(r#", "lease": {{"evictAfterSeconds": {value}}}"#)),
    ];
    let puts = fields.map(|(field, more)| (field, put(with(&more))));
    let renewal = json("PUT", "/v1/namespaces/NS/instances/a/lease", lease);
    puts.into_iter().chain([("durationSeconds", renewal)]).collect()
}

fn numbers() -> Vec<Case> {
    let digits = "9".repeat(50_000);
    let fraction = format!("0.{}", "1".repeat(50_000));
    let values = [
        ("1e999", 422, "beyond all bounds"),
        ("-1e999", 422, "beyond all bounds"),
        (digits.as_str(), 422, "beyond all bounds"),
        (fraction.as_str(), 422, "whole number"),
        ("-0.5", 422, "whole number"),
        // A number without a fraction is a whole one, however it is written.
        ("1e9", 422, "must be a number"),
        ("99999999999999999999999999", 422, "must be a number"),
        ("18446744073709551615", 422, "must be a number"),
        ("-9223372036854775808", 422, "must be a number"),
        ("-1", 422, "must be a number"),
        ("true", 422, "whole number"),
        ("01", 400, "no JSON"),
        ("+1", 400, "no JSON"),
        ("NaN", 400, "no JSON"),
    ];
    let mut cases = Vec::new();
    for (value, status, says) in values {
        for (field, request) in number(value) {
            let shown: String = value.chars().take(30).collect();
            cases.push(case(&format!("{field}: {shown}"), request, (status, field, says)));
        }
    }
    let million = format!(r#"{{"instances": [{{"weight": {}}}]}}"#, "7".repeat(1_000_000));
    let field = "instances[0].weight";
    let want = (422, field, "beyond all bounds");
    cases.push(case("a million digits", json("POST", "/v1/instances", million), want));
    cases
}

fn strings() -> Vec<Case> {
    let mut cases = Vec::new();
    let not_utf8: [(&str, &[u8]); 5] = [
        ("an overlong slash", b"\xc0\xaf"),
        ("an overlong NUL", b"\xc0\x80"),
        ("a truncated sign", b"\xe2\x82"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("beyond Unicode", b"\xf4\x90\x80\x80"),
    ];
    for (what, octets) in not_utf8 {
        let body = [b"{\"service\": \"a", octets, b"\"}"].concat();
        cases.push(case(what, put(body), (400, "", "UTF-8")));
    }
    for escape in [r"\ud800", r"\udfff", r"\ud800A", r"\ud800\u0041", r"\x41", r"\u12"] {
        let body = with(&format!(r#", "version": "{escape}""#));
        cases.push(case(escape, put(body), (400, "version", "no JSON")));
    }
    for control in ["\0", "\n", "\x1b"] {
        let what = format!("{control:?} as it is");
        let body = with(&format!(", \"zone\": \"a{control}\""));
        cases.push(case(&what, put(body), (400, "zone", "control character")));
    }
    for (field, more) in [
        ("version", r#", "version": "1\u0000""#),
        ("zone", r#", "zone": "\u0007""#),
        ("tags[1]", r#", "tags": ["a", "b\u001b[2J"]"#),
        ("attributes.\0", r#", "attributes": {"\u0000": "a"}"#),
        ("labels.a\u{7f}", r#", "labels": {"a\u007f": "b"}"#),
        ("labels.a", r#", "labels": {"a": "\u0000"}"#),
        ("ports[0].name", r#", "ports": [{"name": "a\u0000", "port": 1}]"#),
        ("ports[0].appProtocol", r#", "ports": [{"name": "a", "port": 1, "appProtocol": "\n"}]"#),
        ("health", r#", "health": "Passing\u0000""#),
        ("lease.mode", r#", "lease": {"mode": "Heartbeat\u0000"}"#),
    ] {
        cases.push(case(more, put(with(more)), (422, field, "must")));
    }
    let body = r#"{"service": "a\u0000", "addresses": ["10.0.0.7\u0000"]}"#;
    cases.push(case("NUL", put(body), (422, "service", "DNS label")));
    cases.push(case("NUL", put(body), (422, "addresses[0]", "IPv4")));
    cases.push(case("a BOM", put(format!("\u{feff}{}", with(""))), (400, "", "no JSON")));
    let utf16: Vec<u8> = with("").encode_utf16().flat_map(u16::to_be_bytes).collect();
    cases.push(case("UTF-16", put(utf16), (400, "", "no JSON")));
    cases
}

fn keys() -> Vec<Case> {
    let key = "k".repeat(60 * 1024);
    let cut = format!("{}…", "k".repeat(256));
    let of_attributes = format!("attributes.{}…", "k".repeat(256 - "attributes.".len()));
    let of_labels = format!("labels.{}…", "k".repeat(256 - "labels.".len()));
    let one = |more: String| put(with(&more));
    vec![
        case("a long key", one(format!(r#", "{key}": 1"#)), (422, &cut, "unknown field")),
        case(
            "a long key of attributes",
            one(format!(r#", "attributes": {{"{key}": "a"}}"#)),
            (422, &of_attributes, "a key must"),
        ),
        case(
            "a long key of labels",
            one(format!(r#", "labels": {{"{key}": "a"}}"#)),
            (422, &of_labels, "a key must"),
        ),
        case(
            "a long value",
            one(format!(r#", "weight": "{key}""#)),
            (422, "weight", "whole number"),
        ),
        case(
            "a key that looks like the end of a sentence",
            one(r#", "a`, expected x": 1"#.to_owned()),
            (422, "a`, expected x", "unknown field; expected one of namespace"),
        ),
    ]
}

/// The same key twice, at each level.
fn twice() -> Vec<Case> {
    let one = |more: &str| put(with(more));
    let beats =
        |beat: &str| json("POST", "/v1/heartbeats", format!(r#"{{"instances": [{beat}]}}"#));
    vec![
        case("service", put(r#"{"service": "a", "service": "b"}"#), (422, "service", "twice")),
        case(
            "ports[0].port",
            one(r#", "ports": [{"name": "a", "port": 1, "port": 2}]"#),
            (422, "ports[0].port", "twice"),
        ),
        case(
            "lease.mode",
            one(r#", "lease": {"mode": "Heartbeat", "mode": "Permanent"}"#),
            (422, "lease.mode", "twice"),
        ),
        case(
            "attributes.a",
            one(r#", "attributes": {"a": "1", "\u0061": "2"}"#),
            (422, "attributes.a", "twice"),
        ),
        case(
            "instances",
            json("POST", "/v1/heartbeats", r#"{"instances": [], "instances": []}"#),
            (422, "instances", "twice"),
        ),
        case(
            "instances[0].name",
            beats(r#"{"namespace": "a", "name": "b", "name": "c"}"#),
            (422, "instances[0].name", "twice"),
        ),
        case(
            "health",
            json(
                "PUT",
                "/v1/namespaces/NS/instances/a/heartbeat",
                r#"{"health": "Passing", "health": "Critical"}"#,
            ),
            (422, "health", "twice"),
        ),
        case(
            "state",
            json(
                "PUT",
                "/v1/namespaces/NS/instances/a/state",
                r#"{"state": "Up", "state": "Draining"}"#,
            ),
            (422, "state", "twice"),
        ),
    ]
}

fn depths() -> Vec<Case> {
    let deep = |open: &str, close: &str, times: usize| {
        format!("{}1{}", open.repeat(times), close.repeat(times))
    };
    let batch =
        |items: String| json("POST", "/v1/instances", format!(r#"{{"instances": [{items}]}}"#));
    let tags: Vec<String> = (0..32).map(|at| format!("\"t{at}\"")).collect();
    let tags = format!(r#", "tags": [{}, {}]"#, tags.join(","), deep("[", "]", 10_000));
    let longer = |what: &str, count: usize, item: &str| {
        with(&format!(r#", "{what}": [{}]"#, vec![item; count].join(",")))
    };
    let many = |what: &str| {
        let entries: Vec<String> = (0..3_000).map(|at| format!(r#""k{at}": """#)).collect();
        with(&format!(r#", "{what}": {{{}}}"#, entries.join(",")))
    };
    vec![
        case("lists in lists", batch(deep("[", "]", 100_000)), (422, "instances[0]", "an object")),
        case(
            "objects in objects",
            batch(deep("{\"a\":", "}", 100_000)),
            (422, "instances[0].a", "unknown"),
        ),
        case("an open end", batch("[".repeat(100_000)), (422, "instances[0]", "an object")),
        case("lists where a body belongs", put(deep("[", "]", 30_000)), (422, "", "an object")),
        case(
            "lists where a word belongs",
            put(with(&format!(r#", "zone": {}"#, deep("[", "]", 20_000)))),
            (422, "zone", "a string"),
        ),
        case("depth behind the last tag", put(with(&tags)), (422, "tags", "at most 32")),
        case("many ports", put(longer("ports", 6_000, "{}")), (422, "ports", "at most 32")),
        case("many tags", put(longer("tags", 12_000, "\"\"")), (422, "tags", "at most 32")),
        case("many attributes", put(many("attributes")), (422, "attributes", "at most 64")),
        case("many labels", put(many("labels")), (422, "labels", "at most 128")),
        case(
            "many attributes in a patch",
            json("PATCH", "/v1/namespaces/NS/instances/a/attributes", {
                let entries: Vec<String> =
                    (0..3_000).map(|at| format!(r#""k{at}": null"#)).collect();
                format!("{{{}}}", entries.join(","))
            }),
            (422, "", "at most 128"),
        ),
        case("a bare word", put("null"), (422, "", "an object")),
        case("two bodies", put(with("") + &with("")), (400, "", "trailing")),
    ]
}

fn codings() -> Vec<Case> {
    let coded = |coding: &str, body: &[u8]| {
        let headers = format!("content-type: application/json\r\ncontent-encoding: {coding}\r\n");
        request("PUT", "/v1/namespaces/NS/instances/a", &headers, body)
    };
    // `gzip` of a registration, as far as anybody looks.
    let zipped = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xabV*N-*\xcbLNU\xb2";
    let mut cases: Vec<_> = ["gzip", "deflate", "br", "zstd", "gzip, gzip", "GZIP", "x"]
        .iter()
        .map(|coding| {
            case(coding, coded(coding, zipped), (415, "Content-Encoding", "not compressed"))
        })
        .collect();
    cases.push(case("unsaid", put(zipped), (400, "", "UTF-8")));
    for kind in
        ["application/jsonp", "text/plain; application/json", "application/json, text/html", ""]
    {
        let headers = format!("content-type: {kind}\r\n");
        let request = request("PUT", "/v1/namespaces/NS/instances/a", &headers, with(""));
        cases.push(case(kind, request, (415, "Content-Type", "application/json")));
    }
    cases
}

#[tokio::test]
async fn a_body_that_nobody_would_write_is_refused_by_its_field_and_registers_nobody() {
    let ns = namespace("hostile-bodies").await;
    let rollcall = Rollcall::start(&ns).await;
    let cases = [numbers(), strings(), keys(), twice(), depths(), codings()];
    let named = cases.into_iter().flatten().map(|case| {
        let head = case.request.windows(3).position(|window| window == b"/NS");
        let Some(at) = head.filter(|at| *at < 40) else { return case };
        let request = [&case.request[..=at], ns.name.as_bytes(), &case.request[at + 3..]].concat();
        Case { request, ..case }
    });
    hold(rollcall.http, named.collect()).await;
    assert_eq!(registered(&rollcall, &ns).await, [""; 0]);
}
