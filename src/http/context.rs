//! The context of a request: what was found out about it before its handler is called.
//!
//! Owns: [`Context`], which a handler takes as an argument. Does not own: finding it out (`admission`).

use std::{net::IpAddr, sync::Arc};

use axum::extract::FromRequestParts;
use hyper::http::request::Parts;
use rollcall_model::lease::Now;

use crate::auth::Caller;
use crate::http::{
    problem::Problem,
    route::{Names, OwnedNames},
};

/// A request that was admitted.
#[derive(Clone, Debug)]
pub(super) struct Context {
    names: OwnedNames,
    /// Whose token it bore; none where no token is asked for.
    pub(super) caller: Option<Arc<Caller>>,
    /// When it came.
    pub(super) now: Now,
    pub(super) peer: IpAddr,
}

impl Context {
    pub(super) fn new(
        names: OwnedNames,
        caller: Option<Arc<Caller>>,
        now: Now,
        peer: IpAddr,
    ) -> Self {
        Self { names, caller, now, peer }
    }

    /// The names in its path.
    pub(super) fn names(&self) -> Names<'_> {
        self.names.get()
    }

    pub(super) fn caller(&self) -> Option<&Caller> {
        self.caller.as_deref()
    }
}

impl<S: Sync> FromRequestParts<S> for Context {
    type Rejection = Problem;

    /// Taken out: a handler has one, and keeps it no longer than it needs.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.remove().ok_or_else(|| Problem::internal("a request was not admitted"))
    }
}
