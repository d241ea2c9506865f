//! Unusual headers: the request id, the minimum index, repeated headers, and heads that are not HTTP.

use super::pair::{Pair, pair, raw};

pub(super) fn pairs() -> Vec<Pair> {
    let mut all = request_ids();
    all.extend(indexes());
    all.extend(malformed());
    all
}

fn request_ids() -> Vec<Pair> {
    let with = |name: &str| pair(format!("request id: {name}"), "GET /v1/services?a");
    let mut all = vec![
        with("plain").header("x-request-id: abc-123"),
        with("another casing").header("X-REQUEST-ID: AbC"),
        with("empty").header("x-request-id: "),
        with("blanks around").header("x-request-id:   a b  "),
        with("128 bytes").header(format!("x-request-id: {}", "r".repeat(128))),
        with("129 bytes").header(format!("x-request-id: {}", "r".repeat(129))),
        with("two").header("x-request-id: a").header("x-request-id: b"),
        with("UTF-8").header("x-request-id: ä"),
        with("a tab").header("x-request-id: a\tb"),
        with("markup").header("x-request-id: <b>\"'%0d%0a"),
    ];
    for (name, line) in [
        ("of a success", "GET /v1/namespaces/<<ns>>/services/nothing"),
        ("of an unknown path", "GET /nothing"),
        ("of a method that is not allowed", "PUT /v1/services"),
        ("of a heartbeat", "PUT /v1/namespaces/<<ns>>/instances/ledger/heartbeat"),
        ("of what is not there", "DELETE /v1/namespaces/<<ns>>/instances/nobody"),
        ("of HEAD", "HEAD /v1/cluster"),
        ("of a bad name", "GET /v1/namespaces/<<ns>>/instances/A"),
    ] {
        all.push(pair(format!("request id: {name}"), line).header("x-request-id: id-1"));
    }
    all.push(
        with("a trace")
            .header("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    );
    all
}

fn indexes() -> Vec<Pair> {
    let with = |name: &str| {
        pair(format!("least index: {name}"), "GET /v1/namespaces/<<ns>>/services/nothing")
    };
    let mut all = vec![
        with("reached").header("rollcall-min-index: <<index>>"),
        with("0").header("rollcall-min-index: 0"),
        with("leading zeros").header("rollcall-min-index: 0001"),
        with("of another store").header("rollcall-min-index: 9999999999999"),
        with("the greatest").header("rollcall-min-index: 18446744073709551615"),
        with("two").header("rollcall-min-index: 1").header("rollcall-min-index: 1"),
        with("blanks around").header("rollcall-min-index:  1 "),
        pair("least index: of another store, 404", "GET /v1/namespaces/<<ns>>/instances/nobody")
            .header("rollcall-min-index: 9999999999999"),
        pair("least index: of another store, 405", "POST /v1/services")
            .header("rollcall-min-index: 9999999999999"),
        pair("least index: of another store, a bad name", "GET /v1/namespaces/<<ns>>/instances/A")
            .header("rollcall-min-index: 9999999999999"),
        pair(
            "least index: of another store, heartbeat",
            "PUT /v1/namespaces/<<ns>>/instances/ledger/heartbeat",
        )
        .header("rollcall-min-index: 9999999999999"),
        pair("least index: bad, unknown path", "GET /nothing").header("rollcall-min-index: x"),
        pair("least index: bad, 405", "POST /v1/services").header("rollcall-min-index: x"),
        pair("least index: bad, page", "GET /").header("rollcall-min-index: x"),
    ];
    for value in ["-1", "+1", "1.5", "1e3", "18446744073709551616", "", "a", "1, 1", "0x10", "ä"] {
        all.push(with(&format!("{value:?}")).header(format!("rollcall-min-index: {value}")));
    }
    all
}

fn malformed() -> Vec<Pair> {
    let with = |name: &str, headers: &str| {
        let request =
            format!("GET /v1/services?a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n");
        raw(format!("head: {name}"), request, 1)
    };
    let line = |name: &str, bytes: &str| raw(format!("head: {name}"), bytes, 1);
    vec![
        with("101 headers", &"a: b\r\n".repeat(101)),
        with("98 headers", &"a: b\r\n".repeat(98)),
        with("more than 64 KiB", &format!("a: {}\r\n", "b".repeat(70_000))),
        with("60 KB", &format!("a: {}\r\n", "b".repeat(60_000))),
        with("folded", "a: b\r\n c\r\n"),
        with("a blank before the colon", "a : b\r\n"),
        with("no colon", "a\r\n"),
        with("no name", ": b\r\n"),
        with("NUL in a name", "a\0b: c\r\n"),
        with("NUL in a value", "a: b\0c\r\n"),
        with("a bare carriage return", "a: b\rc: d\r\n"),
        with("a name that is not ASCII", "ä: b\r\n"),
        with("odd casing", "aCCept: Text/HTML\r\nX-rEquest-ID: q\r\n"),
        with("an upgrade", "upgrade: websocket\r\nconnection: upgrade\r\n"),
        with(
            "an upgrade to HTTP/2",
            "upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nconnection: upgrade, http2-settings\r\n",
        ),
        with("a second host", "host: b\r\n"),
        with(
            "cookies and forwarding",
            "cookie: a=b\r\nx-forwarded-for: 10.0.0.1\r\nforwarded: for=10.0.0.1\r\n",
        ),
        with("Range is not read", "range: bytes=0-1\r\n"),
        with(
            "Origin is not read",
            "origin: https://evil.example\r\naccess-control-request-method: PUT\r\n",
        ),
        with("Accept-Encoding is not read", "accept-encoding: gzip, br\r\n"),
        with("TE", "te: trailers\r\n"),
        with("a method in a header", "x-http-method-override: DELETE\r\n"),
        with("a negative length", "content-length: -1\r\n"),
        with("a signed length", "content-length: +1\r\n"),
        with("a list of lengths", "content-length: 1, 1\r\n"),
        with("a length in hex", "content-length: 0x10\r\n"),
        with("an endless length", "content-length: 99999999999999999999\r\n"),
        with("two lengths", "content-length: 0\r\ncontent-length: 1\r\n"),
        with("the same length twice", "content-length: 0\r\ncontent-length: 0\r\n"),
        line("no host", "GET /v1/services?a HTTP/1.1\r\nconnection: close\r\n\r\n"),
        line("an empty host", "GET /v1/services?a HTTP/1.1\r\nhost:\r\nconnection: close\r\n\r\n"),
        line("no method", " /v1/services HTTP/1.1\r\n\r\n"),
        line("a method with a blank", "GE T /v1/services HTTP/1.1\r\n\r\n"),
        line("another protocol", "GET /v1/services FTP/1.1\r\n\r\n"),
        line("HTTP/1.2", "GET /v1/services?a HTTP/1.2\r\nhost: a\r\n\r\n"),
        line("HTTP/2.0 in text", "GET /v1/services?a HTTP/2.0\r\nhost: a\r\n\r\n"),
        line("HTTP/0.9", "GET /v1/services\r\n\r\n"),
        line("no protocol version", "GET /v1/services HTTP\r\n\r\n"),
        line("two blanks", "GET  /v1/services?a  HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
        line("bare line feeds", "GET /v1/services?a HTTP/1.1\nhost: a\nconnection: close\n\n"),
        line(
            "empty lines before it",
            "\r\n\r\nGET /v1/services?a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        ),
        line("TLS", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}"),
        line("garbage", "hello\r\n\r\n"),
        line(
            "chunks in HTTP/1.0",
            "GET /v1/services HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
    ]
}
