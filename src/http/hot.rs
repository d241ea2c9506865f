//! The hot path: a heartbeat without a body and a plain discovery, answered from memory before the router.
//!
//! Owns: [`Hot`], a `tower::Service` in front of axum, and which requests it answers. It gives what the handlers would give,
//! by the same functions; whatever is not plain, not known yet or wrong goes to the router, which can answer everything. The
//! router costs more than these answers do (docs/benchmarks.md). It can be switched off: a property test compares two
//! servers, one without it. Does not own: the answers (`heartbeats`, `discover`).

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
    access::bearer,
    admission::{Admitted, NoPlace},
    answer::Answer,
    app::App,
    discover, heartbeats, min_index,
    observe::Observed,
    operation::Operation,
    problem::Problem,
    query,
    route::{Names, Route},
    router::router,
};

/// Answers requests of one peer.
#[derive(Clone)]
pub(super) struct Hot {
    app: Arc<App>,
    router: Router,
    /// The operations that it answers; none of them when it is switched off.
    heartbeat: Option<&'static Operation>,
    discover: Option<&'static Operation>,
    peer: IpAddr,
}

/// A response that is there, or on its way through the router.
pub(super) enum Reply {
    Ready(Option<Response>),
    /// In a box: most responses are there, and this would make every one as large.
    Routed(Box<RouteFuture<Infallible>>),
}

/// What comes of a request here.
enum Outcome {
    Answered(Response),
    /// The router answers it; the caller is known, and charged.
    Admitted(Admitted),
    /// The router answers it.
    Routed,
}

impl Hot {
    /// In front of the router of `app`; with `is_on` false everything goes there.
    pub(super) fn new(app: Arc<App>, operations: &'static [Operation], is_on: bool) -> Self {
        let find = |route, method| {
            operations.iter().find(|it| is_on && it.route == route && it.method == method)
        };
        let heartbeat = find(Route::Heartbeat, Method::PUT);
        let discover = find(Route::Service, Method::GET);
        let router = router(&app, operations);
        Self { app, router, heartbeat, discover, peer: IpAddr::from([0, 0, 0, 0]) }
    }

    /// The same for another peer.
    pub(super) fn of(&self, peer: IpAddr) -> Self {
        Self { peer, ..self.clone() }
    }

    fn answer<B: Body>(&self, request: &Request<B>) -> Outcome {
        let stopwatch = Stopwatch::start();
        let Some((operation, names)) = self.operation(request) else { return Outcome::Routed };
        let (app, headers) = (&*self.app, request.headers());
        if !app.intake.directory().is_synced() || !is_index_reached(app, headers) {
            return Outcome::Routed;
        }
        let now = (app.clock)();
        let mut response = match self.admit(operation, names, headers, now) {
            Some(Ok(admitted)) => match self.kept_answer(operation, names, request, now) {
                Some(answer) => answer.into_response(),
                None => return Outcome::Admitted(admitted),
            },
            Some(Err(problem)) => problem.into_response(),
            None => return Outcome::Routed,
        };
        let observed = Observed::begin(app, request, self.peer, stopwatch);
        observed.end(app, Some(operation.route), &mut response, now.moment);
        #[cfg(test)]
        tests::count(operation.route, response.status());
        Outcome::Answered(response)
    }

    /// The operation, if it is one of these two in its plain form, and the names in its path.
    fn operation<'r, B: Body>(
        &self,
        request: &'r Request<B>,
    ) -> Option<(&'static Operation, Names<'r>)> {
        let path = request.uri().path().strip_prefix("/v1/namespaces/")?;
        let (namespace, rest) = path.split_once('/')?;
        if !naming::is_label(namespace) {
            return None;
        }
        if let Some(name) = rest.strip_prefix("services/") {
            let operation = self.discover.filter(|it| it.method == *request.method())?;
            let is_plain = naming::is_label(name) && request.uri().query().is_none();
            return is_plain.then_some((operation, Names { namespace, name }));
        }
        let name = rest.strip_prefix("instances/")?.strip_suffix("/heartbeat")?;
        let operation = self.heartbeat.filter(|it| it.method == *request.method())?;
        let is_plain = naming::is_subdomain(name) && request.body().is_end_stream();
        is_plain.then_some((operation, Names { namespace, name }))
    }

    /// Authenticates, authorizes and charges the caller; none when the router has to do so.
    fn admit(
        &self,
        operation: &'static Operation,
        names: Names<'_>,
        headers: &HeaderMap,
        now: Now,
    ) -> Option<Result<Admitted, Problem>> {
        let app = &*self.app;
        let caller =
            match app.authorization.wanted(operation.needs, names, operation.names_instance()) {
                None => None,
                Some((gate, wanted)) => {
                    Some(gate.known(bearer(headers), &wanted, now.moment)?.ok()?)
                }
            };
        let charged = app.limits.caller(caller.as_deref(), self.peer, now.moment);
        Some(charged.map(|()| Admitted { caller, now }))
    }

    fn kept_answer<B>(
        &self,
        operation: &'static Operation,
        names: Names<'_>,
        request: &Request<B>,
        now: Now,
    ) -> Option<Answer> {
        let (app, headers) = (&*self.app, request.headers());
        if operation.route == Route::Service {
            app.covers(names.namespace).ok()?;
            return discover::kept(app, names, headers);
        }
        if headers.contains_key(IF_MATCH) || headers.contains_key(IF_NONE_MATCH) {
            return None;
        }
        let uid = query::uid(request.uri().query()).ok()?;
        heartbeats::at_once(app, &names.target(uid.as_deref()), now)
    }
}

/// Whether the caller need not wait for what it knows already.
fn is_index_reached(app: &App, headers: &HeaderMap) -> bool {
    let reached = |index| index <= app.intake.directory().index();
    min_index::read(headers).is_ok_and(|index| index.is_none_or(reached))
}

impl<B> Service<Request<B>> for Hot
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

impl Hot {
    /// What `call` does, for a connection, which has only a shared reference.
    pub(super) fn respond<B>(&self, mut request: Request<B>) -> Reply
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let is_refused = request.extensions().get::<NoPlace>().is_some();
        match if is_refused { Outcome::Routed } else { self.answer(&request) } {
            Outcome::Answered(response) => return Reply::Ready(Some(response)),
            Outcome::Admitted(admitted) => drop(request.extensions_mut().insert(admitted)),
            Outcome::Routed => {}
        }
        request.extensions_mut().insert(ConnectInfo(self.peer));
        Reply::Routed(Box::new(self.router.clone().call(request)))
    }
}

impl Future for Reply {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            // A future is not polled again after it was ready.
            Self::Ready(response) => {
                response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)))
            }
            Self::Routed(future) => Pin::new(future.as_mut()).poll(cx),
        }
    }
}

#[cfg(test)]
mod tests;
