//! The hot path: answers heartbeats without a body and plain discoveries from memory, before the router.
//!
//! Owns: [`HotPath`], a `tower::Service` in front of axum, and which requests it answers. It returns what the handlers
//! would return, and calls the same functions. Every other request goes to the router: a request with parameters, for
//! an instance that is not known yet, or that results in an error. The router would cost more than these responses
//! themselves (docs/benchmarks.md). The hot path can be switched off: a property test compares a server with it to a
//! server without it. Does not own: the responses (`heartbeats`, `discover`).

use std::{
    convert::Infallible,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    BoxError, Router,
    extract::ConnectInfo,
    response::{IntoResponse as _, Response},
    routing::future::RouteFuture,
};
use bytes::Bytes;
use hyper::{
    HeaderMap, Method, Request,
    body::Body,
    header::{IF_MATCH, IF_NONE_MATCH},
};
use rollcall_model::{lease::Now, naming};
use tower::Service;

use crate::clock::Stopwatch;
use crate::http::{
    access::bearer_token,
    admission::{Admitted, StreamLimitReached},
    answer::Answer,
    app::AppState,
    discover, heartbeats, min_index,
    observe::ObservedRequest,
    operation::Operation,
    problem::Problem,
    query,
    route::{PathNames, Route},
    router::router,
};

/// Answers the requests of one peer.
#[derive(Clone)]
pub(super) struct HotPath {
    app: Arc<AppState>,
    router: Router,
    /// The operations that it answers; `None` when it is switched off.
    heartbeat: Option<&'static Operation>,
    discover: Option<&'static Operation>,
    peer: IpAddr,
}

/// A response that is ready, or pending in the router.
pub(super) enum Reply {
    Ready(Option<Response>),
    /// Boxed, because most responses are ready, and a large variant would make every `Reply` large.
    Routed(Box<RouteFuture<Infallible>>),
}

/// The result of the hot path for one request.
enum HotResult {
    Response(Response),
    /// The router must answer. The caller is authorized, and the request is charged to its rate.
    Admitted(Admitted),
    /// The router must answer.
    Unhandled,
}

impl HotPath {
    /// A hot path in front of the router of `app`. Without `is_on`, the router answers every request.
    pub(super) fn new(app: Arc<AppState>, operations: &'static [Operation], is_on: bool) -> Self {
        let find = |route, method| {
            operations.iter().find(|it| is_on && it.route == route && it.method == method)
        };
        let heartbeat = find(Route::Heartbeat, Method::PUT);
        let discover = find(Route::Service, Method::GET);
        let router = router(&app, operations);
        Self { app, router, heartbeat, discover, peer: IpAddr::from([0, 0, 0, 0]) }
    }

    /// A clone for another peer.
    pub(super) fn for_peer(&self, peer: IpAddr) -> Self {
        Self { peer, ..self.clone() }
    }

    fn answer<B: Body>(&self, request: &Request<B>) -> HotResult {
        let stopwatch = Stopwatch::start();
        let Some((operation, names)) = self.operation(request) else { return HotResult::Unhandled };
        let (app, headers) = (&*self.app, request.headers());
        if !app.intake.directory().is_synced() || !is_index_reached(app, headers) {
            return HotResult::Unhandled;
        }
        let now = (app.clock)();
        let mut response = match self.admit(operation, names, headers, now) {
            Some(Ok(admitted)) => match self.answer_from_memory(operation, names, request, now) {
                Some(answer) => answer.into_response(),
                None => return HotResult::Admitted(admitted),
            },
            Some(Err(problem)) => problem.into_response(),
            None => return HotResult::Unhandled,
        };
        let observed = ObservedRequest::begin(app, request, self.peer, stopwatch);
        observed.end(app, Some(operation.route), &mut response, now.moment);
        #[cfg(test)]
        tests::count(operation.route, response.status());
        HotResult::Response(response)
    }

    /// The operation and the names in the path, if the request is a plain form of one of the two operations.
    fn operation<'r, B: Body>(
        &self,
        request: &'r Request<B>,
    ) -> Option<(&'static Operation, PathNames<'r>)> {
        let path = request.uri().path().strip_prefix("/v1/namespaces/")?;
        let (namespace, rest) = path.split_once('/')?;
        if !naming::is_label(namespace) {
            return None;
        }
        if let Some(name) = rest.strip_prefix("services/") {
            let operation = self.discover.filter(|it| it.method == *request.method())?;
            let is_plain = naming::is_label(name) && request.uri().query().is_none();
            return is_plain.then_some((operation, PathNames { namespace, name }));
        }
        let name = rest.strip_prefix("instances/")?.strip_suffix("/heartbeat")?;
        let operation = self.heartbeat.filter(|it| it.method == *request.method())?;
        let is_plain = naming::is_subdomain(name) && request.body().is_end_stream();
        is_plain.then_some((operation, PathNames { namespace, name }))
    }

    /// Authenticates and authorizes the caller, and charges the request to its rate. `None` when the router must do so.
    fn admit(
        &self,
        operation: &'static Operation,
        names: PathNames<'_>,
        headers: &HeaderMap,
        now: Now,
    ) -> Option<Result<Admitted, Problem>> {
        let app = &*self.app;
        let caller =
            match app.authorization.wanted(operation.needs, names, operation.names_instance()) {
                None => None,
                Some((authorizer, wanted)) => {
                    Some(authorizer.known(bearer_token(headers), &wanted, now.moment)?.ok()?)
                }
            };
        let charged = app.limits.charge_caller(caller.as_deref(), self.peer, now.moment);
        Some(charged.map(|()| Admitted { caller, now }))
    }

    fn answer_from_memory<B>(
        &self,
        operation: &'static Operation,
        names: PathNames<'_>,
        request: &Request<B>,
        now: Now,
    ) -> Option<Answer> {
        let (app, headers) = (&*self.app, request.headers());
        if operation.route == Route::Service {
            app.check_namespace(names.namespace).ok()?;
            return discover::cached_answer(app, names, headers);
        }
        if headers.contains_key(IF_MATCH) || headers.contains_key(IF_NONE_MATCH) {
            return None;
        }
        let uid = query::parse_uid(request.uri().query()).ok()?;
        heartbeats::renew_from_memory(app, &names.target(uid.as_deref()), now)
    }
}

/// Whether this replica has applied the index that the caller requires.
fn is_index_reached(app: &AppState, headers: &HeaderMap) -> bool {
    let reached = |index| index <= app.intake.directory().index();
    min_index::parse(headers).is_ok_and(|index| index.is_none_or(reached))
}

impl<B> Service<Request<B>> for HotPath
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Reply;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Reply {
        self.respond(request)
    }
}

impl HotPath {
    /// Does the same as `call`, for a connection, which has only a shared reference.
    pub(super) fn respond<B>(&self, mut request: Request<B>) -> Reply
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let is_refused = request.extensions().get::<StreamLimitReached>().is_some();
        match if is_refused { HotResult::Unhandled } else { self.answer(&request) } {
            HotResult::Response(response) => return Reply::Ready(Some(response)),
            HotResult::Admitted(admitted) => drop(request.extensions_mut().insert(admitted)),
            HotResult::Unhandled => {}
        }
        request.extensions_mut().insert(ConnectInfo(self.peer));
        Reply::Routed(Box::new(self.router.clone().call(request)))
    }
}

impl Future for Reply {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            // A future is not polled again after it is ready.
            Self::Ready(response) => {
                response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)))
            }
            Self::Routed(future) => Pin::new(future.as_mut()).poll(cx),
        }
    }
}

#[cfg(test)]
mod tests;
