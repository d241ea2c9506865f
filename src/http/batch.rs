//! `POST /v1/instances`: many registrations at once, each with its own result.
//!
//! Owns: how many at a time and for how long. Does not own: a registration (`instances`), rights
//! (`access`; they are decided for whole namespaces, but for what is the caller's own).

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
    answer::{Answer, Answered},
    app::App,
    body::{self, BodyOf, Many, Object},
    context::Context,
    contract::words,
    instances,
    list::List,
    preconditions::{Instead, NoConditions},
    problem::{Flaw, Kind, Problem},
    query::Query,
    rules::MAX_INSTANCES,
    validate::{self, RegistrationBody},
};

/// Registrations of one batch under way at a time: as many as the writer does at once.
const AT_ONCE: usize = 32;

/// How long a batch may take: a thousand take a second or two. Those left over are told so.
const WITHIN: Duration = Duration::from_secs(20);

/// Flaws that are shown of each, some 500 octets at most: 4 MB of all.
const MOST_FLAWS: usize = 8;

/// What a registration needs.
const RIGHTS: &[Right] = &[Right::Create, Right::Patch];

/// Registrations of many instances.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RegistrationBatch")]
pub(super) struct BatchBody {
    /// Each has a result of its own; of one name the first counts.
    #[schemars(length(max = words::REGISTRATIONS))]
    instances: List<Object<RegistrationBody>, MAX_INSTANCES>,
}

/// What came of a batch, in its order.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RegistrationBatchResult")]
pub(super) struct BatchAnswer {
    /// How many are new.
    created: usize,
    /// How many were there and are registered anew.
    registered: usize,
    /// How many are neither.
    failed: usize,
    /// Of each, in their order.
    results: Vec<One>,
}

/// What came of one.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RegistrationResult")]
struct One {
    /// As it was said.
    namespace: String,
    /// As it was said or made.
    name: String,
    /// As if it had been registered alone.
    #[schemars(with = "words::Status")]
    status: u16,
    /// Of the instance, when it is registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    /// Why not, when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::http::problem::wire::Wire<'static>>")]
    problem: Option<serde_json::Value>,
}

/// One that can be asked for.
struct Wanted {
    namespace: String,
    name: String,
    registration: Result<Registration, Problem>,
}

/// Instead of a condition.
pub(super) enum OneByOne {}

impl Instead for OneByOne {
    const INSTEAD: &'static str =
        "is not held for many at once: register those one by one for which it matters";
}

/// `POST /v1/instances`
pub(super) async fn register(
    State(app): State<Arc<App>>,
    context: Context,
    _: NoConditions<OneByOne>,
    Query(()): Query<()>,
    BodyOf(bytes, _): BodyOf<Many>,
) -> Answered {
    let read = body::json::<Object<BatchBody>>(&bytes).map_err(instances::explain_state)?;
    let Object(BatchBody { instances }) = read;
    if instances.is_longer {
        let flaw = Flaw::body("instances", format!("at most {MAX_INSTANCES} at a time"));
        return Err(Problem::of(Kind::BadFields, vec![flaw]));
    }
    let wanted = once_each(instances.items);
    let names = wanted.iter().map(|one| (&*one.namespace, &*one.name));
    let own = app.authorization.own(context.caller(), RIGHTS, names.clone());
    let others = names.zip(&own).filter(|(_, own)| !**own).map(|((namespace, _), _)| namespace);
    let closed = app.authorization.closed(context.caller(), RIGHTS, others).await?;
    let mut full = BTreeMap::new();
    let mut counts = BTreeMap::<&str, u32>::new();
    for one in wanted.iter().filter(|one| one.registration.is_ok()) {
        *counts.entry(&one.namespace).or_default() += 1;
    }
    // Anew: the body may have taken its time.
    let now = (app.clock)().moment;
    for (namespace, count) in counts {
        if let Err(problem) = app.limits.namespace(namespace, count, now) {
            full.insert(namespace, problem);
        }
    }
    let mut waiting = wanted.iter().zip(own);
    let begin = |(one, own): (_, bool)| {
        let refused = |one: &Wanted| {
            let namespace = &*one.namespace;
            closed.get(namespace).filter(|_| !own).or_else(|| full.get(namespace))
        };
        asked(&app, &context, refused(one), one)
    };
    let mut under_way: FuturesOrdered<_> = waiting.by_ref().take(AT_ONCE).map(begin).collect();
    let mut results = Vec::with_capacity(wanted.len());
    let too_late = sleep(WITHIN);
    tokio::pin!(too_late);
    loop {
        let result = tokio::select! {
            next = under_way.next() => match next {
                Some(result) => result,
                None => break,
            },
            () = &mut too_late => break,
        };
        under_way.extend(waiting.next().map(begin));
        results.push(result);
    }
    drop(under_way);
    let late = wanted.iter().skip(results.len()).map(Wanted::late);
    results.extend(late.collect::<Vec<_>>());
    let count = |status| results.iter().filter(|one: &&One| one.status == status).count();
    let (created, registered) = (count(201), count(200));
    let failed = results.len() - created - registered;
    Ok(Answer::json(StatusCode::OK, &BatchAnswer { created, registered, failed, results }))
}

/// What is wanted, each name once: they go out side by side, and which of two came last would be chance.
fn once_each(instances: Vec<Object<RegistrationBody>>) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> =
        instances.into_iter().map(|Object(body)| Wanted::of(body)).collect();
    let mut names = HashSet::new();
    for one in &mut wanted {
        if one.registration.is_ok() && !names.insert((one.namespace.clone(), one.name.clone())) {
            let flaw = Flaw::body("name", "stands in this batch before; say it once");
            one.registration = Err(Problem::of(Kind::BadFields, vec![flaw]));
        }
    }
    wanted
}

async fn asked(app: &App, context: &Context, refused: Option<&Problem>, one: &Wanted) -> One {
    match refused {
        Some(problem) => one.failed(problem),
        None => one.registered(app, context).await,
    }
}

impl Wanted {
    /// One bad registration does not spoil the others.
    fn of(mut body: RegistrationBody) -> Self {
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
            Ok(_) if !flaws.is_empty() => Err(Problem::of(Kind::BadFields, flaws)),
            Err(problem) => {
                flaws.extend(problem.flaws);
                Err(Problem::of(Kind::BadFields, flaws).with_at_most(MOST_FLAWS))
            }
            registration => registration,
        };
        let derived = || registration.as_ref().ok().map(instances::derived_name);
        let name = name.or_else(derived).unwrap_or_default();
        Self { namespace, name, registration }
    }

    async fn registered(&self, app: &App, context: &Context) -> One {
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
                    _ => line.nothing(),
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

    fn late(&self) -> One {
        let detail = "the batch took too long, so this one was not waited for; send it again";
        self.failed(&Problem::new(Kind::Unavailable, detail))
    }

    fn failed(&self, problem: &Problem) -> One {
        let (status, problem) = problem.to_value();
        self.result(status, None, Some(problem))
    }

    fn result(&self, status: u16, uid: Option<String>, problem: Option<serde_json::Value>) -> One {
        let (namespace, name) = (self.namespace.clone(), self.name.clone());
        One { namespace, name, status, uid, problem }
    }
}
