//! Authorization: the token and rights that an operation needs, and the wording of a denial.
//!
//! Owns: extracting the bearer token (RFC 6750 §2.1), the rights of batches, and the wording of 401 and 403. Does not
//! own: the rights of single operations (`table`), and whether a caller has them (`auth`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::stream::{FuturesUnordered, StreamExt as _};
use hyper::{HeaderMap, header::AUTHORIZATION};
use rollcall_model::{lease::Moment, naming};
use tokio::time::timeout;

use crate::auth::{Authorizer, Caller, Denial, RequiredRights, Right};
use crate::heartbeat::Target;
use crate::http::{
    problem::{Flaw, Problem, ProblemKind},
    route::PathNames,
};

/// The maximum number of namespaces in one batch: each can cost a request to the API server.
const MAX_NAMESPACES: usize = 256;

/// The time limit for all these requests together: the other heartbeats of the batch must not wait for long.
const DECISION_TIMEOUT: Duration = Duration::from_secs(2);

/// The token and rights that an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// No token: the answer is public, and does not need the first list of instances.
    Nothing,
    /// With `--read-auth` a token, and no right. The answer does not need the first list of instances.
    Token,
    /// With `--read-auth` a token with these rights.
    Read(&'static [Right]),
    /// A token with these rights, except with `--auth none`.
    Write(&'static [Right]),
    /// A token, except with `--auth none`; the rights are checked for each item of the batch.
    WriteEach,
}

/// Which operations need a token, and the authorizer that checks it.
pub(super) struct Authorization {
    /// `None` with `--auth none`: every caller is allowed to do everything.
    pub(super) authorizer: Option<Authorizer>,
    /// Whether reads also need a token (`--read-auth`).
    pub(super) reads: bool,
    /// The only namespace that this replica serves, if it is limited to one. The right to list this namespace is then
    /// the right to list everything.
    pub(super) scope: Option<Box<str>>,
}

impl Needs {
    /// Whether the operation only reads data.
    const fn is_read(self) -> bool {
        matches!(self, Self::Nothing | Self::Token | Self::Read(_))
    }

    /// The rights that are checked before the handler is called; `None` when no token is needed.
    pub(super) fn rights(self, read_auth: bool) -> Option<&'static [Right]> {
        match self {
            Self::Nothing => None,
            _ if self.is_read() && !read_auth => None,
            Self::Read(rights) | Self::Write(rights) => Some(rights),
            Self::Token | Self::WriteEach => Some(&[]),
        }
    }
}

impl Authorization {
    /// The authorizer, and the rights that an operation needs; `None` when no token is needed.
    pub(super) fn wanted<'a>(
        &'a self,
        needs: Needs,
        names: PathNames<'a>,
        on_instance: bool,
    ) -> Option<(&'a Authorizer, RequiredRights<'a>)> {
        let authorizer = self.authorizer.as_ref()?;
        let rights = needs.rights(self.reads)?;
        let namespace = Some(names.namespace).filter(|namespace| !namespace.is_empty());
        let namespace = namespace.or(self.scope.as_deref());
        // A name that is derived from the body is not known here.
        let name = on_instance.then_some(names.name);
        Some((authorizer, RequiredRights { rights, namespace, name }))
    }

    /// Whether the user of a token is allowed to list everything that this replica serves.
    pub(super) async fn may_list_all(&self, token: Option<&str>) -> bool {
        match &self.authorizer {
            Some(authorizer) if self.reads => {
                let namespace = self.scope.as_deref();
                let wanted = RequiredRights { rights: &[Right::List], namespace, name: None };
                token.is_some() && authorizer.admit(token, &wanted).await.is_ok()
            }
            _ => true,
        }
    }

    /// The user of a token, if it is cached.
    pub(super) fn user(&self, token: Option<&str>, now: Moment) -> Option<String> {
        self.authorizer.as_ref()?.user(token?, now)
    }

    /// Checks that a caller is allowed to list these namespaces.
    ///
    /// # Errors
    /// The problem for the first namespace that is denied.
    pub(super) async fn may_list<'a>(
        &self,
        caller: Option<&Caller>,
        namespaces: impl Iterator<Item = &'a str>,
    ) -> Result<(), Problem> {
        if !self.reads {
            return Ok(());
        }
        let denied = self.denied_namespaces(caller, &[Right::List], namespaces).await?;
        denied.into_values().next().map_or(Ok(()), Err)
    }

    /// For each instance of a batch, whether it is the caller's own instance, which needs no right.
    pub(super) fn own_instances<'a>(
        &self,
        caller: Option<&Caller>,
        rights: &'static [Right],
        instances: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Vec<bool> {
        let own = |(namespace, name)| match (&self.authorizer, caller) {
            (Some(authorizer), Some(caller)) => {
                let wanted =
                    RequiredRights { rights, namespace: Some(namespace), name: Some(name) };
                authorizer.is_own(caller, &wanted)
            }
            _ => false,
        };
        instances.map(own).collect()
    }

    /// The uid of the calling pod, if the token is bound to that pod and the instance is the pod's own.
    pub(super) fn own_pod(&self, caller: Option<&Caller>, target: &Target<'_>) -> Option<Arc<str>> {
        let (authorizer, caller) = (self.authorizer.as_ref()?, caller?);
        let (namespace, name) = (Some(target.namespace), Some(target.name));
        authorizer.own_pod(caller, &RequiredRights { rights: &[Right::Patch], namespace, name })
    }

    /// The namespaces in which the caller lacks one of these rights, or for which the API server did not answer in
    /// time, each with its problem. Rights are checked once for each namespace of a batch, because one check for each
    /// instance could cost thousands of requests to the API server.
    ///
    /// # Errors
    /// 422 for too many namespaces.
    pub(super) async fn denied_namespaces<'a>(
        &self,
        caller: Option<&Caller>,
        rights: &'static [Right],
        namespaces: impl Iterator<Item = &'a str>,
    ) -> Result<BTreeMap<&'a str, Problem>, Problem> {
        let Some(authorizer) = &self.authorizer else { return Ok(BTreeMap::new()) };
        let caller = caller.ok_or_else(|| Problem::denied(Denial::NoToken))?;
        let namespaces: BTreeSet<&str> = namespaces.filter(|name| naming::is_label(name)).collect();
        if namespaces.len() > MAX_NAMESPACES {
            let detail = format!("must be in at most {MAX_NAMESPACES} namespaces");
            return Err(Problem::from_flaws(
                ProblemKind::BadFields,
                vec![Flaw::body("instances", detail)],
            ));
        }
        let away = || Problem::denied(Denial::Unavailable);
        let mut denied: BTreeMap<_, _> =
            namespaces.iter().map(|namespace| (*namespace, away())).collect();
        let mut decisions: FuturesUnordered<_> = namespaces
            .iter()
            .map(|namespace| async {
                let wanted = RequiredRights { rights, namespace: Some(namespace), name: None };
                (*namespace, authorizer.allow(caller, &wanted).await)
            })
            .collect();
        let decide = async {
            while let Some((namespace, decision)) = decisions.next().await {
                match decision {
                    Ok(()) => drop(denied.remove(namespace)),
                    Err(denial) => drop(denied.insert(namespace, Problem::denied(denial))),
                }
            }
        };
        // A namespace whose check does not complete in time stays denied, with its initial problem.
        let _ = timeout(DECISION_TIMEOUT, decide).await;
        drop(decisions);
        Ok(denied)
    }
}

/// The bearer token of a request, if there is exactly one. Several tokens are refused, because a proxy may have checked
/// a different one than this replica would.
pub(super) fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let value = given.next()?.to_str().ok()?;
    if given.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

impl Problem {
    pub(super) fn denied(denial: Denial) -> Self {
        match denial {
            Denial::NoToken => {
                let detail = "send Authorization: Bearer with a token for the audience rollcall: a projected \
                              serviceAccountToken in a pod, or the output of kubectl create token \
                              NAME --audience rollcall";
                let flaw = Flaw::header("Authorization", "send exactly one bearer token");
                Self { flaws: vec![flaw], ..Self::new(ProblemKind::Unauthenticated, detail) }
            }
            Denial::BadToken(reason) => {
                let detail = format!(
                    "the token is not accepted: {reason}. Create a valid one: kubectl create token NAME --audience \
                     rollcall"
                );
                let flaw = Flaw::header("Authorization", "the token is not accepted");
                Self { flaws: vec![flaw], ..Self::new(ProblemKind::BadToken, detail) }
            }
            Denial::Forbidden { user, right, namespace, pod } => {
                let mut problem = forbidden(&user, right, namespace);
                if let Some(pod) = pod {
                    let hint = format!(
                        ". Without such a Role, a token of the pod {0} allows access to the instance {0} in \
                         namespace {1}, and to instances with this pod among their ownerReferences",
                        pod.name, pod.namespace
                    );
                    problem.detail.to_mut().push_str(&hint);
                }
                problem
            }
            Denial::ReviewsForbidden => {
                let detail = "rollcall itself lacks the right to review tokens or access in the Kubernetes \
                              API; its log names the right. The request was not refused, so try \
                              again when the right is granted";
                Self { retry_after: Some(5), ..Self::new(ProblemKind::Unavailable, detail) }
            }
            Denial::Unavailable => {
                let detail = "the Kubernetes API cannot review the token at the moment, and there is no recent \
                              review of it; the request was not refused, so try again";
                Self { retry_after: Some(2), ..Self::new(ProblemKind::Unavailable, detail) }
            }
        }
    }
}

fn forbidden(user: &str, right: Right, namespace: Option<String>) -> Problem {
    let (verb, subresource) = right.verb_and_subresource();
    let resource = subresource
        .map_or_else(|| "serviceinstances".to_owned(), |sub| format!("serviceinstances/{sub}"));
    let scope = namespace
        .as_deref()
        .map_or_else(|| "all namespaces".to_owned(), |namespace| format!("namespace {namespace}"));
    let detail = format!(
        "{user} may not {verb} {resource} (API group rollcall.dev) in {scope}; grant it with a Role or \
         ClusterRole"
    );
    let mut problem = Problem::new(ProblemKind::Forbidden, detail);
    let extensions = [
        ("user", user.to_owned().into()),
        ("verb", verb.into()),
        ("resource", resource.into()),
        ("namespace", namespace.into()),
    ];
    problem.extensions.extend(extensions.map(|(key, value)| (key.to_owned(), value)));
    problem
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn bearer_token_is_parsed_as_in_rfc_6750() {
        for (given, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc", Some("abc")),
            ("Basic abc", None),
            ("Bearer ", None),
            ("Bearer", None),
            ("abc", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(given));
            assert_eq!(bearer_token(&headers), token, "{given}");
        }
        assert_eq!(bearer_token(&HeaderMap::new()), None);
        let mut two = HeaderMap::new();
        two.append(AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        two.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert_eq!(bearer_token(&two), None);
    }

    #[test]
    fn denial_names_verb_resource_and_namespace() {
        let denied = |namespace: Option<&str>| {
            let namespace = namespace.map(str::to_owned);
            Problem::denied(Denial::Forbidden {
                user: "u".to_owned(),
                right: Right::Heartbeat,
                namespace,
                pod: None,
            })
        };
        let problem = denied(Some("shop"));
        assert!(
            problem.detail.contains("may not update serviceinstances/heartbeat"),
            "{}",
            problem.detail
        );
        assert!(problem.detail.contains("in namespace shop"), "{}", problem.detail);
        assert_eq!(problem.extensions["verb"], "update");
        assert_eq!(problem.extensions["namespace"], "shop");
        assert!(denied(None).detail.contains("in all namespaces"));
    }
}
