//! The router: builds the axum router from the table of operations.
//!
//! Owns: the layers around a handler. From the outside in: `observe` and the panic handler around each route and the
//! fallback; `admission` around each operation. A layer or handler that refuses a request answers with a problem.

use std::sync::Arc;

use axum::{
    Router,
    handler::Handler as _,
    http::Uri,
    middleware::from_fn_with_state,
    routing::{MethodFilter, MethodRouter},
};
use hyper::Method;
use tower::ServiceBuilder;

use crate::http::{
    admission::admit, app::AppState, observe::observe, operation::Operation, panics::panics,
    problem::Problem, route::Route,
};

/// The order in which `Allow` names methods.
const ORDER: [Method; 6] =
    [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::PATCH, Method::DELETE];

/// Every route of the API.
pub(super) fn router(app: &Arc<AppState>, operations: &'static [Operation]) -> Router {
    let mut router = Router::new();
    let layers = |route| {
        let observe = from_fn_with_state((app.clone(), route), observe);
        ServiceBuilder::new().layer(observe).layer(panics())
    };
    for route in Route::ALL {
        let methods = methods(app, operations, route).layer(layers(Some(route)));
        router = router.route(route.template(), methods);
    }
    let fallback = unknown_route.layer(layers(None)).with_state(());
    router.fallback_service(fallback).with_state(app.clone())
}

/// The methods of a route; any other is refused with 405.
fn methods(
    app: &Arc<AppState>,
    operations: &'static [Operation],
    route: Route,
) -> MethodRouter<Arc<AppState>> {
    let mut methods = MethodRouter::new();
    for operation in operations.iter().filter(|operation| operation.route == route) {
        // axum supports every method of the table.
        let Ok(filter) = MethodFilter::try_from(operation.method.clone()) else { continue };
        let admission = from_fn_with_state((app.clone(), operation), admit);
        methods = methods.merge((operation.handler)(filter).route_layer(admission));
    }
    let allow = allow(operations, route);
    methods.fallback(move || async move { Problem::method_not_allowed(route.template(), allow) })
}

/// The methods of a route, in the form of the header `Allow` (RFC 9110 §10.2.1).
pub(super) fn allow(operations: &[Operation], route: Route) -> String {
    let has = |method: &&Method| {
        let method = if **method == Method::HEAD { &Method::GET } else { *method };
        operations.iter().any(|it| it.route == route && it.method == *method)
    };
    let methods: Vec<&str> = ORDER.iter().filter(has).map(Method::as_str).collect();
    methods.join(", ")
}

async fn unknown_route(uri: Uri) -> Problem {
    Problem::unknown_route(uri.path())
}

#[cfg(test)]
mod tests;
