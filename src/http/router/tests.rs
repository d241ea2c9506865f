//! Every operation refuses requests as the contract says: tests each operation with each refusal that happens before
//! its handler.

use axum::{
    body::Body,
    routing::{MethodFilter, on},
};
use http_body_util::BodyExt as _;
use hyper::{
    Method, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;
use crate::config::Rates;
use crate::http::{
    access::Needs,
    admission::StreamLimitReached,
    hot::HotPath,
    operation::{Group, Load, Query},
    problem::ProblemKind,
    table::OPERATIONS,
    testing::{Options, PEER, World},
};

/// A fault of a request, or of the server when the request arrives.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Method,
    Name,
    MinIndex,
    NoToken,
    BadToken,
    Forbidden,
    Rate,
    NotSynced,
    StreamLimitReached,
    Load,
    Query,
    MediaType,
    NoJson,
    UnknownField,
    TooLarge,
    SlowBody,
}

const FAULTS: [Fault; 16] = [
    Fault::Method,
    Fault::Name,
    Fault::MinIndex,
    Fault::NoToken,
    Fault::BadToken,
    Fault::Forbidden,
    Fault::Rate,
    Fault::NotSynced,
    Fault::StreamLimitReached,
    Fault::Load,
    Fault::Query,
    Fault::MediaType,
    Fault::NoJson,
    Fault::UnknownField,
    Fault::TooLarge,
    Fault::SlowBody,
];

impl Fault {
    /// The problem with which an operation answers; `None` where the fault does not apply.
    fn problem(self, operation: &Operation) -> Option<ProblemKind> {
        let has_body = operation.body.is_some();
        let needs_token = operation.needs != Needs::Nothing;
        let has_right = matches!(operation.needs, Needs::Read(rights) | Needs::Write(rights) if !rights.is_empty());
        let (applies, kind) = match self {
            Self::Method => (true, ProblemKind::MethodNotAllowed),
            Self::Name => (operation.route.template().contains('{'), ProblemKind::IllegalName),
            Self::MinIndex => (true, ProblemKind::BadHeader),
            Self::NoToken => (needs_token, ProblemKind::Unauthenticated),
            Self::BadToken => (needs_token, ProblemKind::BadToken),
            Self::Forbidden => (has_right, ProblemKind::Forbidden),
            Self::Rate => (true, ProblemKind::TooManyRequests),
            Self::NotSynced => (!operation.works_before_sync(), ProblemKind::NotSynced),
            Self::StreamLimitReached => (true, ProblemKind::Overloaded),
            Self::Load => (operation.load != Load::Memory, ProblemKind::Overloaded),
            Self::Query => (true, ProblemKind::BadQuery),
            Self::MediaType => (has_body, ProblemKind::WrongContentType),
            Self::NoJson => (has_body, ProblemKind::BadBody),
            Self::UnknownField => (has_body, ProblemKind::BadFields),
            Self::TooLarge => (has_body, ProblemKind::TooLarge),
            Self::SlowBody => (has_body, ProblemKind::SlowBody),
        };
        applies.then_some(kind)
    }

    fn options(self) -> Options {
        let tokens = matches!(self, Self::NoToken | Self::BadToken | Self::Forbidden);
        let caller = u32::from(matches!(self, Self::Rate));
        let synced = !matches!(self, Self::NotSynced);
        Options { tokens, read_auth: tokens, rates: Rates { caller, namespace: 0 }, synced }
    }

    fn request(self, operation: &Operation) -> Request<Body> {
        let path = operation.route.template();
        let (namespace, name) = match self {
            Self::Name => ("Shop", "Orders"),
            _ => ("shop", "orders"),
        };
        let path = path
            .replace("{namespace}", namespace)
            .replace("{service}", name)
            .replace("{name}", name);
        let query = if matches!(self, Self::Query) { "?nonsense=1" } else { "" };
        let query = match operation.query {
            Query::WatchMany if query.is_empty() => "?service=shop/orders",
            _ => query,
        };
        let method =
            if matches!(self, Self::Method) { Method::TRACE } else { operation.method.clone() };
        let mut request = Request::builder().method(method).uri(format!("{path}{query}"));
        match self {
            Self::MinIndex => request = request.header("rollcall-min-index", "x"),
            Self::BadToken => request = request.header(AUTHORIZATION, "Bearer bad"),
            Self::Forbidden => request = request.header(AUTHORIZATION, "Bearer weak"),
            _ => {}
        }
        let media_type = match self {
            Self::MediaType => "text/plain",
            _ => "application/json",
        };
        let body = match self {
            Self::NoJson => Body::from("{"),
            Self::UnknownField => Body::from("{\"nonsense\": {}}"),
            Self::TooLarge => Body::from(vec![b' '; 5 * 1024 * 1024]),
            Self::SlowBody => Body::new(Pending),
            _ if operation.body.is_some() => Body::from("{}"),
            _ => Body::empty(),
        };
        let mut request = request.header(CONTENT_TYPE, media_type).body(body).unwrap();
        if matches!(self, Self::StreamLimitReached) {
            request.extensions_mut().insert(StreamLimitReached);
        }
        request
    }
}

/// A body that never arrives.
struct Pending;

impl hyper::body::Body for Pending {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

/// Sends a request and parses the problem in the response.
async fn problem(world: &World, request: Request<Body>) -> (StatusCode, Value) {
    let response = HotPath::new(world.app.clone(), &OPERATIONS, true)
        .for_peer(PEER)
        .oneshot(request)
        .await
        .unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let shown = String::from_utf8_lossy(&body);
    assert_eq!(parts.headers[CONTENT_TYPE], "application/problem+json", "{shown}");
    assert!(parts.headers.contains_key("rollcall-replica"), "{:?}", parts.headers);
    (parts.status, serde_json::from_slice(&body).unwrap())
}

async fn refuse(operation: &'static Operation, fault: Fault) {
    let Some(kind) = fault.problem(operation) else { return };
    let world = World::new(fault.options());
    let mut held = Vec::new();
    match fault {
        Fault::Load => held.extend(std::iter::from_fn(|| world.app.limits.enter().ok())),
        Fault::Rate => {
            let spend = || world.app.limits.charge_caller(None, PEER, (world.app.clock)().moment);
            while spend().is_ok() {}
        }
        _ => {}
    }
    let (status, body) = problem(&world, fault.request(operation)).await;
    let shown =
        format!("{} {} with {fault:?}: {body}", operation.method, operation.route.template());
    assert_eq!(status, kind.status(), "{shown}");
    assert_eq!(body["type"], kind.uri(), "{shown}");
    assert_eq!(body["status"], status.as_u16(), "{shown}");
    assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{shown}");
    // The contract has an entry for each operation, and 405 belongs to none of them.
    assert!(
        kind == ProblemKind::MethodNotAllowed || operation.problems().contains(&kind),
        "{shown}: not in the contract"
    );
}

#[tokio::test]
async fn every_operation_answers_every_fault_with_a_problem_of_the_contract() {
    let each = FAULTS.iter().flat_map(|fault| OPERATIONS.iter().map(move |it| refuse(it, *fault)));
    // All at once, because requests whose body never arrives wait for a timeout.
    futures::future::join_all(each).await;
}

#[tokio::test]
async fn an_unknown_path_is_a_problem() {
    let world = World::new(Options::default());
    for path in [
        "/nonsense",
        "//",
        "/openapi.json/",
        "/v1",
        "/v1/",
        "/v2/services",
        "/v1/services/",
        "/v1/namespaces",
        "/v1/namespaces/a",
        "/v1/namespaces/a/instances",
        "/v1/namespaces/a/instances/b/",
        "/v1/namespaces/a/instances/b/heartbeat/now",
        "/v1/namespaces/a/services/b/instances/c",
        "/v1/watch/a",
        "/v1/namespaces/a/services/",
        "/v1/namespaces/a/instances/",
        "/v1/namespaces/a/services/b/watch/c",
    ] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let (status, body) = problem(&world, request).await;
        assert_eq!(
            (status, &body["type"]),
            (StatusCode::NOT_FOUND, &ProblemKind::UnknownRoute.uri().into())
        );
    }
}

#[tokio::test]
async fn each_invalid_name_in_a_path_is_reported_and_encoded_names_are_decoded() {
    let world = World::new(Options::default());
    for (path, fields) in [
        ("/v1/namespaces/Shop/instances/a%2Fb", &["namespace", "name"][..]),
        ("/v1/namespaces/shop/services/a.b", &["service"]),
        ("/v1/namespaces//services", &["namespace"]),
        ("/v1/namespaces/shop/services/%FF", &["service"]),
        ("/v1/namespaces/a%2Fb/instances/%C0%AF", &["namespace", "name"]),
    ] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let (status, body) = problem(&world, request).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let errors = body["errors"].as_array().unwrap();
        let named: Vec<_> = errors.iter().filter_map(|it| it["field"].as_str()).collect();
        assert_eq!(named, fields, "{path}");
    }
    world.put("a.b", |_| {});
    let request = Request::get("/v1/namespaces/shop/instances/%61.b").body(Body::empty()).unwrap();
    let response = HotPath::new(world.app.clone(), &OPERATIONS, true)
        .for_peer(PEER)
        .oneshot(request)
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_panicking_handler_is_answered_with_a_problem() {
    static PANICKING: [Operation; 1] = [Operation {
        handler: |method: MethodFilter| {
            on(method, async || -> StatusCode { panic!("a bug in a handler") })
        },
        route: Route::Services,
        method: Method::GET,
        id: "panic",
        summary: "Panic",
        description: "It panics.",
        group: Group::Services,
        needs: Needs::Nothing,
        load: Load::Memory,
        query: Query::None,
        headers: &[],
        body: None,
        responses: &[],
        extra_problems: &[],
    }];
    let world = World::new(Options::default());
    let request = Request::get("/v1/services").body(Body::empty()).unwrap();
    let response = HotPath::new(world.app.clone(), &PANICKING, true)
        .for_peer(PEER)
        .oneshot(request)
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
}
