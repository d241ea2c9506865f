//! Several requests on one connection, HTTP/1.0, and headers that keep a connection open.

use super::pair::{Pair, raw};

fn get(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: a\r\n{headers}\r\n")
}

fn heartbeat(headers: &str, body: &str) -> String {
    format!(
        "PUT /v1/namespaces/<<ns>>/instances/ledger/heartbeat HTTP/1.1\r\nhost: a\r\n{headers}\r\n{body}"
    )
}

pub(super) fn pairs() -> Vec<Pair> {
    let close = "connection: close\r\n";
    let connection = |name: &str, request: String, responses: usize| {
        raw(format!("connection: {name}"), request, responses)
    };
    let json = "content-type: application/json\r\n";
    vec![
        connection("stays open", get("/v1/services?a", ""), 1),
        connection("keep-alive is said", get("/v1/services?a", "connection: keep-alive\r\n"), 1),
        connection("close", get("/v1/services?a", close), 1),
        connection("close in another casing", get("/v1/services?a", "Connection: CLOSE\r\n"), 1),
        connection("two in a row", get("/v1/services?a", "") + &get("/nothing", ""), 2),
        connection("three of which the last closes", get("/v1/services?a", "") + &heartbeat("", "") + &get("/v1/snapshot?a", close), 3),
        connection("nothing is read after close", get("/v1/services?a", close) + &get("/nothing", ""), 2),
        connection("ten heartbeats", heartbeat("", "").repeat(10), 10),
        connection("heartbeats with bodies", heartbeat(&format!("{json}content-length: 2\r\n"), "{}").repeat(3), 3),
        connection("after a refused body", heartbeat(&format!("{json}content-length: 1\r\n"), "{") + &get("/v1/services?a", ""), 2),
        connection("after a body that is not read", format!("POST /v1/services HTTP/1.1\r\nhost: a\r\n{json}content-length: 5\r\n\r\n12345") + &get("/v1/services?a", ""), 2),
        connection("after a body of GET", get("/v1/services?a", "content-length: 5\r\n") + "12345" + &get("/nothing", ""), 2),
        connection("after chunks that are not read", format!("POST /nothing HTTP/1.1\r\nhost: a\r\n{json}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n") + &get("/v1/services?a", ""), 2),
        connection("after 413", format!("PUT /v1/namespaces/<<ns>>/instances/none HTTP/1.1\r\nhost: a\r\n{json}content-length: 65537\r\n\r\n{}", " ".repeat(65_537)) + &get("/v1/services?a", ""), 2),
        connection("after a head that is no HTTP", get("/v1/services?a", "") + "hello\r\n\r\n" + &get("/nothing", ""), 2),
        connection("after 404 of an instance", get("/v1/namespaces/<<ns>>/instances/nobody", "") + &get("/nothing", ""), 2),
        connection("after a long poll", get("/v1/namespaces/<<ns>>/services/ledger?wait=50ms", "if-none-match: <<etag /v1/namespaces/NS/services/ledger>>\r\n") + &get("/nothing", close), 2),
        connection("after a registration", format!("PUT /v1/namespaces/<<ns>>/instances/none HTTP/1.1\r\nhost: a\r\n{json}content-length: 2\r\n\r\n{{}}") + &get("/nothing", close), 2),
        connection("HTTP/1.0", "GET /v1/services?a HTTP/1.0\r\n\r\n".to_owned(), 1),
        connection("HTTP/1.0 with keep-alive", "GET /v1/services?a HTTP/1.0\r\nconnection: keep-alive\r\n\r\n".to_owned(), 1),
        connection("HTTP/1.0, two", "GET /v1/services?a HTTP/1.0\r\nconnection: keep-alive\r\n\r\nGET /nothing HTTP/1.0\r\n\r\n".to_owned(), 2),
        connection("HTTP/1.0, a heartbeat with a body", format!("PUT /v1/namespaces/<<ns>>/instances/ledger/heartbeat HTTP/1.0\r\n{json}content-length: 2\r\n\r\n{{}}"), 1),
        connection("HTTP/1.0, a snapshot has no chunks", "GET /v1/snapshot HTTP/1.0\r\n\r\n".to_owned(), usize::MAX),
        connection("HTTP/1.0, discovery", "GET /v1/namespaces/<<ns>>/services/ledger HTTP/1.0\r\n\r\n".to_owned(), 1),
        connection("HTTP/1.0, HEAD", "HEAD /openapi.json HTTP/1.0\r\n\r\n".to_owned(), 1),
    ]
}
