//! A layer that answers 500 when a handler panics: only that request fails, and the panic message is logged.

use std::any::Any;

use axum::response::{IntoResponse as _, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::error;

use crate::http::problem::Problem;

pub(super) fn panics() -> CatchPanicLayer<fn(Box<dyn Any + Send>) -> Response> {
    CatchPanicLayer::custom(answer_panic)
}

#[expect(clippy::needless_pass_by_value, reason = "the layer passes the payload by value")]
fn answer_panic(payload: Box<dyn Any + Send>) -> Response {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
    error!(panic = text, "a request handler panicked: this is a bug in rollcall, please report it");
    Problem::internal("this is a bug in rollcall; its log has the message").into_response()
}
