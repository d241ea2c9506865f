//! Heartbeats: one, many at once, and the renewal of a lease with another length.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::extract::State;
use futures::stream::{FuturesUnordered, StreamExt as _};
use hyper::{StatusCode, header::CONNECTION};
use rollcall_model::{instance::HealthReport, lease::Now, naming};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tracing::debug;

use crate::auth::Right;
use crate::heartbeat::{AcceptedHeartbeat, Refusal, Target};
use crate::http::{
    answer::{Answer, Answered},
    app::App,
    body::{self, BodyOf, Many, Object, One, Whole},
    context::Context,
    contract::words,
    encode::Renewal,
    list::List,
    preconditions::{Attempts, IfMatch, Instead, NoConditions},
    problem::{Flaw, Kind, Problem},
    query::{Query, Uid},
    rules::{MAX_BEATS, MAX_NOTE},
    validate,
};
use crate::telemetry::heartbeats::HeartbeatResult;

/// Beats of one batch that wait for Kubernetes at a time: as many as the writer does at once.
const AT_ONCE: usize = 32;

/// How long a batch waits for those of its beats that need Kubernetes; the rest are already
/// counted by then, and those left over are told so.
const BATCH_WITHIN: Duration = Duration::from_secs(10);

/// What a beat needs.
const RIGHTS: &[Right] = &[Right::Heartbeat];

/// What an instance says with its heartbeat.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Heartbeat")]
pub(super) struct HeartbeatBody {
    /// What it says of itself from now on. Stopping: it is leaving, and no longer discoverable until it says Passing.
    #[schemars(with = "Option<words::HealthReport>")]
    health: Option<String>,
    /// For the replica's log.
    #[schemars(with = "Option<words::Note>")]
    note: Option<String>,
}

/// Another length of a lease.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "LeaseLength")]
pub(super) struct LengthBody {
    /// How long a heartbeat is good for, from now on.
    #[schemars(with = "words::LeaseSeconds")]
    duration_seconds: Option<Whole>,
}

/// Heartbeats of many instances.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HeartbeatBatch")]
pub(super) struct BatchBody<'a> {
    /// Each is counted, or listed in the answer with the reason.
    #[serde(borrow)]
    #[schemars(length(max = words::BEATS))]
    instances: List<Object<BatchBeat<'a>>, MAX_BEATS>,
}

/// One heartbeat of a batch.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HeartbeatOfBatch")]
pub(super) struct BatchBeat<'a> {
    /// Where it is registered.
    #[serde(borrow)]
    #[schemars(with = "words::Label")]
    namespace: Cow<'a, str>,
    /// Its name there.
    #[serde(borrow)]
    #[schemars(with = "words::Subdomain")]
    name: Cow<'a, str>,
    /// This incarnation and no other.
    uid: Option<Cow<'a, str>>,
    /// What it says of itself from now on, as in a heartbeat of its own.
    #[schemars(with = "Option<words::HealthReport>")]
    health: Option<Cow<'a, str>>,
}

/// What came of a batch: counts, then who was not counted and why.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "HeartbeatBatchResult")]
pub(super) struct BatchAnswer<'a> {
    /// How many leases were renewed.
    renewed: u64,
    /// How many were noted on this replica only, as 202 says of one.
    recorded: u64,
    /// Register them again.
    unknown: Vec<Uncounted<'a>>,
    /// They were evicted lately: register them again.
    gone: Vec<Uncounted<'a>>,
    /// Each says why.
    refused: Vec<Uncounted<'a>>,
    /// The newest version of those that were counted.
    #[serde(skip)]
    newest: u64,
}

/// A heartbeat that was not counted, and why.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "UncountedHeartbeat")]
struct Uncounted<'a> {
    /// As it was said.
    namespace: &'a str,
    /// As it was said.
    name: &'a str,
    /// Why, for people.
    reason: Cow<'static, str>,
}

/// Instead of a condition.
pub(super) enum ByUid {}

impl Instead for ByUid {
    const INSTEAD: &'static str = "is not held for heartbeats: ?uid=, or in a batch the uid of each, says which \
                                   incarnation is meant";
}

/// The answer to a heartbeat without a body that changes nothing; none when it may have to wait.
pub(super) fn at_once(app: &App, target: &Target<'_>, now: Now) -> Option<Answer> {
    let beaten = app.intake.heartbeat_from_memory(target, None, now.moment)?;
    app.metrics.beats(taken(&beaten), 1);
    Some(renewed(app, &beaten, now))
}

/// `PUT /v1/namespaces/{namespace}/instances/{name}/heartbeat`
pub(super) async fn heartbeat(
    State(app): State<Arc<App>>,
    context: Context,
    _: NoConditions<ByUid>,
    Query(uid): Query<Uid>,
    BodyOf(bytes, _): BodyOf<One>,
) -> Answered {
    let said = if bytes.is_empty() {
        HeartbeatBody::default()
    } else {
        body::json::<Object<HeartbeatBody>>(&bytes)?.0
    };
    let health = said.health.as_deref().map(validate::health).transpose()?;
    let target = context.names().target(uid.get());
    let (namespace, name) = (target.namespace, target.name);
    if let Some(note) = said.note {
        if note.chars().count() > MAX_NOTE {
            let flaw = Flaw::body("note", format!("at most {MAX_NOTE} characters"));
            return Err(Problem::of(Kind::BadFields, vec![flaw]));
        }
        debug!(
            namespace,
            name,
            health = health.map(HealthReport::as_str),
            note,
            "an instance says"
        );
    }
    let beaten = app.intake.heartbeat(&target, health).await;
    app.metrics.beats(result(&beaten), 1);
    let beaten = beaten.map_err(|refusal| Problem::refused(refusal, namespace, name))?;
    Ok(renewed(&app, &beaten, (app.clock)()))
}

/// `PUT /v1/namespaces/{namespace}/instances/{name}/lease`
pub(super) async fn renew_lease(
    State(app): State<Arc<App>>,
    context: Context,
    Query(uid): Query<Uid>,
    condition: IfMatch,
    BodyOf(bytes, _): BodyOf<One>,
) -> Answered {
    let Object(asked) = body::json::<Object<LengthBody>>(&bytes)?;
    let duration = validate::duration(asked.duration_seconds)?;
    let target = context.names().target(uid.get());
    let line = app.writes.begin(&context, "renew lease", &target);
    let beaten = change_length(&app, target, condition, duration).await;
    match &beaten {
        Ok(beaten) => line.end(Ok((status(beaten), &beaten.slot.record().uid))),
        Err(problem) => line.end(Err(problem)),
    }
    Ok(renewed(&app, &beaten?, (app.clock)()))
}

async fn change_length(
    app: &App,
    target: Target<'_>,
    condition: IfMatch,
    duration: Duration,
) -> Result<AcceptedHeartbeat, Problem> {
    let mut attempts = Attempts::new(app, target, condition).await?;
    loop {
        let beaten = app.intake.renew_lease(attempts.target(), duration).await;
        app.metrics.beats(result(&beaten), 1);
        match beaten {
            Ok(beaten) => return Ok(beaten),
            Err(refusal) => attempts.again(refusal)?,
        }
    }
}

/// `POST /v1/heartbeats`
pub(super) async fn batch(
    State(app): State<Arc<App>>,
    context: Context,
    _: NoConditions<ByUid>,
    Query(()): Query<()>,
    BodyOf(bytes, _): BodyOf<Many>,
) -> Answered {
    let Object(BatchBody { instances }) = body::json::<Object<BatchBody<'_>>>(&bytes)?;
    if instances.is_longer {
        let flaw = Flaw::body("instances", format!("at most {MAX_BEATS} at a time"));
        return Err(Problem::of(Kind::BadFields, vec![flaw]));
    }
    let instances = instances.items;
    let mut answer = BatchAnswer::default();
    let mut unavailable = 0;
    let mut slow = Vec::new();
    let names = instances.iter().map(|Object(beat)| (&*beat.namespace, &*beat.name));
    let own = app.authorization.own(context.caller(), RIGHTS, names.clone());
    let others = names.zip(&own).filter(|(_, own)| !**own).map(|((namespace, _), _)| namespace);
    let closed = app.authorization.closed(context.caller(), RIGHTS, others).await?;
    for (Object(beat), own) in instances.iter().zip(&own) {
        match beat.read() {
            Err(reason) => answer.refused.push(beat.uncounted(reason)),
            Ok((target, health)) => match closed.get(target.namespace) {
                Some(problem) if !own => {
                    unavailable += u64::from(problem.kind == Kind::Unavailable);
                    answer.refused.push(beat.uncounted(problem.detail.clone()));
                }
                _ => {
                    match app.intake.heartbeat_from_memory(&target, health, (app.clock)().moment) {
                        Some(beaten) => answer.count(&beaten),
                        None => slow.push((beat, target, health)),
                    }
                }
            },
        }
    }
    if !slow.is_empty() {
        unavailable += ask(&app, &slow, &mut answer).await;
    }
    let refused = answer.refused.len() as u64 - unavailable;
    app.metrics.beats(HeartbeatResult::Renewed, answer.renewed);
    app.metrics.beats(HeartbeatResult::Recorded, answer.recorded);
    app.metrics.beats(HeartbeatResult::Unknown, answer.unknown.len() as u64);
    app.metrics.beats(HeartbeatResult::Gone, answer.gone.len() as u64);
    app.metrics.beats(HeartbeatResult::Refused, refused);
    app.metrics.beats(HeartbeatResult::Unavailable, unavailable);
    app.intake.directory().raise_newest(answer.newest);
    Ok(Answer::json(StatusCode::OK, &answer))
}

type Slow<'a> = (&'a BatchBeat<'a>, Target<'a>, Option<HealthReport>);

/// The beats that need Kubernetes, some at a time and for a bounded time in all. Answers how many
/// were refused only because it could not be asked.
async fn ask<'a>(app: &App, slow: &[Slow<'a>], answer: &mut BatchAnswer<'a>) -> u64 {
    let mut unavailable = 0;
    let mut open = vec![true; slow.len()];
    let mut waiting = slow.iter().enumerate();
    let begin = |(at, (_, target, health)): (usize, &'_ Slow<'a>)| {
        let (target, health) = (*target, *health);
        async move { (at, app.intake.heartbeat(&target, health).await) }
    };
    let mut asked: FuturesUnordered<_> = waiting.by_ref().take(AT_ONCE).map(begin).collect();
    let too_late = sleep(BATCH_WITHIN);
    tokio::pin!(too_late);
    loop {
        let (at, outcome) = tokio::select! {
            next = asked.next() => match next {
                Some(next) => next,
                None => break,
            },
            () = &mut too_late => break,
        };
        asked.extend(waiting.next().map(begin));
        if let (Some(open), Some((beat, ..))) = (open.get_mut(at), slow.get(at)) {
            *open = false;
            unavailable += u64::from(result(&outcome) == HeartbeatResult::Unavailable);
            answer.note(beat, outcome);
        }
    }
    for ((beat, ..), _) in slow.iter().zip(open).filter(|(_, open)| *open) {
        unavailable += 1;
        answer.refused.push(beat.uncounted("Kubernetes was not asked in time; send it again"));
    }
    unavailable
}

impl BatchBeat<'_> {
    fn read(&self) -> Result<(Target<'_>, Option<HealthReport>), &'static str> {
        if !naming::is_label(&self.namespace) {
            return Err("the namespace is no DNS label");
        }
        if !naming::is_subdomain(&self.name) {
            return Err("the name is no DNS subdomain");
        }
        let health = match self.health.as_deref() {
            None => None,
            Some(word) => Some(
                HealthReport::parse(word)
                    .ok_or("health must be Passing, Warning, Critical or Stopping")?,
            ),
        };
        let (namespace, name) = (&*self.namespace, &*self.name);
        let target = Target { namespace, name, uid: self.uid.as_deref(), version: None };
        Ok((target, health))
    }

    fn uncounted(&self, reason: impl Into<Cow<'static, str>>) -> Uncounted<'_> {
        Uncounted { namespace: &self.namespace, name: &self.name, reason: reason.into() }
    }
}

impl<'a> BatchAnswer<'a> {
    fn count(&mut self, beaten: &AcceptedHeartbeat) {
        self.newest = self.newest.max(beaten.slot.record().resource_version);
        if beaten.recorded {
            self.recorded += 1;
        } else {
            self.renewed += 1;
        }
    }

    fn note(&mut self, beat: &'a BatchBeat<'a>, outcome: Result<AcceptedHeartbeat, Refusal>) {
        match outcome {
            Ok(beaten) => self.count(&beaten),
            Err(refusal) => {
                let result = result_of(&refusal);
                let list = match result {
                    HeartbeatResult::Unknown => &mut self.unknown,
                    HeartbeatResult::Gone => &mut self.gone,
                    _ => &mut self.refused,
                };
                let problem = Problem::refused(refusal, &beat.namespace, &beat.name);
                list.push(beat.uncounted(problem.detail));
            }
        }
    }
}

fn result(outcome: &Result<AcceptedHeartbeat, Refusal>) -> HeartbeatResult {
    match outcome {
        Ok(beaten) => taken(beaten),
        Err(refusal) => result_of(refusal),
    }
}

fn taken(beaten: &AcceptedHeartbeat) -> HeartbeatResult {
    if beaten.recorded { HeartbeatResult::Recorded } else { HeartbeatResult::Renewed }
}

fn result_of(refusal: &Refusal) -> HeartbeatResult {
    match refusal {
        Refusal::Unknown | Refusal::NamespaceMissing => HeartbeatResult::Unknown,
        Refusal::Gone(_) => HeartbeatResult::Gone,
        Refusal::Away { .. } | Refusal::Incapable(_) | Refusal::Unserved => {
            HeartbeatResult::Unavailable
        }
        Refusal::OtherUid(_)
        | Refusal::OtherVersion(_)
        | Refusal::NotCovered(_)
        | Refusal::Terminating(_)
        | Refusal::Invalid(_)
        | Refusal::Refused { .. } => HeartbeatResult::Refused,
    }
}

/// The status of a heartbeat that was taken.
fn status(beaten: &AcceptedHeartbeat) -> StatusCode {
    if beaten.recorded { StatusCode::ACCEPTED } else { StatusCode::OK }
}

fn renewed(app: &App, beaten: &AcceptedHeartbeat, now: Now) -> Answer {
    let (directory, record) = (app.intake.directory(), beaten.slot.record());
    // The annotation, the health or the lease that it rests on may have been written here just now.
    directory.raise_newest(record.resource_version);
    let renewal = Renewal::new(record.lease, directory.deadline(&beaten.slot), now);
    let answer = Answer::json(status(beaten), &renewal);
    // Another replica may be able to promise more: the next connection may find it.
    if beaten.fenced { answer.with_static(CONNECTION, "close") } else { answer }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_read_without_copying_and_its_faults_are_named() {
        let text = br#"{"instances": [{"namespace": "shop", "name": "a"}, {"namespace": "shop",
            "name": "b", "uid": "u", "health": "Warning"}]}"#;
        let Object(batch) = body::json::<Object<BatchBody<'_>>>(text).unwrap();
        assert!(matches!(batch.instances.items[0].0.name, Cow::Borrowed("a")));
        let (target, health) = batch.instances.items[1].0.read().unwrap();
        assert_eq!((target.uid, health), (Some("u"), Some(HealthReport::Warning)));

        let text = br#"{"instances": [{"namespace": "shop", "name": "a"}, {"name": "b"}]}"#;
        let problem = body::json::<Object<BatchBody<'_>>>(text).unwrap_err();
        assert_eq!(problem.flaws[0].field, "instances[1].namespace");
    }

    #[test]
    fn one_illegal_beat_does_not_spoil_the_batch() {
        for (namespace, name, health) in
            [("Shop", "a", None), ("shop", "A", None), ("shop", "a", Some("passing"))]
        {
            let health = health.map(Cow::Borrowed);
            let beat =
                BatchBeat { namespace: namespace.into(), name: name.into(), uid: None, health };
            assert!(beat.read().is_err(), "{beat:?}");
        }
    }
}
