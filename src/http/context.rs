//! The context of a request: the results of its admission.
//!
//! Owns: [`Context`], which a handler takes as an argument. Does not own: admission (`admission`).

use std::{net::IpAddr, sync::Arc};

use axum::extract::FromRequestParts;
use hyper::http::request::Parts;
use rollcall_model::lease::Now;

use crate::auth::Caller;
use crate::http::{
    problem::Problem,
    route::{OwnedPathNames, PathNames},
};

/// The error of a route without the admission middleware.
const NOT_ADMITTED: &str = "the request was not admitted; this is a bug in rollcall";

/// The context of an admitted request.
#[derive(Clone, Debug)]
pub(super) struct Context {
    names: OwnedPathNames,
    /// The caller; `None` when the operation does not need a token.
    pub(super) caller: Option<Arc<Caller>>,
    /// The time of admission.
    pub(super) now: Now,
    pub(super) peer: IpAddr,
}

impl Context {
    pub(super) fn new(
        names: OwnedPathNames,
        caller: Option<Arc<Caller>>,
        now: Now,
        peer: IpAddr,
    ) -> Self {
        Self { names, caller, now, peer }
    }

    /// The names in its path.
    pub(super) fn names(&self) -> PathNames<'_> {
        self.names.get()
    }

    pub(super) fn caller(&self) -> Option<&Caller> {
        self.caller.as_deref()
    }
}

impl<S: Sync> FromRequestParts<S> for Context {
    type Rejection = Problem;

    /// Moves the context out of the request, so that the handler can drop the request early.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.remove().ok_or_else(|| Problem::internal(NOT_ADMITTED))
    }
}
