//! Preflight: checks what a replica needs from the cluster, until everything is there, and periodically afterwards,
//! because rights can be revoked.
//!
//! Owns: the order of the checks (does the API server answer, does it serve rollcall's definitions, are they recent
//! enough, are the rights granted), and for each problem a sentence with its consequence and its fix. Does not own: the
//! table of rights (`rights`), what waits for the result (`serve`).

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
    failure::root_cause,
    rights::{Need, RIGHTS, Right, RightScope},
};
use crate::telemetry::{
    metrics::RightMetrics,
    problems::{MissingKind, ProblemTracker, Problems},
};

/// The deadline of one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// First and longest pause while something is missing; it doubles in between.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// Between two checks while nothing is missing, so a revoked right is reported within this time. Each check makes about
/// 20 short calls.
const RECHECK_EVERY: Duration = Duration::from_secs(60);

/// Problems that persist are logged again after this time.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// The name of the CustomResourceDefinition of instances.
const DEFINITION: &str = "serviceinstances.rollcall.dev";

/// The settings that decide which rights a replica needs, and where.
#[derive(Clone, Debug)]
pub struct PreflightSettings {
    /// The namespace whose instances this replica serves; none for all namespaces.
    pub scope: Option<String>,
    /// The namespace in which rollcall runs.
    pub own_namespace: String,
    /// Whether callers need tokens.
    pub auth: bool,
    /// Whether tokens are verified with the cluster's keys.
    pub keys: bool,
}

/// The task that runs the checks.
pub struct Preflight {
    client: Client,
    needs: PreflightSettings,
    problems: ProblemTracker,
    passed: watch::Sender<bool>,
    metrics: RightMetrics,
    reported: Option<(Problems, Moment)>,
}

impl PreflightSettings {
    fn includes(&self, need: Need) -> bool {
        match need {
            Need::Start | Need::Always => true,
            Need::Auth => self.auth,
            Need::Review => self.auth && !self.keys,
            Need::Jwks => self.auth && self.keys,
        }
    }

    /// The sentence for a refusal at run time: what is missing, the consequence, and the fix.
    #[must_use]
    pub fn explain(&self, lack: MissingKind, verb: &str, resource: &str) -> String {
        let matches = |right: &&Right| right.verb == verb && right.resource == resource;
        match lack {
            MissingKind::Type => describe_unserved(),
            MissingKind::Right => match RIGHTS.iter().find(matches) {
                Some(right) => self.describe_missing(right),
                None => format!(
                    "rollcall lacks the right to {verb} {resource}, and no role in deploy/rbac grants it: \
                     please report this as a bug of rollcall"
                ),
            },
        }
    }

    fn describe_missing(&self, right: &Right) -> String {
        let Right { verb, resource, group, role, without, .. } = right;
        let name = right.name.map_or_else(String::new, |name| format!(" {name}"));
        let group = if right.is_path() { String::new() } else { format!(" (API group {group})") };
        let scope = match (self.namespace(right.scope), right.scope) {
            (Some(namespace), RightScope::OwnNamespace) => {
                format!("in namespace {namespace} (--own-namespace)")
            }
            (Some(namespace), _) => format!("in namespace {namespace} (--watch-namespace)"),
            (None, _) => "in the whole cluster".to_owned(),
        };
        format!(
            "rollcall lacks the right to {verb} {resource}{name}{group} {scope}; without it {without}. \
             {role} in deploy/rbac grants it: apply the overlay again with which rollcall was installed"
        )
    }

    fn namespace(&self, scope: RightScope) -> Option<&str> {
        match scope {
            RightScope::Watched => self.scope.as_deref(),
            RightScope::OwnNamespace => Some(&self.own_namespace),
            RightScope::Cluster => None,
        }
    }
}

fn describe_unserved() -> String {
    format!(
        "the Kubernetes API does not serve all types of {API_VERSION}: install this version's definitions \
         with kubectl apply -k crds, or rollcall crds | kubectl apply -f -"
    )
}

/// Why a check could not be completed.
enum CheckAborted {
    /// The API server does not answer, or limits its load.
    Unreachable(String),
    /// It does not accept rollcall's credentials (401).
    Unauthenticated,
}

impl Preflight {
    /// Checks with `client`, and reports to `problems`.
    #[must_use]
    pub fn new(
        client: Client,
        needs: PreflightSettings,
        problems: ProblemTracker,
        metrics: RightMetrics,
    ) -> Self {
        let waiting = "the first check of the Kubernetes API has not completed yet".to_owned();
        let first = Problems { blocking: vec![waiting], limiting: Vec::new() };
        problems.found(first, problems.begin_check());
        Self { client, needs, problems, passed: watch::Sender::new(false), metrics, reported: None }
    }

    /// Becomes true when no problem blocks the start, and stays true.
    #[must_use]
    pub fn passed(&self) -> watch::Receiver<bool> {
        self.passed.subscribe()
    }

    /// Runs checks forever. Each call has a deadline.
    pub async fn run(mut self) {
        let mut pause = PAUSE.0;
        loop {
            let number = self.problems.begin_check();
            let found = self.check().await;
            let is_unfinished = found.is_none();
            if let Some(found) = found {
                self.report(found, number);
            }
            let missing = is_unfinished || self.problems.shown().all().next().is_some();
            let again = if missing { pause } else { RECHECK_EVERY };
            pause = if missing { PAUSE.1.min(pause * 2) } else { PAUSE.0 };
            // A refusal or success at run time triggers the next check early, but there is at most one check a second.
            sleep(PAUSE.0).await;
            let rest = again.saturating_sub(PAUSE.0);
            if timeout(rest, self.problems.check_wanted()).await.is_ok() {
                pause = PAUSE.0;
            }
        }
    }

    fn report(&mut self, found: Problems, check: u64) {
        let now = clock::moment();
        let passed = found.blocking.is_empty();
        let changed = self.reported.as_ref().is_none_or(|(reported, _)| *reported != found);
        let due = self.reported.as_ref().is_none_or(|(_, at)| now.since(*at) >= REMIND_EVERY);
        if changed || due {
            for sentence in found.all() {
                warn!("preflight: {sentence}");
            }
            if changed && passed && found.limiting.is_empty() {
                info!(
                    "preflight: the Kubernetes API answers, and everything that rollcall needs is there"
                );
            }
            self.reported = Some((found.clone(), now));
        }
        self.problems.found(found, check);
        self.passed.send_if_modified(|before| passed && !std::mem::replace(before, true));
    }

    /// The problems found; `None` when a check could not be completed after one had passed. Then the earlier
    /// result still holds, and each call that is not answered is reported where it is made.
    async fn check(&self) -> Option<Problems> {
        let mut found = Problems::default();
        let Err(stop) = self.collect_problems(&mut found).await else { return Some(found) };
        if *self.passed.borrow() {
            return None;
        }
        found.blocking.push(match stop {
            CheckAborted::Unreachable(why) => format!(
                "the Kubernetes API does not answer: {why}. Check its address (--kubeconfig), and whether \
                 a NetworkPolicy or firewall keeps this process from reaching it"
            ),
            CheckAborted::Unauthenticated => "the Kubernetes API does not accept rollcall's credentials (401): the token is \
                              missing or has expired. Check serviceAccountName and \
                              automountServiceAccountToken of the pod, or --kubeconfig"
                .to_owned(),
        });
        Some(found)
    }

    async fn collect_problems(&self, found: &mut Problems) -> Result<(), CheckAborted> {
        if !self.is_served().await? {
            found.blocking.push(describe_unserved());
            return Ok(());
        }
        if let Some(installed) = self.revision().await?.filter(|installed| *installed < REVISION) {
            found.blocking.push(format!(
                "the definition {DEFINITION} has revision {installed}, but this rollcall needs {REVISION}: \
                 install this version's definitions with kubectl apply -k crds, or rollcall crds | kubectl apply -f -"
            ));
        }
        for right in RIGHTS.iter().filter(|right| self.needs.includes(right.need)) {
            let Some(granted) = self.is_granted(right).await? else {
                found.limiting.push(
                    "rollcall lacks the right to create selfsubjectaccessreviews, so it cannot check its own \
                     rights. By default the ClusterRole system:basic-user grants it to all authenticated users: \
                     restore its ClusterRoleBinding"
                        .to_owned(),
                );
                break;
            };
            self.metrics.set_granted(right.verb, right.resource, granted);
            if !granted {
                let sentence = self.needs.describe_missing(right);
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

    /// Whether the API server serves rollcall's types. All authenticated users can read API discovery (ClusterRole
    /// system:discovery).
    async fn is_served(&self) -> Result<bool, CheckAborted> {
        let asked = self.client.list_api_group_resources(API_VERSION);
        match call_api(asked).await? {
            Ok(list) => Ok(["serviceinstances", "heartbeatledgers"]
                .iter()
                .all(|name| list.resources.iter().any(|it| it.name == **name))),
            Err(404) => Ok(false),
            // API discovery is restricted in this cluster. The checks of rights follow in any case.
            Err(_) => Ok(true),
        }
    }

    /// The revision of the installed definition; `None` when rollcall cannot read the definition.
    async fn revision(&self) -> Result<Option<u32>, CheckAborted> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let Ok(object) = call_api(api.get_metadata(DEFINITION)).await? else { return Ok(None) };
        let annotations = object.metadata.annotations.unwrap_or_default();
        let written = annotations.get(REVISION_ANNOTATION);
        Ok(Some(written.and_then(|revision| revision.parse().ok()).unwrap_or(0)))
    }

    fn access_review(&self, right: &Right) -> SelfSubjectAccessReviewSpec {
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
                namespace: self.needs.namespace(right.scope).map(str::to_owned),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        }
    }

    /// Whether rollcall has a right; `None` when it may not check. By default all authenticated users may check their own
    /// rights (ClusterRole system:basic-user).
    async fn is_granted(&self, right: &Right) -> Result<Option<bool>, CheckAborted> {
        let asked = SelfSubjectAccessReview {
            spec: self.access_review(right),
            ..SelfSubjectAccessReview::default()
        };
        let api: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        match call_api(api.create(&PostParams::default(), &asked)).await? {
            Ok(review) => Ok(Some(review.status.is_some_and(|status| status.allowed))),
            Err(_) => Ok(None),
        }
    }
}

/// The answer, or the HTTP status of a refusal.
///
/// # Errors
/// When the API server does not answer, or does not accept rollcall's credentials.
async fn call_api<T>(
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Result<T, u16>, CheckAborted> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(Ok(answer)),
        Ok(Err(kube::Error::Api(status))) => match status.code {
            401 => Err(CheckAborted::Unauthenticated),
            429 | 500.. => Err(CheckAborted::Unreachable(status.message)),
            code => Ok(Err(code)),
        },
        Ok(Err(error)) => Err(CheckAborted::Unreachable(root_cause(&error))),
        Err(_) => {
            Err(CheckAborted::Unreachable(format!("no answer within {} s", CALL_TIMEOUT.as_secs())))
        }
    }
}
