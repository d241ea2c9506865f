//! A layer that answers 500 where a handler panics: only this request is lost, and the log has the message.

use std::any::Any;

use axum::response::{IntoResponse as _, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::error;

use crate::http::problem::Problem;

/// The layer.
pub(super) fn panics() -> CatchPanicLayer<fn(Box<dyn Any + Send>) -> Response> {
    CatchPanicLayer::custom(panicked)
}

#[expect(clippy::needless_pass_by_value, reason = "the layer gives it away")]
fn panicked(payload: Box<dyn Any + Send>) -> Response {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
    error!(
        panic = text,
        "a request could not be answered: this is a bug in rollcall, please report it"
    );
    Problem::internal("this is a bug in rollcall; its log has the message").into_response()
}
