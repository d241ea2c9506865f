//! Heartbeats: single, in batches, and the renewal of a lease with another length.
//!
//! Owns: these calls and their bodies. Does not own: recording a heartbeat (`heartbeat`).

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
    answer::{Answer, HandlerResult},
    app::AppState,
    body::{self, Integer, ManyInstances, Object, RequestBody, SingleInstance},
    context::Context,
    contract::values,
    encode::Renewal,
    list::List,
    preconditions::{Attempts, ConditionAdvice, IfMatch, NoConditions},
    problem::{Flaw, Problem, ProblemKind},
    query::{Query, Uid},
    rules::{MAX_HEARTBEATS, MAX_NOTE},
    validate,
};
use crate::telemetry::heartbeats::HeartbeatResult;

/// The number of heartbeats of one batch that wait for Kubernetes concurrently: as many as the writer sends
/// concurrently.
const MAX_CONCURRENT: usize = 32;

/// How long a batch waits for the heartbeats that need Kubernetes. Those that are not finished by then are refused with
/// that reason; all others were recorded before.
const BATCH_TIMEOUT: Duration = Duration::from_secs(10);

/// The rights that a heartbeat needs.
const RIGHTS: &[Right] = &[Right::Heartbeat];

/// The optional body of a heartbeat.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Heartbeat")]
pub(super) struct HeartbeatBody {
    /// The health of the instance from now on. Stopping: the instance is leaving, and is not discoverable until it
    /// reports Passing.
    #[schemars(with = "Option<values::HealthReport>")]
    health: Option<String>,
    /// A note for the replica's log.
    #[schemars(with = "Option<values::Note>")]
    note: Option<String>,
}

/// The new length of a lease.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "LeaseLength")]
pub(super) struct LeaseLengthBody {
    /// How long a heartbeat renews the lease from now on.
    #[schemars(with = "values::LeaseSeconds")]
    duration_seconds: Option<Integer>,
}

/// Heartbeats of many instances.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HeartbeatBatch")]
pub(super) struct BatchBody<'a> {
    /// The heartbeats. The response counts each of them, or lists it with a reason.
    #[serde(borrow)]
    #[schemars(length(max = values::MAX_HEARTBEATS))]
    instances: List<Object<BatchHeartbeat<'a>>, MAX_HEARTBEATS>,
}

/// One heartbeat of a batch.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HeartbeatOfBatch")]
pub(super) struct BatchHeartbeat<'a> {
    /// The namespace of the instance.
    #[serde(borrow)]
    #[schemars(with = "values::Label")]
    namespace: Cow<'a, str>,
    /// The name of the instance in its namespace.
    #[serde(borrow)]
    #[schemars(with = "values::Subdomain")]
    name: Cow<'a, str>,
    /// The uid that the instance must have.
    uid: Option<Cow<'a, str>>,
    /// The health of the instance from now on, as in a single heartbeat.
    #[schemars(with = "Option<values::HealthReport>")]
    health: Option<Cow<'a, str>>,
}

/// The result of a batch: counts, and the heartbeats that were not counted.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "HeartbeatBatchResult")]
pub(super) struct BatchResult<'a> {
    /// How many leases were renewed.
    renewed: u64,
    /// How many were recorded on this replica only, which is 202 for a single heartbeat.
    recorded: u64,
    /// Instances that do not exist: register them again.
    unknown: Vec<UncountedHeartbeat<'a>>,
    /// Instances that were evicted recently: register them again.
    gone: Vec<UncountedHeartbeat<'a>>,
    /// Heartbeats that were refused for other reasons.
    refused: Vec<UncountedHeartbeat<'a>>,
    /// The newest resourceVersion of the counted instances.
    #[serde(skip)]
    newest: u64,
}

/// A heartbeat that was not counted, and why.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "UncountedHeartbeat")]
struct UncountedHeartbeat<'a> {
    /// The namespace from the request.
    namespace: &'a str,
    /// The name from the request.
    name: &'a str,
    /// Why the heartbeat was not counted, for people.
    reason: Cow<'static, str>,
}

/// A heartbeat accepts a uid instead of a condition.
pub(super) enum UseUid {}

impl ConditionAdvice for UseUid {
    const ADVICE: &'static str = "is not supported for heartbeats; name the incarnation with ?uid=, or with the uid \
                                   of each heartbeat of a batch";
}

/// The answer to a heartbeat without a body that can be recorded in memory; `None` when it has to wait for Kubernetes.
pub(super) fn renew_from_memory(app: &AppState, target: &Target<'_>, now: Now) -> Option<Answer> {
    let accepted = app.intake.heartbeat_from_memory(target, None, now.moment)?;
    app.metrics.record_heartbeats(accepted_result(&accepted), 1);
    Some(renewal_answer(app, &accepted, now))
}

/// `PUT /v1/namespaces/{namespace}/instances/{name}/heartbeat`
pub(super) async fn heartbeat(
    State(app): State<Arc<AppState>>,
    context: Context,
    _: NoConditions<UseUid>,
    Query(uid): Query<Uid>,
    RequestBody(bytes, _): RequestBody<SingleInstance>,
) -> HandlerResult {
    let body = if bytes.is_empty() {
        HeartbeatBody::default()
    } else {
        body::json::<Object<HeartbeatBody>>(&bytes)?.0
    };
    let health = body.health.as_deref().map(validate::health).transpose()?;
    let target = context.names().target(uid.get());
    let (namespace, name) = (target.namespace, target.name);
    if let Some(note) = body.note {
        if note.chars().count() > MAX_NOTE {
            let flaw = Flaw::body("note", format!("must have at most {MAX_NOTE} characters"));
            return Err(Problem::from_flaws(ProblemKind::BadFields, vec![flaw]));
        }
        debug!(
            namespace,
            name,
            health = health.map(HealthReport::as_str),
            note,
            "received a note with a heartbeat"
        );
    }
    let accepted = app.intake.heartbeat(&target, health).await;
    app.metrics.record_heartbeats(heartbeat_result(&accepted), 1);
    let accepted = accepted.map_err(|refusal| Problem::refused(refusal, namespace, name))?;
    Ok(renewal_answer(&app, &accepted, (app.clock)()))
}

/// `PUT /v1/namespaces/{namespace}/instances/{name}/lease`
pub(super) async fn renew_lease(
    State(app): State<Arc<AppState>>,
    context: Context,
    Query(uid): Query<Uid>,
    condition: IfMatch,
    RequestBody(bytes, _): RequestBody<SingleInstance>,
) -> HandlerResult {
    let Object(body) = body::json::<Object<LeaseLengthBody>>(&bytes)?;
    let duration = validate::duration(body.duration_seconds)?;
    let target = context.names().target(uid.get());
    let line = app.writes.begin(&context, "renew lease", &target);
    let accepted = change_length(&app, target, condition, duration).await;
    match &accepted {
        Ok(accepted) => line.end(Ok((status(accepted), &accepted.slot.record().uid))),
        Err(problem) => line.end(Err(problem)),
    }
    Ok(renewal_answer(&app, &accepted?, (app.clock)()))
}

async fn change_length(
    app: &AppState,
    target: Target<'_>,
    condition: IfMatch,
    duration: Duration,
) -> Result<AcceptedHeartbeat, Problem> {
    let mut attempts = Attempts::new(app, target, condition).await?;
    loop {
        let accepted = app.intake.renew_lease(attempts.target(), duration).await;
        app.metrics.record_heartbeats(heartbeat_result(&accepted), 1);
        match accepted {
            Ok(accepted) => return Ok(accepted),
            Err(refusal) => attempts.retry(refusal)?,
        }
    }
}

/// `POST /v1/heartbeats`
pub(super) async fn batch(
    State(app): State<Arc<AppState>>,
    context: Context,
    _: NoConditions<UseUid>,
    Query(()): Query<()>,
    RequestBody(bytes, _): RequestBody<ManyInstances>,
) -> HandlerResult {
    let Object(BatchBody { instances }) = body::json::<Object<BatchBody<'_>>>(&bytes)?;
    if instances.is_longer {
        let flaw =
            Flaw::body("instances", format!("must have at most {MAX_HEARTBEATS} heartbeats"));
        return Err(Problem::from_flaws(ProblemKind::BadFields, vec![flaw]));
    }
    let instances = instances.items;
    let mut answer = BatchResult::default();
    let mut unavailable = 0;
    let mut slow = Vec::new();
    let names = instances.iter().map(|Object(beat)| (&*beat.namespace, &*beat.name));
    let own = app.authorization.own_instances(context.caller(), RIGHTS, names.clone());
    let others = names.zip(&own).filter(|(_, own)| !**own).map(|((namespace, _), _)| namespace);
    let denied = app.authorization.denied_namespaces(context.caller(), RIGHTS, others).await?;
    for (Object(beat), own) in instances.iter().zip(&own) {
        match beat.parse() {
            Err(reason) => answer.refused.push(beat.uncounted(reason)),
            Ok((target, health)) => match denied.get(target.namespace) {
                Some(problem) if !own => {
                    unavailable += u64::from(problem.kind == ProblemKind::Unavailable);
                    answer.refused.push(beat.uncounted(problem.detail.clone()));
                }
                _ => {
                    match app.intake.heartbeat_from_memory(&target, health, (app.clock)().moment) {
                        Some(accepted) => answer.count(&accepted),
                        None => slow.push((beat, target, health)),
                    }
                }
            },
        }
    }
    if !slow.is_empty() {
        unavailable += renew_through_kubernetes(&app, &slow, &mut answer).await;
    }
    let refused = answer.refused.len() as u64 - unavailable;
    app.metrics.record_heartbeats(HeartbeatResult::Renewed, answer.renewed);
    app.metrics.record_heartbeats(HeartbeatResult::Recorded, answer.recorded);
    app.metrics.record_heartbeats(HeartbeatResult::Unknown, answer.unknown.len() as u64);
    app.metrics.record_heartbeats(HeartbeatResult::Gone, answer.gone.len() as u64);
    app.metrics.record_heartbeats(HeartbeatResult::Refused, refused);
    app.metrics.record_heartbeats(HeartbeatResult::Unavailable, unavailable);
    app.intake.directory().raise_newest(answer.newest);
    Ok(Answer::json(StatusCode::OK, &answer))
}

type Slow<'a> = (&'a BatchHeartbeat<'a>, Target<'a>, Option<HealthReport>);

/// Sends the heartbeats that need Kubernetes, [`MAX_CONCURRENT`] at a time, within [`BATCH_TIMEOUT`]. Returns how many
/// were refused only because Kubernetes was not available.
async fn renew_through_kubernetes<'a>(
    app: &AppState,
    slow: &[Slow<'a>],
    answer: &mut BatchResult<'a>,
) -> u64 {
    let mut unavailable = 0;
    let mut unfinished = vec![true; slow.len()];
    let mut waiting = slow.iter().enumerate();
    let begin = |(at, (_, target, health)): (usize, &'_ Slow<'a>)| {
        let (target, health) = (*target, *health);
        async move { (at, app.intake.heartbeat(&target, health).await) }
    };
    let mut running: FuturesUnordered<_> =
        waiting.by_ref().take(MAX_CONCURRENT).map(begin).collect();
    let deadline = sleep(BATCH_TIMEOUT);
    tokio::pin!(deadline);
    loop {
        let (at, outcome) = tokio::select! {
            next = running.next() => match next {
                Some(next) => next,
                None => break,
            },
            () = &mut deadline => break,
        };
        running.extend(waiting.next().map(begin));
        if let (Some(unfinished), Some((beat, ..))) = (unfinished.get_mut(at), slow.get(at)) {
            *unfinished = false;
            unavailable += u64::from(heartbeat_result(&outcome) == HeartbeatResult::Unavailable);
            answer.record(beat, outcome);
        }
    }
    for ((beat, ..), _) in slow.iter().zip(unfinished).filter(|(_, unfinished)| *unfinished) {
        unavailable += 1;
        answer
            .refused
            .push(beat.uncounted("Kubernetes did not answer in time; send the heartbeat again"));
    }
    unavailable
}

impl BatchHeartbeat<'_> {
    fn parse(&self) -> Result<(Target<'_>, Option<HealthReport>), &'static str> {
        if !naming::is_label(&self.namespace) {
            return Err("the namespace is not a DNS label");
        }
        if !naming::is_subdomain(&self.name) {
            return Err("the name is not a DNS subdomain");
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

    fn uncounted(&self, reason: impl Into<Cow<'static, str>>) -> UncountedHeartbeat<'_> {
        UncountedHeartbeat { namespace: &self.namespace, name: &self.name, reason: reason.into() }
    }
}

impl<'a> BatchResult<'a> {
    fn count(&mut self, accepted: &AcceptedHeartbeat) {
        self.newest = self.newest.max(accepted.slot.record().resource_version);
        if accepted.recorded {
            self.recorded += 1;
        } else {
            self.renewed += 1;
        }
    }

    fn record(
        &mut self,
        beat: &'a BatchHeartbeat<'a>,
        outcome: Result<AcceptedHeartbeat, Refusal>,
    ) {
        match outcome {
            Ok(accepted) => self.count(&accepted),
            Err(refusal) => {
                let result = refusal_result(&refusal);
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

fn heartbeat_result(outcome: &Result<AcceptedHeartbeat, Refusal>) -> HeartbeatResult {
    match outcome {
        Ok(accepted) => accepted_result(accepted),
        Err(refusal) => refusal_result(refusal),
    }
}

fn accepted_result(accepted: &AcceptedHeartbeat) -> HeartbeatResult {
    if accepted.recorded { HeartbeatResult::Recorded } else { HeartbeatResult::Renewed }
}

fn refusal_result(refusal: &Refusal) -> HeartbeatResult {
    match refusal {
        Refusal::Unknown | Refusal::NamespaceMissing => HeartbeatResult::Unknown,
        Refusal::Gone(_) => HeartbeatResult::Gone,
        Refusal::Unavailable { .. } | Refusal::Incapable(_) | Refusal::Unserved => {
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

/// The status of a heartbeat that was accepted.
fn status(accepted: &AcceptedHeartbeat) -> StatusCode {
    if accepted.recorded { StatusCode::ACCEPTED } else { StatusCode::OK }
}

fn renewal_answer(app: &AppState, accepted: &AcceptedHeartbeat, now: Now) -> Answer {
    let (directory, record) = (app.intake.directory(), accepted.slot.record());
    // The heartbeat may have been stored in Kubernetes through this replica, as an annotation, a health or a lease.
    directory.raise_newest(record.resource_version);
    let renewal = Renewal::new(record.lease, directory.deadline(&accepted.slot), now);
    let answer = Answer::json(status(accepted), &renewal);
    // A new connection can reach a replica that is not fenced.
    if accepted.fenced { answer.with_static(CONNECTION, "close") } else { answer }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_is_parsed_without_copying_and_faults_are_located() {
        let text = br#"{"instances": [{"namespace": "shop", "name": "a"}, {"namespace": "shop",
            "name": "b", "uid": "u", "health": "Warning"}]}"#;
        let Object(batch) = body::json::<Object<BatchBody<'_>>>(text).unwrap();
        assert!(matches!(batch.instances.items[0].0.name, Cow::Borrowed("a")));
        let (target, health) = batch.instances.items[1].0.parse().unwrap();
        assert_eq!((target.uid, health), (Some("u"), Some(HealthReport::Warning)));

        let text = br#"{"instances": [{"namespace": "shop", "name": "a"}, {"name": "b"}]}"#;
        let problem = body::json::<Object<BatchBody<'_>>>(text).unwrap_err();
        assert_eq!(problem.flaws[0].field, "instances[1].namespace");
    }

    #[test]
    fn invalid_heartbeat_does_not_affect_the_rest_of_a_batch() {
        for (namespace, name, health) in
            [("Shop", "a", None), ("shop", "A", None), ("shop", "a", Some("passing"))]
        {
            let health = health.map(Cow::Borrowed);
            let beat = BatchHeartbeat {
                namespace: namespace.into(),
                name: name.into(),
                uid: None,
                health,
            };
            assert!(beat.parse().is_err(), "{beat:?}");
        }
    }
}
