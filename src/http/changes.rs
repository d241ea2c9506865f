//! Changes to a part of an instance: its attributes, and the operator state.

use std::sync::Arc;

use axum::extract::State;
use hyper::StatusCode;
use rollcall_core::slot::Slot;
use rollcall_model::instance::State as OperatorState;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::heartbeat::{Change, Target};
use crate::http::{
    answer::HandlerResult,
    app::AppState,
    body::{self, Entries, MAX_ENTRIES, MergePatch, Object, RequestBody, SingleInstance},
    context::Context,
    contract::values,
    instances,
    preconditions::{Attempts, IfMatch},
    problem::{Flaw, Problem, ProblemKind},
    query::{Query, Uid},
    validate,
};

/// The new operator state of an instance.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StateChange")]
pub(super) struct StateBody {
    /// The operator state from now on.
    #[schemars(with = "values::State")]
    state: String,
}

/// `PATCH /v1/namespaces/{namespace}/instances/{name}/attributes`: a JSON merge patch (RFC 7396).
pub(super) async fn attributes(
    State(app): State<Arc<AppState>>,
    context: Context,
    Query(uid): Query<Uid>,
    condition: IfMatch,
    RequestBody(body, _): RequestBody<MergePatch>,
) -> HandlerResult {
    let attributes = body::json::<Entries<Option<String>>>(&body)?;
    if attributes.has_more {
        let flaw = Flaw::body(
            "attributes",
            format!("must have at most {MAX_ENTRIES} attributes in one patch"),
        );
        return Err(Problem::from_flaws(ProblemKind::BadFields, vec![flaw]));
    }
    validate::patch(&attributes.entries)?;
    let change =
        LoggedChange { verb: "change attributes", change: Change::Attributes(attributes.entries) };
    change.run(&app, &context, &uid, condition).await
}

/// `PUT /v1/namespaces/{namespace}/instances/{name}/state`
pub(super) async fn state(
    State(app): State<Arc<AppState>>,
    context: Context,
    Query(uid): Query<Uid>,
    condition: IfMatch,
    RequestBody(body, _): RequestBody<SingleInstance>,
) -> HandlerResult {
    let Object(StateBody { state }) = body::json::<Object<StateBody>>(&body)?;
    let state = OperatorState::parse(&state).ok_or_else(|| {
        let states: Vec<&str> = OperatorState::ALL.iter().map(|state| state.as_str()).collect();
        let flaw = Flaw::body("state", format!("must be one of {}", states.join(", ")));
        Problem::from_flaws(ProblemKind::BadFields, vec![flaw])
    })?;
    let change = LoggedChange { verb: "set state", change: Change::State(state) };
    change.run(&app, &context, &uid, condition).await
}

/// A change, and its name in the write log.
struct LoggedChange {
    verb: &'static str,
    change: Change,
}

impl LoggedChange {
    async fn run(
        &self,
        app: &AppState,
        context: &Context,
        uid: &Uid,
        condition: IfMatch,
    ) -> HandlerResult {
        let target = context.names().target(uid.get());
        let line = app.writes.begin(context, self.verb, &target);
        let changed = self.apply(app, target, condition).await;
        match &changed {
            Ok(slot) => line.end(Ok((StatusCode::OK, &slot.record().uid))),
            Err(problem) => line.end(Err(problem)),
        }
        Ok(instances::answer(app, StatusCode::OK, &*changed?, (app.clock)()))
    }

    async fn apply(
        &self,
        app: &AppState,
        target: Target<'_>,
        condition: IfMatch,
    ) -> Result<Arc<Slot>, Problem> {
        let mut attempts = Attempts::new(app, target, condition).await?;
        loop {
            match app.intake.change(attempts.target(), &self.change).await {
                Ok(slot) => return Ok(slot),
                Err(refusal) => attempts.retry(refusal)?,
            }
        }
    }
}
