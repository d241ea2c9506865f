//! Preflight: what the cluster must have for a replica to work, looked at until it is there.
//!
//! Owns: the order of looks (does the API answer, does it serve our definitions and are they new
//! enough, may we), and a sentence for each thing that is missing, with what to do about it. It goes
//! on looking later: rights can be taken away. Does not own: the table of rights (`rights`), and what
//! waits for it (`serve`).

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, api::PostParams};
use rollcall_api::{
    API_VERSION,
    manifests::{REVISION, REVISION_ANNOTATION},
};
use rollcall_model::lease::Moment;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::clock;
use crate::kubernetes::{
    failure::root,
    rights::{Need, Place, RIGHTS, Right},
};
use crate::telemetry::{
    metrics::RightMetrics,
    problems::{Board, Lack, Problems},
};

/// One question to the API server.
const CALL: Duration = Duration::from_secs(3);

/// First and longest pause while something is missing; it doubles in between.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// When all is well: a right that is taken away shows within this. Each look is some 20 short calls.
const AGAIN: Duration = Duration::from_secs(60);

/// What is still missing is said again after this.
const REMIND: Duration = Duration::from_secs(60);

/// The name of our definition.
const DEFINITION: &str = "serviceinstances.rollcall.dev";

/// Where a replica looks, and for what.
#[derive(Clone, Debug)]
pub struct Needs {
    /// The namespace in which instances are looked after, if not all.
    pub scope: Option<String>,
    /// The namespace that rollcall lives in.
    pub home: String,
    /// Whether callers are asked for tokens.
    pub auth: bool,
    /// Whether the cluster's keys tell whose they are.
    pub keys: bool,
}

/// The task that looks.
pub struct Preflight {
    client: Client,
    needs: Needs,
    problems: Board,
    passed: watch::Sender<bool>,
    metrics: RightMetrics,
    told: Option<(Problems, Moment)>,
}

impl Needs {
    fn includes(&self, need: Need) -> bool {
        match need {
            Need::Start | Need::Always => true,
            Need::Auth => self.auth,
            Need::Review => self.auth && !self.keys,
            Need::Jwks => self.auth && self.keys,
        }
    }

    /// What follows from a refusal at run time, and what to do about it.
    #[must_use]
    pub fn explain(&self, lack: Lack, verb: &str, resource: &str) -> String {
        let is_it = |right: &&Right| right.verb == verb && right.resource == resource;
        match lack {
            Lack::Type => unserved(),
            Lack::Right => match RIGHTS.iter().find(is_it) {
                Some(right) => self.missing(right),
                None => format!(
                    "rollcall may not {verb} {resource}, which no role of deploy/rbac grants"
                ),
            },
        }
    }

    fn missing(&self, right: &Right) -> String {
        let Right { verb, resource, group, role, without, .. } = right;
        let name = right.name.map_or_else(String::new, |name| format!(" {name}"));
        let group = if right.is_path() { String::new() } else { format!(" (API group {group})") };
        let place = match (self.namespace(right.place), right.place) {
            (Some(namespace), Place::Home) => format!("in namespace {namespace} (--own-namespace)"),
            (Some(namespace), _) => format!("in namespace {namespace} (--watch-namespace)"),
            (None, _) => "in the whole cluster".to_owned(),
        };
        format!(
            "rollcall may not {verb} {resource}{name}{group} {place}; without it {without}. \
             {role} of deploy/rbac grants it: apply the overlay again that rollcall was installed with"
        )
    }

    fn namespace(&self, place: Place) -> Option<&str> {
        match place {
            Place::Watched => self.scope.as_deref(),
            Place::Home => Some(&self.home),
            Place::Cluster => None,
        }
    }
}

fn unserved() -> String {
    format!(
        "the Kubernetes API does not serve all types of {API_VERSION}: install the definitions of this version \
         with kubectl apply -k crds, or rollcall crds | kubectl apply -f -"
    )
}

/// Why a look could not be finished.
enum Stop {
    /// The API does not answer, or does not let us ask.
    Unreachable(String),
    /// It does not know who we are.
    Unknown,
}

impl Preflight {
    /// Looks with `client`, which is used for questions only, and tells `problems`.
    #[must_use]
    pub fn new(client: Client, needs: Needs, problems: Board, metrics: RightMetrics) -> Self {
        let waiting = "the first look at the Kubernetes API is not finished".to_owned();
        let first = Problems { blocking: vec![waiting], limiting: Vec::new() };
        problems.found(first, problems.begin_look());
        Self { client, needs, problems, passed: watch::Sender::new(false), metrics, told: None }
    }

    /// Becomes true once nothing blocks, and stays so.
    #[must_use]
    pub fn passed(&self) -> watch::Receiver<bool> {
        self.passed.subscribe()
    }

    /// Looks for ever. Each question has its deadline.
    pub async fn run(mut self) {
        let mut pause = PAUSE.0;
        loop {
            let number = self.problems.begin_look();
            let found = self.look().await;
            let is_unfinished = found.is_none();
            if let Some(found) = found {
                self.tell(found, number);
            }
            let missing = is_unfinished || self.problems.shown().all().next().is_some();
            let again = if missing { pause } else { AGAIN };
            pause = if missing { PAUSE.1.min(pause * 2) } else { PAUSE.0 };
            // What was refused, or granted, meanwhile is looked into soon, but never in a hurry.
            sleep(PAUSE.0).await;
            let rest = again.saturating_sub(PAUSE.0);
            if timeout(rest, self.problems.is_to_be_looked_at()).await.is_ok() {
                pause = PAUSE.0;
            }
        }
    }

    fn tell(&mut self, found: Problems, look: u64) {
        let now = clock::moment();
        let passed = found.blocking.is_empty();
        let changed = self.told.as_ref().is_none_or(|(told, _)| *told != found);
        let due = self.told.as_ref().is_none_or(|(_, at)| now.since(*at) >= REMIND);
        if changed || due {
            for sentence in found.all() {
                warn!("preflight: {sentence}");
            }
            if changed && passed && found.limiting.is_empty() {
                info!(
                    "preflight: the Kubernetes API answers, and all that rollcall needs is there"
                );
            }
            self.told = Some((found.clone(), now));
        }
        self.problems.found(found, look);
        self.passed.send_if_modified(|before| passed && !std::mem::replace(before, true));
    }

    /// None when the look could not be finished and is not the first: whoever calls an API that is
    /// away says so then, and what was found before still holds.
    async fn look(&self) -> Option<Problems> {
        let mut found = Problems::default();
        let Err(stop) = self.look_into(&mut found).await else { return Some(found) };
        if *self.passed.borrow() {
            return None;
        }
        found.blocking.push(match stop {
            Stop::Unreachable(why) => format!(
                "the Kubernetes API does not answer: {why}. Is its address right (--kubeconfig), and may \
                 this process reach it (NetworkPolicy, firewall)?"
            ),
            Stop::Unknown => "the Kubernetes API does not know this rollcall (401): its token is missing or \
                              has ended. Check serviceAccountName and automountServiceAccountToken of the \
                              pod, or --kubeconfig"
                .to_owned(),
        });
        Some(found)
    }

    async fn look_into(&self, found: &mut Problems) -> Result<(), Stop> {
        if !self.is_served().await? {
            found.blocking.push(unserved());
            return Ok(());
        }
        if let Some(installed) = self.revision().await?.filter(|installed| *installed < REVISION) {
            found.blocking.push(format!(
                "the definition {DEFINITION} is of revision {installed}, and this rollcall needs {REVISION}: \
                 install those of this version with kubectl apply -k crds, or rollcall crds | kubectl apply -f -"
            ));
        }
        for right in RIGHTS.iter().filter(|right| self.needs.includes(right.need)) {
            let Some(granted) = self.may(right).await? else {
                found.limiting.push(
                    "rollcall may not ask what it may (selfsubjectaccessreviews), so nobody knows whether its \
                     rights are there; ClusterRole system:basic-user grants it to everybody who is known"
                        .to_owned(),
                );
                break;
            };
            self.metrics.seen(right.verb, right.resource, granted);
            if !granted {
                let sentence = self.needs.missing(right);
                let list = if right.need == Need::Start {
                    &mut found.blocking
                } else {
                    &mut found.limiting
                };
                list.push(sentence);
            }
        }
        Ok(())
    }

    /// Discovery is open to everybody who is known (ClusterRole system:discovery).
    async fn is_served(&self) -> Result<bool, Stop> {
        let asked = self.client.list_api_group_resources(API_VERSION);
        match answered(asked).await? {
            Ok(list) => Ok(["serviceinstances", "heartbeatledgers"]
                .iter()
                .all(|name| list.resources.iter().any(|it| it.name == **name))),
            Err(404) => Ok(false),
            // Not open here, then: the rights will tell.
            Err(_) => Ok(true),
        }
    }

    /// The revision of the installed definition; none when it cannot be read.
    async fn revision(&self) -> Result<Option<u32>, Stop> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let Ok(object) = answered(api.get_metadata(DEFINITION)).await? else { return Ok(None) };
        let annotations = object.metadata.annotations.unwrap_or_default();
        let written = annotations.get(REVISION_ANNOTATION);
        Ok(Some(written.and_then(|revision| revision.parse().ok()).unwrap_or(0)))
    }

    fn question(&self, right: &Right) -> SelfSubjectAccessReviewSpec {
        let (verb, resource) = (Some(right.verb.to_owned()), right.resource);
        if right.is_path() {
            let path = Some(resource.to_owned());
            return SelfSubjectAccessReviewSpec {
                non_resource_attributes: Some(NonResourceAttributes { path, verb }),
                resource_attributes: None,
            };
        }
        let (resource, subresource) = match resource.split_once('/') {
            Some((resource, sub)) => (resource, Some(sub)),
            None => (resource, None),
        };
        SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(right.group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource: subresource.map(str::to_owned),
                verb,
                name: right.name.map(str::to_owned),
                namespace: self.needs.namespace(right.place).map(str::to_owned),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        }
    }

    /// Everybody who is known may ask what they may (ClusterRole system:basic-user), unless somebody took
    /// that away: none then.
    async fn may(&self, right: &Right) -> Result<Option<bool>, Stop> {
        let asked = SelfSubjectAccessReview {
            spec: self.question(right),
            ..SelfSubjectAccessReview::default()
        };
        let api: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        match answered(api.create(&PostParams::default(), &asked)).await? {
            Ok(review) => Ok(Some(review.status.is_some_and(|status| status.allowed))),
            Err(_) => Ok(None),
        }
    }
}

/// The answer, or the HTTP status of a refusal; stops when there is none, or we are not known.
async fn answered<T>(
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Result<T, u16>, Stop> {
    match timeout(CALL, call).await {
        Ok(Ok(answer)) => Ok(Ok(answer)),
        Ok(Err(kube::Error::Api(status))) => match status.code {
            401 => Err(Stop::Unknown),
            429 | 500.. => Err(Stop::Unreachable(status.message)),
            code => Ok(Err(code)),
        },
        Ok(Err(error)) => Err(Stop::Unreachable(root(&error))),
        Err(_) => Err(Stop::Unreachable(format!("no answer within {} s", CALL.as_secs()))),
    }
}
