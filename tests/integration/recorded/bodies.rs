//! Bodies that are refused as a whole: not JSON, of another type, too large, or chunked.

use super::pair::{Pair, instance, json, padded, pair, raw};

const BODY: &str = r#"{"service": "none", "addresses": ["10.0.0.7"]}"#;

pub(super) fn pairs() -> Vec<Pair> {
    let put =
        |name: &str, body: &[u8]| json(format!("body: {name}"), instance("PUT", "none"), body);
    let utf16: Vec<u8> = BODY.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let escape = |escape: &str| format!(r#"{{"service": "none", "version": "{escape}"}}"#);
    let deep = |open: &str, close: &str, times: usize| {
        format!("{}1{}", open.repeat(times), close.repeat(times))
    };
    let mut all = vec![
        put("empty", b""),
        put("blanks", b"  \r\n "),
        put("open", br#"{"service": "#),
        put("an open string", br#"{"service": "a"#),
        put("trailing characters", format!("{BODY}x").as_bytes()),
        put("twice", format!("{BODY}{BODY}").as_bytes()),
        put("a comma at the end", br#"{"service": "a",}"#),
        put("a comment", br#"{/* a */ "service": "a"}"#),
        put("single quotes", b"{'service': 'a'}"),
        put("no quotes", b"{service: 1}"),
        put("NaN", br#"{"weight": NaN}"#),
        put("a leading zero", br#"{"weight": 01}"#),
        put("a leading plus", br#"{"weight": +1}"#),
        put("a list", b"[]"),
        put("null", b"null"),
        put("a number", b"7"),
        put("a string", b"\"a\""),
        put("a byte order mark", format!("\u{feff}{BODY}").as_bytes()),
        put("UTF-16", &utf16),
        put("not UTF-8", b"{\"service\": \"a\xff\"}"),
        put("an overlong slash", b"{\"service\": \"a\xc0\xaf\"}"),
        put("a surrogate", escape(r"\ud800").as_bytes()),
        put("an unknown escape", escape(r"\x41").as_bytes()),
        put("a control character", b"{\"service\": \"a\nb\"}"),
        put("an escaped NUL", escape(r"\u0000").as_bytes()),
        put("deep lists", deep("[", "]", 5_000).as_bytes()),
        put("deep objects", deep("{\"a\":", "}", 5_000).as_bytes()),
        put("deep in a field", format!(r#"{{"zone": {}}}"#, deep("[", "]", 5_000)).as_bytes()),
        put("64 KiB and one byte", padded(BODY, 65_537).as_bytes()),
        put("64 KiB", padded("[]", 65_536).as_bytes()),
        put("1 MiB", &vec![b' '; 1024 * 1024]),
        json(
            "body: a batch of 4 MiB and one byte",
            "POST /v1/heartbeats",
            vec![b' '; 4 * 1024 * 1024 + 1],
        ),
        json(
            "body: a batch of 1 MiB",
            "POST /v1/heartbeats",
            padded(r#"{"instances": []}"#, 1_048_576),
        ),
    ];
    for kind in [
        "application/x-www-form-urlencoded",
        "text/plain; application/json",
        "application/jsonp",
        "application/json, text/html",
        "application/merge-patch+json",
        "application/problem+json",
        "*/*",
        "",
    ] {
        let with = pair(format!("body, content type: {kind:?}"), instance("PUT", "none"));
        all.push(with.header(format!("content-type: {kind}")).body(BODY));
    }
    // With an accepted type the body is read and refused.
    for kind in ["application/json;charset=utf-8", "Application/JSON", " application/json ; a=b"] {
        let with = pair(format!("body, content type: {kind:?}"), instance("PUT", "none"));
        all.push(with.header(format!("content-type: {kind}")).body("[]"));
    }
    all.push(pair("body, content type: none", instance("PUT", "none")).body(BODY));
    all.push(
        json("body, content type: two", instance("PUT", "none"), "[]")
            .header("content-type: text/plain"),
    );
    for coding in ["gzip", "br", "gzip, gzip", "GZIP", "identity", "Identity", ""] {
        let with =
            json(format!("body, content encoding: {coding:?}"), instance("PUT", "none"), "[]");
        all.push(with.header(format!("content-encoding: {coding}")));
    }
    all.push(
        json("body: wrong type and coding", instance("PUT", "none"), "[]")
            .header("content-encoding: gzip")
            .header("content-type: a/b"),
    );
    all.push(json("body: a bad query and a bad body", instance("PUT", "none?a=b"), "{"));
    all.push(pair("body: a bad query and a wrong type", instance("PUT", "none?a=b")).body("{"));
    all.extend(chunked());
    all.extend(expecting());
    all
}

fn head(more: &str) -> String {
    format!(
        "PUT /v1/namespaces/<<ns>>/instances/none HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\n{more}\r\n"
    )
}

fn chunked() -> Vec<Pair> {
    let chunked = |name: &str, body: &str| {
        let head = head("transfer-encoding: chunked\r\n");
        raw(format!("chunks: {name}"), format!("{head}{body}"), 1)
    };
    let large = format!("{}0\r\n\r\n", format!("4000\r\n{}\r\n", " ".repeat(0x4000)).repeat(5));
    vec![
        chunked("no byte", "0\r\n\r\n"),
        chunked("one", "2\r\n[]\r\n0\r\n\r\n"),
        chunked("several", "1\r\n[\r\n1\r\n]\r\n0\r\n\r\n"),
        chunked("an extension", "2;a=b\r\n[]\r\n0\r\n\r\n"),
        chunked("a trailer", "2\r\n[]\r\n0\r\ncontent-length: 3\r\n\r\n"),
        chunked("size in capitals", "A\r\n[         \r\n1\r\n]\r\n0\r\n\r\n"),
        chunked("no size", "\r\n"),
        chunked("a negative size", "-1\r\n"),
        chunked("a size without an end", "fffffffffffffffff\r\n"),
        chunked("longer than its size", "1\r\n{}\r\n0\r\n\r\n"),
        chunked("too large", &large),
        raw(
            "chunks: a heartbeat without a byte",
            "PUT /v1/namespaces/<<ns>>/instances/ledger/heartbeat HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            1,
        ),
        raw(
            "chunks: and a length",
            format!(
                "{}2\r\n[]\r\n0\r\n\r\n",
                head("transfer-encoding: chunked\r\ncontent-length: 2\r\n")
            ),
            1,
        ),
        raw(
            "chunks: a length and",
            format!(
                "{}2\r\n[]\r\n0\r\n\r\n",
                head("content-length: 2\r\ntransfer-encoding: chunked\r\n")
            ),
            1,
        ),
        raw("chunks: another coding", head("transfer-encoding: xchunked\r\n"), 1),
        raw(
            "chunks: twice",
            format!("{}2\r\n[]\r\n0\r\n\r\n", head("transfer-encoding: chunked, chunked\r\n")),
            1,
        ),
    ]
}

/// `Expect: 100-continue`, and bodies that do not arrive.
fn expecting() -> Vec<Pair> {
    let expects = |name: &str, length: usize, body: &str, responses: usize| {
        let head = head(&format!("expect: 100-continue\r\ncontent-length: {length}\r\n"));
        raw(format!("expect: {name}"), format!("{head}{body}"), responses)
    };
    let other = |value: &str| {
        let head = head(&format!("expect: {value}\r\ncontent-length: 2\r\n"));
        raw(format!("expect: {value:?}"), format!("{head}[]"), 1)
    };
    vec![
        expects("the body comes with it", 2, "[]", 1),
        expects("too large, and not sent", 5_000_000, "", 1),
        expects("slightly too large, and not sent", 65_537, "", 1),
        raw(
            "expect: an unknown path",
            "PUT /nothing HTTP/1.1\r\nhost: a\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 10\r\n\r\n",
            1,
        ),
        raw(
            "expect: a method that is not allowed",
            "POST /v1/services HTTP/1.1\r\nhost: a\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 10\r\n\r\n",
            1,
        ),
        other("100-Continue"),
        other("something"),
        raw("body: too large by its length, and not sent", head("content-length: 5000000\r\n"), 1),
        raw("body: never arrives", head("content-length: 10\r\n"), 1).slow(),
        raw("body: half of it arrives", format!("{}[]", head("content-length: 10\r\n")), 1).slow(),
        expects("the body never arrives", 10, "", 2).slow(),
    ]
}
