//! Changes to a part of an instance: its attributes, and the operator's word.

use std::sync::Arc;

use axum::extract::State;
use hyper::StatusCode;
use rollcall_core::slot::Slot;
use rollcall_model::instance::State as OperatorState;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::heartbeat::{Change, Target};
use crate::http::{
    answer::Answered,
    app::App,
    body::{self, BodyOf, Entries, MAX_ENTRIES, MergePatch, Object, One},
    context::Context,
    contract::words,
    instances,
    preconditions::{Attempts, IfMatch},
    problem::{Flaw, Kind, Problem},
    query::{Query, Uid},
    validate,
};

/// The operator's word on an instance.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StateChange")]
pub(super) struct StateBody {
    /// From now on.
    #[schemars(with = "words::State")]
    state: String,
}

/// `PATCH /v1/namespaces/{namespace}/instances/{name}/attributes`: a JSON merge patch (RFC 7396).
pub(super) async fn attributes(
    State(app): State<Arc<App>>,
    context: Context,
    Query(uid): Query<Uid>,
    condition: IfMatch,
    BodyOf(body, _): BodyOf<MergePatch>,
) -> Answered {
    let attributes = body::json::<Entries<Option<String>>>(&body)?;
    if attributes.are_more {
        let flaw = Flaw::body("attributes", format!("at most {MAX_ENTRIES} attributes at a time"));
        return Err(Problem::of(Kind::BadFields, vec![flaw]));
    }
    validate::patch(&attributes.entries)?;
    let write =
        Wanted { verb: "change attributes", change: Change::Attributes(attributes.entries) };
    write.run(&app, &context, &uid, condition).await
}

/// `PUT /v1/namespaces/{namespace}/instances/{name}/state`
pub(super) async fn state(
    State(app): State<Arc<App>>,
    context: Context,
    Query(uid): Query<Uid>,
    condition: IfMatch,
    BodyOf(body, _): BodyOf<One>,
) -> Answered {
    let Object(StateBody { state }) = body::json::<Object<StateBody>>(&body)?;
    let state = OperatorState::parse(&state).ok_or_else(|| {
        let words: Vec<&str> = OperatorState::ALL.iter().map(|state| state.as_str()).collect();
        let flaw = Flaw::body("state", format!("must be one of {}", words.join(", ")));
        Problem::of(Kind::BadFields, vec![flaw])
    })?;
    let write = Wanted { verb: "set state", change: Change::State(state) };
    write.run(&app, &context, &uid, condition).await
}

/// A change, and its name in the log.
struct Wanted {
    verb: &'static str,
    change: Change,
}

impl Wanted {
    async fn run(&self, app: &App, context: &Context, uid: &Uid, condition: IfMatch) -> Answered {
        let target = context.names().target(uid.get());
        let line = app.writes.begin(context, self.verb, &target);
        let changed = self.write(app, target, condition).await;
        match &changed {
            Ok(slot) => line.end(Ok((StatusCode::OK, &slot.record().uid))),
            Err(problem) => line.end(Err(problem)),
        }
        Ok(instances::one(app, StatusCode::OK, &*changed?, (app.clock)()))
    }

    async fn write(
        &self,
        app: &App,
        target: Target<'_>,
        condition: IfMatch,
    ) -> Result<Arc<Slot>, Problem> {
        let mut attempts = Attempts::new(app, target, condition).await?;
        loop {
            match app.intake.change(attempts.target(), &self.change).await {
                Ok(slot) => return Ok(slot),
                Err(refusal) => attempts.again(refusal)?,
            }
        }
    }
}
