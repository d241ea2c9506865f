//! `POST /v1/instances`: many registrations in one request, each with its own result.
//!
//! Owns: how many run at a time, and for how long. Does not own: a registration (`instances`), and rights (`access`),
//! which are decided per namespace, except for the caller's own instance.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use axum::extract::State;
use futures::stream::{FuturesOrdered, StreamExt as _};
use hyper::StatusCode;
use rollcall_model::{naming, registration::Registration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::auth::Right;
use crate::heartbeat::Target;
use crate::http::{
    answer::{Answer, HandlerResult},
    app::AppState,
    body::{self, ManyInstances, Object, RequestBody},
    context::Context,
    contract::values,
    instances,
    list::List,
    preconditions::{ConditionAdvice, NoConditions},
    problem::{Flaw, Problem, ProblemKind},
    query::Query,
    rules::MAX_INSTANCES,
    validate::{self, RegistrationBody},
};

/// The number of registrations of one batch that run concurrently: as many as the writer sends concurrently.
const MAX_CONCURRENT: usize = 32;

/// The time limit for a batch. 1,000 registrations usually take one or two seconds. Registrations that are not finished
/// in time get 503.
const BATCH_TIMEOUT: Duration = Duration::from_secs(20);

/// The maximum number of flaws that are reported for one registration: at about 500 bytes each, a full batch has 4 MB
/// of them.
const MAX_FLAWS: usize = 8;

/// The rights that a registration needs.
const RIGHTS: &[Right] = &[Right::Create, Right::Patch];

/// Registrations of many instances.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RegistrationBatch")]
pub(super) struct BatchBody {
    /// The registrations, each with its own result. Of several with one name, only the first is made.
    #[schemars(length(max = values::MAX_REGISTRATIONS))]
    instances: List<Object<RegistrationBody>, MAX_INSTANCES>,
}

/// The results of a batch, in the order of the request.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RegistrationBatchResult")]
pub(super) struct BatchResult {
    /// How many instances were created.
    created: usize,
    /// How many instances existed and were registered again.
    registered: usize,
    /// How many registrations failed.
    failed: usize,
    /// The result of each registration, in the order of the request.
    results: Vec<ItemResult>,
}

/// The result of one registration.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RegistrationResult")]
struct ItemResult {
    /// The namespace from the request.
    namespace: String,
    /// The name from the request, or the derived name.
    name: String,
    /// The status that a single registration would have had.
    #[schemars(with = "values::HttpStatus")]
    status: u16,
    /// The uid of the instance; absent when the registration failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    /// Why the registration failed; absent when it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::http::problem::wire::ProblemBody<'static>>")]
    problem: Option<serde_json::Value>,
}

/// A registration of the batch, after validation.
struct BatchItem {
    namespace: String,
    name: String,
    registration: Result<Registration, Problem>,
}

/// A batch does not accept conditions; single registrations do.
pub(super) enum RegisterSingly {}

impl ConditionAdvice for RegisterSingly {
    const ADVICE: &'static str =
        "is not supported for batches; register an instance on its own if you need it";
}

/// `POST /v1/instances`
pub(super) async fn register(
    State(app): State<Arc<AppState>>,
    context: Context,
    _: NoConditions<RegisterSingly>,
    Query(()): Query<()>,
    RequestBody(bytes, _): RequestBody<ManyInstances>,
) -> HandlerResult {
    let read = body::json::<Object<BatchBody>>(&bytes).map_err(instances::explain_state)?;
    let Object(BatchBody { instances }) = read;
    if instances.is_longer {
        let flaw =
            Flaw::body("instances", format!("must have at most {MAX_INSTANCES} registrations"));
        return Err(Problem::from_flaws(ProblemKind::BadFields, vec![flaw]));
    }
    let items = unique_items(instances.items);
    let names = items.iter().map(|item| (&*item.namespace, &*item.name));
    let own = app.authorization.own_instances(context.caller(), RIGHTS, names.clone());
    let others = names.zip(&own).filter(|(_, own)| !**own).map(|((namespace, _), _)| namespace);
    let denied = app.authorization.denied_namespaces(context.caller(), RIGHTS, others).await?;
    let mut limited = BTreeMap::new();
    let mut counts = BTreeMap::<&str, u32>::new();
    for item in items.iter().filter(|item| item.registration.is_ok()) {
        *counts.entry(&item.namespace).or_default() += 1;
    }
    // The current time, and not that of the request: receiving the body can take seconds.
    let now = (app.clock)().moment;
    for (namespace, count) in counts {
        if let Err(problem) = app.limits.charge_namespace(namespace, count, now) {
            limited.insert(namespace, problem);
        }
    }
    let mut waiting = items.iter().zip(own);
    let begin = |(item, own): (_, bool)| {
        let refused = |item: &BatchItem| {
            let namespace = &*item.namespace;
            denied.get(namespace).filter(|_| !own).or_else(|| limited.get(namespace))
        };
        register_or_refuse(&app, &context, refused(item), item)
    };
    let mut running: FuturesOrdered<_> = waiting.by_ref().take(MAX_CONCURRENT).map(begin).collect();
    let mut results = Vec::with_capacity(items.len());
    let deadline = sleep(BATCH_TIMEOUT);
    tokio::pin!(deadline);
    loop {
        let result = tokio::select! {
            next = running.next() => match next {
                Some(result) => result,
                None => break,
            },
            () = &mut deadline => break,
        };
        running.extend(waiting.next().map(begin));
        results.push(result);
    }
    drop(running);
    let unfinished = items.iter().skip(results.len()).map(BatchItem::unfinished);
    results.extend(unfinished.collect::<Vec<_>>());
    let count =
        |status| results.iter().filter(|result: &&ItemResult| result.status == status).count();
    let (created, registered) = (count(201), count(200));
    let failed = results.len() - created - registered;
    Ok(Answer::json(StatusCode::OK, &BatchResult { created, registered, failed, results }))
}

/// Validates the registrations, and refuses repeated names: registrations run concurrently, so it would be random which
/// of them wins.
fn unique_items(instances: Vec<Object<RegistrationBody>>) -> Vec<BatchItem> {
    let mut items: Vec<BatchItem> =
        instances.into_iter().map(|Object(body)| BatchItem::new(body)).collect();
    let mut names = HashSet::new();
    for item in &mut items {
        if item.registration.is_ok() && !names.insert((item.namespace.clone(), item.name.clone())) {
            let flaw = Flaw::body("name", "is already in this batch; give it once");
            item.registration = Err(Problem::from_flaws(ProblemKind::BadFields, vec![flaw]));
        }
    }
    items
}

async fn register_or_refuse(
    app: &AppState,
    context: &Context,
    refused: Option<&Problem>,
    item: &BatchItem,
) -> ItemResult {
    match refused {
        Some(problem) => item.failed(problem),
        None => item.register(app, context).await,
    }
}

impl BatchItem {
    /// An invalid registration does not affect the others.
    fn new(mut body: RegistrationBody) -> Self {
        let namespace = body.namespace.take().unwrap_or_default();
        let name = body.name.take();
        let mut flaws = Vec::new();
        if !naming::is_label(&namespace) {
            flaws.push(Flaw::body("namespace", "must be a DNS label"));
        }
        if name.as_deref().is_some_and(|name| !naming::is_subdomain(name)) {
            flaws.push(Flaw::body("name", "must be a DNS subdomain"));
        }
        let registration = match validate::registration(body, None) {
            Ok(_) if !flaws.is_empty() => Err(Problem::from_flaws(ProblemKind::BadFields, flaws)),
            Err(problem) => {
                flaws.extend(problem.flaws);
                Err(Problem::from_flaws(ProblemKind::BadFields, flaws).truncate_flaws(MAX_FLAWS))
            }
            registration => registration,
        };
        let derived = || registration.as_ref().ok().map(instances::derived_name);
        let name = name.or_else(derived).unwrap_or_default();
        Self { namespace, name, registration }
    }

    async fn register(&self, app: &AppState, context: &Context) -> ItemResult {
        let mut registration = match &self.registration {
            Ok(registration) => registration.clone(),
            Err(problem) => return self.failed(problem),
        };
        let (namespace, name) = (&*self.namespace, &*self.name);
        let target = Target { namespace, name, uid: None, version: None };
        registration.pod = app.authorization.own_pod(context.caller(), &target);
        let line = app.writes.begin(context, "register", &target);
        match app.intake.register(&target, &registration).await {
            Ok(stored) => {
                let record = stored.slot.record();
                app.intake.directory().raise_newest(record.resource_version);
                let status = if stored.created { 201 } else { 200 };
                match StatusCode::from_u16(status) {
                    Ok(status) if stored.written => line.end(Ok((status, &record.uid))),
                    _ => line.discard(),
                }
                self.result(status, Some(record.uid.to_string()), None)
            }
            Err(refusal) => {
                let problem = Problem::refused(refusal, namespace, name);
                line.end(Err(&problem));
                self.failed(&problem)
            }
        }
    }

    fn unfinished(&self) -> ItemResult {
        let detail =
            "the batch took too long, and this registration was not finished; send it again";
        self.failed(&Problem::new(ProblemKind::Unavailable, detail))
    }

    fn failed(&self, problem: &Problem) -> ItemResult {
        let (status, problem) = problem.to_value();
        self.result(status, None, Some(problem))
    }

    fn result(
        &self,
        status: u16,
        uid: Option<String>,
        problem: Option<serde_json::Value>,
    ) -> ItemResult {
        let (namespace, name) = (self.namespace.clone(), self.name.clone());
        ItemResult { namespace, name, status, uid, problem }
    }
}
