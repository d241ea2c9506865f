//! Request heads that servers and proxies can interpret differently, or that are expensive to parse.

use super::wire::{ClientStep, json, request, run_steps};
use super::{Case, bare, case, check_cases, registered_services};
use crate::support::rbac::token;
use crate::support::{Rollcall, namespace};

const JSON: &str = "content-type: application/json\r\n";
const BODY: &str = r#"{"service": "smuggled", "addresses": ["10.0.0.7"]}"#;

fn get(path: &str) -> Vec<u8> {
    request("GET", path, "", "")
}

fn paths(ns: &str) -> Vec<Case> {
    let instance = |name: &str| get(&format!("/v1/namespaces/{ns}/instances/{name}"));
    let long = "p".repeat(60 * 1024);
    let mut cases: Vec<_> = [
        "%2e%2e", "..", ".", "%2E", "a%00", "%00", "a%2Fb", "a%5Cb", "%", "%4", "%zz", "%C0%AF",
        "a%0d%0ab", "A", &long,
    ]
    .iter()
    .map(|name| case(name, instance(name), (400, "name", "DNS subdomain")))
    .collect();
    for path in [
        "/v1/namespaces/x/instances/../../../services",
        "//v1/services",
        "/v1//services",
        "/v1/./services",
        "/v1/services/",
        "/V1/services",
        "/v1%2Fservices",
        "/v1/services;a=b",
        "/..%2f..%2fetc/passwd",
        &format!("/{long}"),
    ] {
        cases.push(case(path, get(path), (404, "", "no call with the path")));
    }
    cases.push(case("a foreign host", get("http://evil.example/v1/services"), (200, "", "")));
    cases.push(case(
        "a foreign path",
        get("http://evil.example/../v1/services"),
        (404, "", "no call"),
    ));
    // The replica serves its page for every host.
    cases.push(case("a foreign host alone", get("http://evil.example"), (200, "", "")));
    cases.push(bare("without a slash", get("v1/services"), 400));
    // The path alone fills the buffer for the head.
    cases.push(bare("a path that is too long", get(&format!("/{}", "p".repeat(65_600))), 431));
    cases
}

fn methods() -> Vec<Case> {
    let plain = |method: &str, path: &str| request(method, path, "", "");
    let mut cases = vec![
        case("OPTIONS *", plain("OPTIONS", "*"), (404, "", "no call with the path *")),
        case("CONNECT", plain("CONNECT", "evil.example:443"), (404, "", "no call")),
        bare("no method", b"\r\n\r\n /v1/services HTTP/1.1\r\n\r\n".to_vec(), 400),
        bare("a method with a space", plain("GE T", "/v1/services"), 400),
        bare("another protocol", b"GET /v1/services FTP/1.1\r\n\r\n".to_vec(), 400),
        bare("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 400),
    ];
    for method in ["OPTIONS", "TRACE", "BREW", "get", "PROPFIND", "POST", &"M".repeat(200)] {
        cases.push(case(method, plain(method, "/v1/services"), (405, "", "takes GET, HEAD")));
    }
    cases
}

fn queries(ns: &str) -> Vec<Case> {
    let service = |query: &str| get(&format!("/v1/namespaces/{ns}/services/orders?{query}"));
    let many = "tag=a&".repeat(10_000);
    let distinct: String = (0..8_000).map(|at| format!("p{at}&")).collect();
    let tags = "tag=a&".repeat(256);
    let selector = format!("selector=a+in+({})", "a,".repeat(20_000));
    let absent = format!("selector={}", "!a,".repeat(20_000));
    let long = format!("{}=1", "q".repeat(60 * 1024));
    let cut = format!("{}…", "q".repeat(256));
    vec![
        case("10,000 parameters", service(&many), (400, "", "at most 256 parameters")),
        case("8,000 names", service(&distinct), (400, "", "at most 256 parameters")),
        case("256 tags", service(&tags), (200, "", "")),
        case("a long list", service(&selector), (400, "selector", "at most 2048")),
        case("many requirements", service(&absent), (400, "selector", "at most 2048")),
        case("a long name", service(&long), (400, &cut, "unknown parameter")),
        case("a duplicate parameter", service("limit=1&limit=1"), (400, "limit", "twice")),
        case(
            "a duplicate parameter, escaped",
            service("limit=1&l%69mit=2"),
            (400, "limit", "twice"),
        ),
        case("an unfinished escape", service("zone=%"), (400, "zone", "percent-encoded")),
        case("a broken escape", service("zone=%GG"), (400, "zone", "percent-encoded")),
        case("invalid UTF-8", service("zone=%C0%AF"), (400, "zone", "percent-encoded")),
        case("a large limit", service("limit=99999999999999999999"), (400, "limit", "at least 1")),
        case("a signed limit", service("limit=%2B1"), (400, "limit", "at least 1")),
        case("a long wait", service("wait=99999999999999999999s"), (400, "wait", "at most 5m")),
        case("NUL", service("zone=%00"), (200, "", "")),
        case("empty parameters", service("&&&"), (200, "", "")),
    ]
}

fn headers() -> Vec<Case> {
    let with = |headers: &str| request("GET", "/v1/services", headers, "");
    let raw = |headers: &str| {
        format!("GET /v1/services HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n")
            .into_bytes()
    };
    let mut cases = vec![
        bare("10,000 headers", with(&"a: b\r\n".repeat(10_000)), 431),
        bare("101 headers", with(&"a: b\r\n".repeat(101)), 431),
        bare("a head of 1 MiB", with(&format!("a: {}\r\n", "b".repeat(1024 * 1024))), 431),
        bare("a folded header", with("a: b\r\n c\r\n"), 400),
        bare("a space before the colon", with("transfer-encoding : chunked\r\n"), 400),
        bare("NUL in a name", with("a\0b: c\r\n"), 400),
        bare("NUL in a value", with("a: b\0c\r\n"), 400),
        bare("a bare carriage return", with("a: b\rc: d\r\n"), 400),
        bare("a negative length", raw("content-length: -1\r\n"), 400),
        bare("a signed length", raw("content-length: +1\r\n"), 400),
        bare("a list of lengths", raw("content-length: 1, 1\r\n"), 400),
        bare("a huge length", raw("content-length: 99999999999999999999\r\n"), 400),
        bare("a length in hex", raw("content-length: 0x10\r\n"), 400),
        bare("two lengths", raw("content-length: 0\r\ncontent-length: 1\r\n"), 400),
        bare("chunked, then identity", raw("transfer-encoding: chunked, identity\r\n"), 400),
        bare("another coding", raw("transfer-encoding: xchunked\r\n"), 400),
        bare("a coding after a vertical tab", raw("transfer-encoding:\x0bchunked\r\n"), 400),
        case(
            "the same length twice",
            raw("content-length: 0\r\ncontent-length: 0\r\n"),
            (200, "", ""),
        ),
        case(
            "another protocol",
            raw("upgrade: websocket\r\nconnection: upgrade\r\n"),
            (200, "", ""),
        ),
    ];
    let old = b"GET /v1/services HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    cases.push(bare("chunks in HTTP/1.0", old, 400));
    for value in
        ["-1", "+1", "1.5", "1e3", "99999999999999999999", "", "a", "1\r\nrollcall-min-index: 1"]
    {
        let expected = (400, "Rollcall-Min-Index", "Rollcall-Index of an earlier response");
        cases.push(case(value, with(&format!("rollcall-min-index: {value}\r\n")), expected));
    }
    cases
}

fn chunks(ns: &str) -> Vec<Case> {
    let chunked = |body: &str| {
        let head = format!(
            "PUT /v1/namespaces/{ns}/instances/a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{JSON}transfer-encoding: chunked\r\n\r\n"
        );
        [head.as_bytes(), body.as_bytes()].concat()
    };
    let extension = format!("1;{}\r\n{{\r\n0\r\n\r\n", "e".repeat(3 * 1024 * 1024));
    let extensions = format!("{}0\r\n\r\n", "1;aaaaaaaaaaaaaaaa\r\n \r\n".repeat(60_000));
    let trailer = format!("0\r\na: {}\r\n\r\n", "b".repeat(3 * 1024 * 1024));
    let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(10_000));
    let broken = (400, "", "cannot read the body");
    vec![
        case("a huge chunk", chunked("fffffffffffffffff\r\n"), broken),
        case("a negative chunk", chunked("-1\r\n"), broken),
        case("an empty chunk size", chunked("\r\n"), broken),
        case("a size with a sign", chunked("+1\r\n{\r\n0\r\n\r\n"), broken),
        case("a chunk longer than its size", chunked("1\r\n{}\r\n0\r\n\r\n"), broken),
        case("a long extension", chunked(&extension), broken),
        case("many extensions", chunked(&extensions), broken),
        case("a long trailer", chunked(&trailer), broken),
        case("many trailers", chunked(&trailers), broken),
        case("an empty body", chunked("0\r\n\r\n"), (400, "", "empty")),
        case(
            "trailers",
            chunked("2\r\n[]\r\n0\r\ncontent-length: 3\r\n\r\n"),
            (422, "", "an object"),
        ),
    ]
}

#[tokio::test]
async fn invalid_head_is_refused_and_registers_nothing() {
    let ns = namespace("hostile-heads").await;
    let rollcall = Rollcall::start(&ns).await;
    let cases = [paths(&ns.name), methods(), queries(&ns.name), headers(), chunks(&ns.name)];
    check_cases(rollcall.http, cases.into_iter().flatten().collect()).await;
    assert_eq!(registered_services(&rollcall, &ns).await, [""; 0]);
}

#[tokio::test]
async fn smuggled_request_is_not_answered() {
    let ns = namespace("smuggled").await;
    let rollcall = Rollcall::start(&ns).await;
    let hidden = json("PUT", &format!("/v1/namespaces/{}/instances/smuggled", ns.name), BODY);
    let hidden = String::from_utf8(hidden).unwrap();
    let post = |headers: &str, body: &str| {
        format!("POST /v1/heartbeats HTTP/1.1\r\nhost: a\r\n{JSON}{headers}\r\n{body}")
    };
    let all = hidden.len() + 5;
    for (name, request) in [
        // By Content-Length, everything after the head is the body. By its chunks, the body is empty.
        (
            "length and chunks",
            post(
                &format!("content-length: {all}\r\ntransfer-encoding: chunked\r\n"),
                &format!("0\r\n\r\n{hidden}"),
            ),
        ),
        (
            "chunks and length",
            post(
                &format!("transfer-encoding: chunked\r\ncontent-length: {all}\r\n"),
                &format!("0\r\n\r\n{hidden}"),
            ),
        ),
        ("two lengths", post(&format!("content-length: 0\r\ncontent-length: {all}\r\n"), &hidden)),
        (
            "an unknown transfer coding",
            post("transfer-encoding: chunked\r\ntransfer-encoding: x\r\n", &hidden),
        ),
        (
            "a chunk that ends early",
            post("transfer-encoding: chunked\r\n", &format!("2\r\n{{}}0\r\n\r\n{hidden}")),
        ),
        (
            "a size that ends in a bare line feed",
            post("transfer-encoding: chunked\r\n", &format!("0\n\n{hidden}")),
        ),
    ] {
        let exchange = run_steps(rollcall.http, &[ClientStep::Bytes(request.into_bytes())]).await;
        assert!(exchange.is_closed, "{name}: the connection is closed");
        let status = exchange.answer().map(|answer| answer.status);
        assert_eq!((exchange.answers(), status), (1, Some(400)), "{name}");
    }
    assert_eq!(registered_services(&rollcall, &ns).await, [""; 0]);
}

#[tokio::test]
async fn several_tokens_are_refused() {
    let ns = namespace("two-tokens").await;
    let rollcall = Rollcall::start_with(&ns, "rollcall-0", &["--auth", "token"]).await;
    let token = token(&ns, "client", "rollcall").await;
    let beats = |headers: &str| {
        request("POST", "/v1/heartbeats", &format!("{JSON}{headers}"), r#"{"instances": []}"#)
    };
    let header = format!("authorization: Bearer {token}\r\n");
    let denied = (401, "Authorization", "one bearer token");
    check_cases(
        rollcall.http,
        vec![
            case("one token", beats(&header), (200, "", "")),
            case("the same token twice", beats(&header.repeat(2)), denied),
            case(
                "a valid token first",
                beats(&format!("{header}authorization: Bearer x\r\n")),
                denied,
            ),
            case(
                "a valid token last",
                beats(&format!("authorization: Basic x\r\n{header}")),
                denied,
            ),
            case("another scheme", beats("authorization: Basic Zm9vOmJhcg==\r\n"), denied),
        ],
    )
    .await;
}
