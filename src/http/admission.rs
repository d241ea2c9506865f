//! Admission: the checks that all operations share, before a handler is called.
//!
//! Owns: their order. First the names in the path and the syntax of `Rollcall-Min-Index`; then whether this replica has
//! the first list of instances; authentication and authorization; the caller's rate; the wait for the index; the limit
//! of concurrent requests. The middleware wraps the handler of each row of `table`. Does not own: the checks themselves
//! (`access`, `limits`, `min_index`).

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use hyper::{HeaderMap, header::HeaderValue, http::request::Parts};
use rollcall_model::lease::{Moment, Now};
use tokio::sync::OwnedSemaphorePermit;

use crate::auth::Caller;
use crate::http::{
    access::bearer_token,
    app::AppState,
    context::Context,
    headers::INDEX_RESET,
    min_index::{self, IndexWait},
    operation::{Load, Operation},
    problem::Problem,
    route::{OwnedPathNames, PathNames},
};

/// Marks a request that `hot` has admitted, so that its token is not checked again, and its caller is not charged
/// again.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    pub(super) caller: Option<Arc<Caller>>,
    pub(super) now: Now,
}

/// Marks a request over HTTP/2 beyond the limit of open streams.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamLimitReached;

/// The middleware of one operation.
pub(super) async fn admit(
    State((app, operation)): State<(Arc<AppState>, &'static Operation)>,
    ConnectInfo(peer): ConnectInfo<IpAddr>,
    request: Request,
    next: Next,
) -> Response {
    let admission = Admission { app: &app, operation, peer };
    let (mut parts, body) = request.into_parts();
    let (context, waited) = match admission.context(&parts).await {
        Ok(admitted) => admitted,
        Err(problem) => return problem.into_response(),
    };
    let mut response = match admission.acquire_permit(context.names(), context.now.moment) {
        Ok(_permit) => {
            parts.extensions.insert(context);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(problem) => problem.into_response(),
    };
    if waited == IndexWait::Foreign {
        response.headers_mut().insert(INDEX_RESET, HeaderValue::from_static("true"));
    }
    response
}

struct Admission<'a> {
    app: &'a AppState,
    operation: &'static Operation,
    peer: IpAddr,
}

impl Admission<'_> {
    async fn context(&self, parts: &Parts) -> Result<(Context, IndexWait), Problem> {
        if parts.extensions.get::<StreamLimitReached>().is_some() {
            return Err(self.app.limits.overloaded());
        }
        let names = OwnedPathNames::parse(self.operation.route.template(), parts.uri.path())?;
        let index = min_index::parse(&parts.headers)?;
        if index.is_none() {
            self.check_synced()?;
        }
        let Admitted { caller, now } = match parts.extensions.get::<Admitted>() {
            Some(admitted) => admitted.clone(),
            None => self.admit_caller(names.get(), &parts.headers).await?,
        };
        let Some(index) = index else {
            return Ok((Context::new(names, caller, now, self.peer), IndexWait::Reached));
        };
        // Boxed, as below: the future of a waiting request is large, and most requests do not wait.
        let waited = Box::pin(min_index::wait_for(self.app, index)).await?;
        self.check_synced()
            .map_err(|problem| Problem { index_reset: waited == IndexWait::Foreign, ..problem })?;
        Ok((Context::new(names, caller, (self.app.clock)(), self.peer), waited))
    }

    /// Fails unless this replica has the first list of instances, or the operation does not need it.
    fn check_synced(&self) -> Result<(), Problem> {
        let may_answer =
            self.operation.works_before_sync() || self.app.intake.directory().is_synced();
        if may_answer { Ok(()) } else { Err(Problem::not_synced()) }
    }

    /// Authenticates and authorizes the caller, and charges the request to its rate. A request of a caller that is not
    /// cached is charged to its address, which bounds the requests to the API server. A cached denial costs only a
    /// lookup, and is not charged.
    async fn admit_caller(
        &self,
        names: PathNames<'_>,
        headers: &HeaderMap,
    ) -> Result<Admitted, Problem> {
        let Self { app, operation, peer } = *self;
        let now = (app.clock)();
        let charge = |caller: Option<&Caller>| app.limits.charge_caller(caller, peer, now.moment);
        let Some((authorizer, wanted)) =
            app.authorization.wanted(operation.needs, names, operation.names_instance())
        else {
            charge(None)?;
            return Ok(Admitted { caller: None, now });
        };
        let token = bearer_token(headers);
        if let Some(known) = authorizer.known(token, &wanted, now.moment) {
            let caller = known.map_err(Problem::denied)?;
            charge(Some(&caller))?;
            return Ok(Admitted { caller: Some(caller), now });
        }
        charge(None)?;
        let caller = Box::pin(authorizer.admit(token, &wanted)).await.map_err(Problem::denied)?;
        Ok(Admitted { caller: Some(caller), now: (app.clock)() })
    }

    /// A permit to run, held until the handler returns; `None` when the operation does not need one.
    fn acquire_permit(
        &self,
        names: PathNames<'_>,
        now: Moment,
    ) -> Result<Option<OwnedSemaphorePermit>, Problem> {
        let Self { app, operation, .. } = *self;
        if operation.load == Load::Memory {
            return Ok(None);
        }
        let permit = app.limits.enter()?;
        if operation.load == Load::Write {
            app.limits.charge_namespace(names.namespace, 1, now)?;
        }
        Ok(Some(permit))
    }
}
