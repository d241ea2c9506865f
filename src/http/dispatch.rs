//! One request in, one answer out.
//!
//! Owns: the order of checks (path, method, names, then who is calling and whether this
//! replica knows anything yet), the choice between answering at once and waiting, and the headers
//! of every answer. Does not own: connections (`server`).
//!
//! What is answered from memory never becomes a task or a boxed future: an ordinary heartbeat and
//! a discovery are plain function calls.

use std::{
    convert::Infallible,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::auth::Caller;
use crate::clock;
use crate::http::{
    access::bearer,
    access_log::Seen,
    answer::{Answer, Body},
    batch, body, changes, cluster, contract, discover,
    door::{Door, Given},
    heartbeats, instances,
    min_index::{self, Waited},
    page,
    problem::{Kind, Problem},
    route::{self, Names, Route},
    services, snapshot, watch,
};
use hyper::{
    Method, Request, Response,
    body::{Body as _, Incoming},
    header::{
        ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue,
        RETRY_AFTER, WWW_AUTHENTICATE,
    },
};
use rollcall_model::lease::millis;
use tracing::{Instrument as _, debug_span};

const REPLICA: HeaderName = HeaderName::from_static("rollcall-replica");
const INDEX: HeaderName = HeaderName::from_static("rollcall-index");
const INDEX_RESET: HeaderName = HeaderName::from_static("rollcall-index-reset");
const AGE: HeaderName = HeaderName::from_static("rollcall-age");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
/// A browser is not to take an answer for anything but what its type says.
const NO_SNIFF: HeaderName = hyper::header::X_CONTENT_TYPE_OPTIONS;
const STALE: HeaderName = HeaderName::from_static("rollcall-stale");

/// Calls that may have to wait, for a body or for Kubernetes.
#[derive(Clone, Copy, Debug)]
enum Work {
    Page,
    Register,
    RegisterNamed,
    Deregister,
    Read,
    Discover,
    Watch,
    Heartbeat,
    Heartbeats,
    RenewLease,
    Attributes,
    State,
    RegisterMany,
}

impl Work {
    /// Whether it ends in one write to Kubernetes.
    fn is_write_in_one_namespace(self) -> bool {
        match self {
            Self::Register
            | Self::RegisterNamed
            | Self::Deregister
            | Self::RenewLease
            | Self::Attributes
            | Self::State => true,
            // A beat is seldom one, and a batch of registrations counts for itself.
            Self::Page
            | Self::Read
            | Self::Discover
            | Self::Watch
            | Self::Heartbeat
            | Self::Heartbeats
            | Self::RegisterMany => false,
        }
    }
}

enum Step {
    Done(Given),
    Wait(Work, Option<Arc<Caller>>),
    /// Who is calling is not known, or not what they may do.
    Ask,
}

/// What a route makes of a request.
enum Next {
    Done(Given),
    Wait(Work),
}

/// The answer to one request: there, or on its way.
pub(super) enum Reply {
    Now(Option<Response<Body>>),
    Later(Pin<Box<dyn Future<Output = Response<Body>> + Send>>),
}

impl Future for Reply {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            // Polled again after it was ready, which nobody does: waiting for ever is as good an
            // answer as any.
            Self::Now(response) => response.take().map_or(Poll::Pending, |it| Poll::Ready(Ok(it))),
            Self::Later(future) => future.as_mut().poll(cx).map(Ok),
        }
    }
}

impl Door {
    /// Answers a request.
    pub(super) fn call(self: &Arc<Self>, request: Request<Incoming>, peer: IpAddr) -> Reply {
        let seen = Seen::new(self.traces.as_ref(), &request, peer);
        let Some((route, raw)) = route::find(request.uri().path()) else {
            let detail = format!("no call has the path {}; see docs/api.md", request.uri().path());
            let problem = Problem::new(Kind::UnknownRoute, detail);
            return Reply::Now(Some(self.finish(None, Err(problem), seen)));
        };
        match min_index::asked(request.headers()) {
            Ok(Some(index)) if index > self.inbox.directory().index() => {
                if let Err(problem) = self.limits.caller(None, peer) {
                    return Reply::Now(Some(self.finish(Some(route), Err(problem), seen)));
                }
                return self.later(route, seen, request, move |door, request| async move {
                    Box::pin(door.caught_up(index, request)).await
                });
            }
            Ok(_) => {}
            Err(problem) => {
                return Reply::Now(Some(self.finish(Some(route), Err(problem), seen)));
            }
        }
        match self.first(route, raw, &request, peer) {
            Step::Done(given) => Reply::Now(Some(self.finish(Some(route), given, seen))),
            Step::Wait(work, caller) => {
                self.later(route, seen, request, move |door, request| async move {
                    door.wait(work, caller, request).await
                })
            }
            Step::Ask => self.later(route, seen, request, move |door, request| async move {
                Box::pin(door.ask(request)).await
            }),
        }
    }

    /// Answers a request for which there is no place.
    pub(super) fn turn_away(&self, request: &Request<Incoming>, peer: IpAddr) -> Reply {
        let route = route::find(request.uri().path()).map(|(route, _)| route);
        let seen = Seen::new(self.traces.as_ref(), request, peer);
        Reply::Now(Some(self.finish(route, Err(self.limits.overloaded()), seen)))
    }

    /// An answer that has to wait for somebody.
    fn later<F>(
        self: &Arc<Self>,
        route: Route,
        seen: Seen,
        request: Request<Incoming>,
        give: impl FnOnce(Arc<Self>, Request<Incoming>) -> F + Send + 'static,
    ) -> Reply
    where
        F: Future<Output = Given> + Send,
    {
        let door = self.clone();
        // Off by default; what is answered at once never comes here.
        let span = debug_span!("request", method = %request.method(), route = route.template());
        let answer = async move {
            let given = give(door.clone(), request).await;
            door.finish(Some(route), given, seen)
        };
        Reply::Later(Box::pin(answer.instrument(span)))
    }

    /// Answers what can be answered at once.
    fn first(
        self: &Arc<Self>,
        route: Route,
        raw: [&str; 2],
        request: &Request<Incoming>,
        peer: IpAddr,
    ) -> Step {
        let names = match self.admit(route, raw, request.method()) {
            Ok(names) => names,
            Err(problem) => return Step::Done(Err(problem)),
        };
        let caller = match self.doorman.wanted(route, request.method(), &names) {
            None => None,
            Some((gate, wanted)) => {
                match gate.known(bearer(request.headers()), &wanted, clock::moment()) {
                    Some(Ok(caller)) => Some(caller),
                    Some(Err(denial)) => return Step::Done(Err(Problem::denied(denial))),
                    None => match self.limits.caller(None, peer) {
                        Ok(()) => return Step::Ask,
                        Err(problem) => return Step::Done(Err(problem)),
                    },
                }
            }
        };
        if let Err(problem) = self.limits.caller(caller.as_deref(), peer) {
            return Step::Done(Err(problem));
        }
        match self.dispatch(route, &names, request) {
            Next::Done(given) => Step::Done(given),
            Next::Wait(work) => Step::Wait(work, caller),
        }
    }

    /// Waits until this replica knows what the caller knows, then goes on as usual.
    async fn caught_up(self: Arc<Self>, index: u64, request: Request<Incoming>) -> Given {
        let waited = min_index::reached(&self, index).await?;
        let given = match self.admit_path(request.uri().path(), request.method()) {
            Ok(()) => Box::pin(self.ask(request)).await,
            Err(problem) => Err(problem),
        };
        match (waited, given) {
            (Waited::Reached, given) => given,
            (Waited::Foreign, Ok(answer)) => Ok(answer.with_static(INDEX_RESET, "true")),
            (Waited::Foreign, Err(problem)) => Err(Problem { index_reset: true, ..problem }),
        }
    }

    fn admit_path(&self, path: &str, method: &Method) -> Result<(), Problem> {
        let unknown = || Problem::new(Kind::UnknownRoute, "no such path");
        let (route, raw) = route::find(path).ok_or_else(unknown)?;
        self.admit(route, raw, method).map(|_| ())
    }

    /// Asks who is calling before anything of the body is read, then goes on as usual.
    async fn ask(self: Arc<Self>, request: Request<Incoming>) -> Given {
        let (route, names) = route_of(request.uri().path())?;
        let caller = match self.doorman.wanted(route, request.method(), &names) {
            None => None,
            Some((gate, wanted)) => {
                let admitted = gate.admit(bearer(request.headers()), &wanted).await;
                Some(admitted.map_err(Problem::denied)?)
            }
        };
        let next = self.dispatch(route, &names, &request);
        match next {
            Next::Done(given) => given,
            Next::Wait(work) => self.wait(work, caller, request).await,
        }
    }

    fn admit<'a>(
        &self,
        route: Route,
        raw: [&'a str; 2],
        method: &Method,
    ) -> Result<Names<'a>, Problem> {
        if !route.allows(method) {
            let allow = route.allow();
            let detail = format!("{} takes {allow}", route.template());
            let problem = Problem::new(Kind::MethodNotAllowed, detail);
            return Err(Problem { allow: Some(allow), ..problem });
        }
        let names = route.names(raw)?;
        // What says why nothing is known yet is there at once, and what needs to know nothing.
        let is_known = matches!(route, Route::Page | Route::Contract | Route::Cluster);
        let may_answer = is_known || self.inbox.directory().is_synced();
        if may_answer { Ok(names) } else { Err(Problem::not_synced()) }
    }

    fn dispatch(
        self: &Arc<Self>,
        route: Route,
        names: &Names<'_>,
        request: &Request<Incoming>,
    ) -> Next {
        let query = request.uri().query();
        match route {
            Route::Page => Next::Wait(Work::Page),
            Route::Contract => Next::Done(contract::contract(query, request.headers())),
            Route::Services => Next::Done(services::list(self, None, query)),
            Route::NamespaceServices => {
                Next::Done(services::list(self, Some(&names.namespace), query))
            }
            Route::Service => {
                let at_once = discover::at_once(self, names, query, request.headers());
                at_once.map_or(Next::Wait(Work::Discover), Next::Done)
            }
            Route::ServiceWatch => Next::Done(watch::one(self, names, query, request.headers())),
            Route::Watch => Next::Wait(Work::Watch),
            Route::Cluster => Next::Done(cluster::cluster(self, query)),
            Route::Snapshot => Next::Done(snapshot::snapshot(self, query)),
            Route::Heartbeat if request.body().is_end_stream() => {
                let at_once = heartbeats::at_once(self, names, query, request.headers());
                at_once.map_or(Next::Wait(Work::Heartbeat), Next::Done)
            }
            Route::Heartbeat => Next::Wait(Work::Heartbeat),
            Route::Heartbeats => Next::Wait(Work::Heartbeats),
            Route::Lease => Next::Wait(Work::RenewLease),
            Route::Attributes => Next::Wait(Work::Attributes),
            Route::State => Next::Wait(Work::State),
            Route::Instances => Next::Wait(Work::RegisterMany),
            Route::ServiceInstances => Next::Wait(Work::RegisterNamed),
            Route::Instance => Next::Wait(match *request.method() {
                Method::PUT => Work::Register,
                Method::DELETE => Work::Deregister,
                _ => Work::Read,
            }),
        }
    }

    /// Answers the rest. Each handler bounds its own waiting.
    async fn wait(
        self: &Arc<Self>,
        work: Work,
        caller: Option<Arc<Caller>>,
        request: Request<Incoming>,
    ) -> Given {
        let (parts, body) = request.into_parts();
        let (_, names) = route_of(parts.uri.path())?;
        let _place = match work {
            // Who waits for a change has a place of another kind.
            Work::Discover | Work::Watch => None,
            _ => Some(self.limits.enter()?),
        };
        if work.is_write_in_one_namespace() {
            self.limits.namespace(&names.namespace, 1)?;
        }
        // What waits for Kubernetes is much to carry along for every beat.
        match work {
            Work::Page => {
                let may_list = Box::pin(self.doorman.may_list_all(bearer(&parts.headers))).await;
                page::page(self, parts.uri.query(), &parts.headers, may_list)
            }
            Work::Register => {
                let caller = caller.as_deref();
                Box::pin(instances::register(self, caller, &names, &parts, body)).await
            }
            Work::RegisterNamed => {
                Box::pin(instances::register_named(self, &names, &parts, body)).await
            }
            Work::Deregister => Box::pin(instances::deregister(self, &names, &parts)).await,
            Work::Read => instances::read(self, &names, &parts).await,
            Work::Discover => {
                // It may wait for minutes: nothing of the request is kept but what it waits for.
                let wait = discover::Waiting::new(&names, &parts)?;
                drop(names);
                drop((parts, body));
                wait.run(self).await
            }
            Work::Watch => watch::many(self, caller.as_deref(), &parts).await,
            Work::Heartbeat => heartbeats::heartbeat(self, &names, &parts, body).await,
            Work::Heartbeats => {
                Box::pin(heartbeats::batch(self, caller.as_deref(), &parts, body)).await
            }
            Work::RenewLease => Box::pin(heartbeats::renew_lease(self, &names, &parts, body)).await,
            Work::Attributes => Box::pin(changes::attributes(self, &names, &parts, body)).await,
            Work::State => Box::pin(changes::state(self, &names, &parts, body)).await,
            Work::RegisterMany => {
                Box::pin(batch::register(self, caller.as_deref(), &parts, body)).await
            }
        }
    }

    /// The answer with the headers that every answer carries.
    fn finish(&self, route: Option<Route>, given: Given, seen: Seen) -> Response<Body> {
        let timed = !given.as_ref().is_ok_and(|answer| answer.waited);
        let index_is_known = given.as_ref().map_or(true, |answer| answer.index_is_known);
        let mut response = given.map_or_else(|problem| problem_response(&problem), response);
        let directory = self.inbox.directory();
        let now = clock::moment();
        let headers = response.headers_mut();
        headers.insert(REPLICA, self.replica.clone());
        if index_is_known {
            headers.insert(INDEX, HeaderValue::from(directory.newest()));
        }
        // Before its first self-beat is back a replica does not know.
        if directory.horizon().0 > 0 {
            headers.insert(AGE, HeaderValue::from(millis(directory.age(now))));
        }
        let stale = if directory.is_stale(now) { "true" } else { "false" };
        headers.insert(STALE, HeaderValue::from_static(stale));
        headers.insert(NO_SNIFF, HeaderValue::from_static("nosniff"));
        if route == Some(Route::Attributes) {
            headers.insert(ACCEPT_PATCH, HeaderValue::from_static(body::PATCH));
        }
        let took = seen.stopwatch.elapsed();
        self.metrics.answered(route, response.status().as_u16(), timed.then_some(took));
        seen.answered(self, route, &mut response, took);
        response
    }
}

/// The route and names of a path that was found to have some before.
fn route_of(path: &str) -> Result<(Route, Names<'_>), Problem> {
    let unknown = || Problem::new(Kind::UnknownRoute, "no such path");
    let (route, raw) = route::find(path).ok_or_else(unknown)?;
    Ok((route, route.names(raw)?))
}

fn response(answer: Answer) -> Response<Body> {
    let content_type = answer.body.content_type();
    let mut response = Response::new(answer.body);
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    // Five of every answer, the type, its own, and those that hyper adds (length, date).
    headers.reserve(10);
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    for (name, value) in answer.headers {
        headers.insert(name, value);
    }
    response
}

fn problem_response(problem: &Problem) -> Response<Body> {
    let mut response = Response::new(Body::new(problem.to_json().into()));
    *response.status_mut() = problem.kind.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    // Some statuses may be kept unless it is said (RFC 9110 §15.1), and none of these lasts.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // RFC 6750 §3.
    let challenge = match problem.kind {
        Kind::Unauthenticated => Some("Bearer realm=\"rollcall\""),
        Kind::BadToken => Some("Bearer realm=\"rollcall\", error=\"invalid_token\""),
        Kind::Forbidden => Some("Bearer realm=\"rollcall\", error=\"insufficient_scope\""),
        _ => None,
    };
    if let Some(challenge) = challenge {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if let Some(seconds) = problem.retry_after {
        // With some chance in it: those who were refused together do not come back together.
        let later = seconds + fastrand::u32(0..=seconds.div_ceil(2));
        headers.insert(RETRY_AFTER, HeaderValue::from(later));
    }
    if problem.index_reset {
        headers.insert(INDEX_RESET, HeaderValue::from_static("true"));
    }
    if let Some(types) = problem.accept {
        headers.insert(ACCEPT, HeaderValue::from_static(types));
    }
    if let Some(allow) = problem.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    if matches!(problem.kind, Kind::SlowBody | Kind::TooLarge) {
        // What is left of the body is not worth reading.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
