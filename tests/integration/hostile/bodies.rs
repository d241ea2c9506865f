//! Request bodies that are not valid JSON, or valid JSON with hostile content.

use super::wire::{json, request};
use super::{Case, case, check_cases, registered_services};
use crate::support::{Rollcall, namespace};

const LEASE: &str = "lease.durationSeconds";

/// A registration with additional fields.
fn with_fields(fields: &str) -> String {
    format!(r#"{{"service": "orders", "addresses": ["10.0.0.7"]{fields}}}"#)
}

/// A PUT of an instance.
fn put(body: impl AsRef<[u8]>) -> Vec<u8> {
    json("PUT", "/v1/namespaces/NS/instances/a", body)
}

/// Requests with this value in each numeric field.
fn with_number(value: &str) -> Vec<(&'static str, Vec<u8>)> {
    let lease = format!(r#"{{"durationSeconds": {value}}}"#);
    let fields = [
        ("weight", format!(r#", "weight": {value}"#)),
        ("priority", format!(r#", "priority": {value}"#)),
        ("ports[0].port", format!(r#", "ports": [{{"name": "a", "port": {value}}}]"#)),
        (LEASE, format!(r#", "lease": {{"durationSeconds": {value}}}"#)),
        ("lease.evictAfterSeconds", format!(r#", "lease": {{"evictAfterSeconds": {value}}}"#)),
    ];
    let puts = fields.map(|(field, more)| (field, put(with_fields(&more))));
    let renewal = json("PUT", "/v1/namespaces/NS/instances/a/lease", lease);
    puts.into_iter().chain([("durationSeconds", renewal)]).collect()
}

fn numbers() -> Vec<Case> {
    let digits = "9".repeat(50_000);
    let fraction = format!("0.{}", "1".repeat(50_000));
    let values = [
        ("1e999", 422, "too large"),
        ("-1e999", 422, "too large"),
        (digits.as_str(), 422, "too large"),
        (fraction.as_str(), 422, "whole number"),
        ("-0.5", 422, "whole number"),
        // A number without a fraction is an integer, in any notation.
        ("1e9", 422, "must be a number"),
        ("99999999999999999999999999", 422, "must be a number"),
        ("18446744073709551615", 422, "must be a number"),
        ("-9223372036854775808", 422, "must be a number"),
        ("-1", 422, "must be a number"),
        ("true", 422, "whole number"),
        ("01", 400, "invalid JSON"),
        ("+1", 400, "invalid JSON"),
        ("NaN", 400, "invalid JSON"),
    ];
    let mut cases = Vec::new();
    for (value, status, detail) in values {
        for (field, request) in with_number(value) {
            let excerpt: String = value.chars().take(30).collect();
            cases.push(case(&format!("{field}: {excerpt}"), request, (status, field, detail)));
        }
    }
    let million = format!(r#"{{"instances": [{{"weight": {}}}]}}"#, "7".repeat(1_000_000));
    let field = "instances[0].weight";
    let expected = (422, field, "too large");
    cases.push(case("a million digits", json("POST", "/v1/instances", million), expected));
    cases
}

fn strings() -> Vec<Case> {
    let mut cases = Vec::new();
    let not_utf8: [(&str, &[u8]); 5] = [
        ("an overlong slash", b"\xc0\xaf"),
        ("an overlong NUL", b"\xc0\x80"),
        ("a truncated character", b"\xe2\x82"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("a code point beyond Unicode", b"\xf4\x90\x80\x80"),
    ];
    for (name, bytes) in not_utf8 {
        let body = [b"{\"service\": \"a", bytes, b"\"}"].concat();
        cases.push(case(name, put(body), (400, "", "UTF-8")));
    }
    for escape in [r"\ud800", r"\udfff", r"\ud800A", r"\ud800\u0041", r"\x41", r"\u12"] {
        let body = with_fields(&format!(r#", "version": "{escape}""#));
        cases.push(case(escape, put(body), (400, "version", "invalid JSON")));
    }
    for control in ["\0", "\n", "\x1b"] {
        let name = format!("{control:?} unescaped");
        let body = with_fields(&format!(", \"zone\": \"a{control}\""));
        cases.push(case(&name, put(body), (400, "zone", "control character")));
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
        cases.push(case(more, put(with_fields(more)), (422, field, "must")));
    }
    let body = r#"{"service": "a\u0000", "addresses": ["10.0.0.7\u0000"]}"#;
    cases.push(case("NUL", put(body), (422, "service", "DNS label")));
    cases.push(case("NUL", put(body), (422, "addresses[0]", "IPv4")));
    cases.push(case(
        "a BOM",
        put(format!("\u{feff}{}", with_fields(""))),
        (400, "", "invalid JSON"),
    ));
    let utf16: Vec<u8> = with_fields("").encode_utf16().flat_map(u16::to_be_bytes).collect();
    cases.push(case("UTF-16", put(utf16), (400, "", "invalid JSON")));
    cases
}

fn keys() -> Vec<Case> {
    let key = "k".repeat(60 * 1024);
    let cut = format!("{}…", "k".repeat(256));
    let of_attributes = format!("attributes.{}…", "k".repeat(256 - "attributes.".len()));
    let of_labels = format!("labels.{}…", "k".repeat(256 - "labels.".len()));
    let put_with = |more: String| put(with_fields(&more));
    vec![
        case("a long key", put_with(format!(r#", "{key}": 1"#)), (422, &cut, "unknown field")),
        case(
            "a long key of attributes",
            put_with(format!(r#", "attributes": {{"{key}": "a"}}"#)),
            (422, &of_attributes, "the key must"),
        ),
        case(
            "a long key of labels",
            put_with(format!(r#", "labels": {{"{key}": "a"}}"#)),
            (422, &of_labels, "the key must"),
        ),
        case(
            "a long value",
            put_with(format!(r#", "weight": "{key}""#)),
            (422, "weight", "whole number"),
        ),
        case(
            "a key that looks like the text of an error",
            put_with(r#", "a`, expected x": 1"#.to_owned()),
            (422, "a`, expected x", "unknown field; expected one of namespace"),
        ),
    ]
}

/// Duplicate keys at each level.
fn duplicate_keys() -> Vec<Case> {
    let put_with = |more: &str| put(with_fields(more));
    let beats =
        |beat: &str| json("POST", "/v1/heartbeats", format!(r#"{{"instances": [{beat}]}}"#));
    vec![
        case("service", put(r#"{"service": "a", "service": "b"}"#), (422, "service", "twice")),
        case(
            "ports[0].port",
            put_with(r#", "ports": [{"name": "a", "port": 1, "port": 2}]"#),
            (422, "ports[0].port", "twice"),
        ),
        case(
            "lease.mode",
            put_with(r#", "lease": {"mode": "Heartbeat", "mode": "Permanent"}"#),
            (422, "lease.mode", "twice"),
        ),
        case(
            "attributes.a",
            put_with(r#", "attributes": {"a": "1", "\u0061": "2"}"#),
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
    let long_list = |field: &str, count: usize, item: &str| {
        with_fields(&format!(r#", "{field}": [{}]"#, vec![item; count].join(",")))
    };
    let many_entries = |field: &str| {
        let entries: Vec<String> = (0..3_000).map(|at| format!(r#""k{at}": """#)).collect();
        with_fields(&format!(r#", "{field}": {{{}}}"#, entries.join(",")))
    };
    vec![
        case("nested lists", batch(deep("[", "]", 100_000)), (422, "instances[0]", "an object")),
        case(
            "nested objects",
            batch(deep("{\"a\":", "}", 100_000)),
            (422, "instances[0].a", "unknown"),
        ),
        case("unclosed lists", batch("[".repeat(100_000)), (422, "instances[0]", "an object")),
        case("nested lists as the body", put(deep("[", "]", 30_000)), (422, "", "an object")),
        case(
            "nested lists as a string",
            put(with_fields(&format!(r#", "zone": {}"#, deep("[", "]", 20_000)))),
            (422, "zone", "a string"),
        ),
        case(
            "nested lists after the last tag",
            put(with_fields(&tags)),
            (422, "tags", "at most 32"),
        ),
        case("many ports", put(long_list("ports", 6_000, "{}")), (422, "ports", "at most 32")),
        case("many tags", put(long_list("tags", 12_000, "\"\"")), (422, "tags", "at most 32")),
        case("many attributes", put(many_entries("attributes")), (422, "attributes", "at most 64")),
        case("many labels", put(many_entries("labels")), (422, "labels", "at most 128")),
        case(
            "many attributes in a patch",
            json("PATCH", "/v1/namespaces/NS/instances/a/attributes", {
                let entries: Vec<String> =
                    (0..3_000).map(|at| format!(r#""k{at}": null"#)).collect();
                format!("{{{}}}", entries.join(","))
            }),
            (422, "", "at most 128"),
        ),
        case("null", put("null"), (422, "", "an object")),
        case("two bodies", put(with_fields("") + &with_fields("")), (400, "", "trailing")),
    ]
}

fn codings() -> Vec<Case> {
    let coded = |coding: &str, body: &[u8]| {
        let headers = format!("content-type: application/json\r\ncontent-encoding: {coding}\r\n");
        request("PUT", "/v1/namespaces/NS/instances/a", &headers, body)
    };
    // The beginning of a registration compressed with gzip.
    let zipped = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xabV*N-*\xcbLNU\xb2";
    let mut cases: Vec<_> = ["gzip", "deflate", "br", "zstd", "gzip, gzip", "GZIP", "x"]
        .iter()
        .map(|coding| {
            case(coding, coded(coding, zipped), (415, "Content-Encoding", "without compression"))
        })
        .collect();
    cases.push(case("gzip without Content-Encoding", put(zipped), (400, "", "UTF-8")));
    for kind in
        ["application/jsonp", "text/plain; application/json", "application/json, text/html", ""]
    {
        let headers = format!("content-type: {kind}\r\n");
        let request = request("PUT", "/v1/namespaces/NS/instances/a", &headers, with_fields(""));
        cases.push(case(kind, request, (415, "Content-Type", "application/json")));
    }
    cases
}

#[tokio::test]
async fn invalid_body_is_refused_with_its_field_and_registers_nothing() {
    let ns = namespace("hostile-bodies").await;
    let rollcall = Rollcall::start(&ns).await;
    let cases = [numbers(), strings(), keys(), duplicate_keys(), depths(), codings()];
    let with_namespace = cases.into_iter().flatten().map(|case| {
        let position = case.request.windows(3).position(|window| window == b"/NS");
        let Some(at) = position.filter(|at| *at < 40) else { return case };
        let request = [&case.request[..=at], ns.name.as_bytes(), &case.request[at + 3..]].concat();
        Case { request, ..case }
    });
    check_cases(rollcall.http, with_namespace.collect()).await;
    assert_eq!(registered_services(&rollcall, &ns).await, [""; 0]);
}
