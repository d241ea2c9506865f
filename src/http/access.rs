//! Authorization: what an operation needs of its caller, and how a denial is said.
//!
//! Owns: reading the bearer token (RFC 6750 §2.1), the rights of batches, the words of 401 and 403. Does not own: the rights
//! of single operations (`table`), and whether a caller has them (`auth`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::stream::{FuturesUnordered, StreamExt as _};
use hyper::{HeaderMap, header::AUTHORIZATION};
use rollcall_model::{lease::Moment, naming};
use tokio::time::timeout;

use crate::auth::{Caller, Denial, Gate, Right, Wanted};
use crate::heartbeat::Target;
use crate::http::{
    problem::{Flaw, Kind, Problem},
    route::Names,
};

/// The most namespaces of one batch; each may be a question to the API server.
const MAX_NAMESPACES: usize = 256;

/// For all of these questions together: beats that may count have to count soon.
const DECIDE_WITHIN: Duration = Duration::from_secs(2);

/// What an operation needs of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing: the answer is public, and is there before the first list of instances.
    Nothing,
    /// With `--read-auth` a token, and no right. There before the first list of instances, too.
    Token,
    /// With `--read-auth` a token with these rights.
    Read(&'static [Right]),
    /// Unless with `--auth none` a token with these rights.
    Write(&'static [Right]),
    /// Unless with `--auth none` a token; the rights are decided for each item of the batch.
    WriteEach,
}

/// Which callers are asked for a token, and the gate that knows their rights.
pub(super) struct Authorization {
    /// None with `--auth none`: everybody may do everything.
    pub(super) gate: Option<Gate>,
    /// Whether reads need a token too.
    pub(super) reads: bool,
    /// The only namespace that is looked after: whoever may list that may list all there is.
    pub(super) scope: Option<Box<str>>,
}

impl Needs {
    /// Whether the operation only reads.
    const fn is_read(self) -> bool {
        matches!(self, Self::Nothing | Self::Token | Self::Read(_))
    }

    /// The rights to be checked before the handler is called. None: no token is asked for.
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
    /// What an operation needs of its caller; none when no token is asked for.
    pub(super) fn wanted<'a>(
        &'a self,
        needs: Needs,
        names: Names<'a>,
        on_instance: bool,
    ) -> Option<(&'a Gate, Wanted<'a>)> {
        let gate = self.gate.as_ref()?;
        let rights = needs.rights(self.reads)?;
        let namespace = Some(names.namespace).filter(|namespace| !namespace.is_empty());
        let namespace = namespace.or(self.scope.as_deref());
        // A name that is made of the body is not known yet.
        let name = on_instance.then_some(names.name);
        Some((gate, Wanted { rights, namespace, name }))
    }

    /// Whether somebody may read everything that is looked after here.
    pub(super) async fn may_list_all(&self, token: Option<&str>) -> bool {
        match &self.gate {
            Some(gate) if self.reads => {
                let namespace = self.scope.as_deref();
                let wanted = Wanted { rights: &[Right::List], namespace, name: None };
                token.is_some() && gate.admit(token, &wanted).await.is_ok()
            }
            _ => true,
        }
    }

    /// Whose token it is, if that is known already.
    pub(super) fn user(&self, token: Option<&str>, now: Moment) -> Option<String> {
        self.gate.as_ref()?.user(token?, now)
    }

    /// Whether a caller may read what is in these namespaces.
    ///
    /// # Errors
    /// Why not, of one of them.
    pub(super) async fn may_list<'a>(
        &self,
        caller: Option<&Caller>,
        namespaces: impl Iterator<Item = &'a str>,
    ) -> Result<(), Problem> {
        if !self.reads {
            return Ok(());
        }
        let closed = self.closed(caller, &[Right::List], namespaces).await?;
        closed.into_values().next().map_or(Ok(()), Err)
    }

    /// Of a batch, which instances are the caller's own, so that no right is asked for: one after the other.
    pub(super) fn own<'a>(
        &self,
        caller: Option<&Caller>,
        rights: &'static [Right],
        instances: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Vec<bool> {
        let own = |(namespace, name)| match (&self.gate, caller) {
            (Some(gate), Some(caller)) => {
                let wanted = Wanted { rights, namespace: Some(namespace), name: Some(name) };
                gate.is_own(caller, &wanted)
            }
            _ => false,
        };
        instances.map(own).collect()
    }

    /// Uid of the pod that registers itself: its token is bound to it, and the instance is its own.
    pub(super) fn own_pod(&self, caller: Option<&Caller>, target: &Target<'_>) -> Option<Arc<str>> {
        let (gate, caller) = (self.gate.as_ref()?, caller?);
        let (namespace, name) = (Some(target.namespace), Some(target.name));
        gate.own_pod(caller, &Wanted { rights: &[Right::Patch], namespace, name })
    }

    /// Of these namespaces, those in which the caller lacks one of these rights, or for which that could
    /// not be decided in time, and why. A batch is decided for whole namespaces: a question for each
    /// instance would be thousands.
    ///
    /// # Errors
    /// 422 for too many namespaces.
    pub(super) async fn closed<'a>(
        &self,
        caller: Option<&Caller>,
        rights: &'static [Right],
        namespaces: impl Iterator<Item = &'a str>,
    ) -> Result<BTreeMap<&'a str, Problem>, Problem> {
        let Some(gate) = &self.gate else { return Ok(BTreeMap::new()) };
        let caller = caller.ok_or_else(|| Problem::denied(Denial::NoToken))?;
        let namespaces: BTreeSet<&str> = namespaces.filter(|name| naming::is_label(name)).collect();
        if namespaces.len() > MAX_NAMESPACES {
            let detail = format!("at most {MAX_NAMESPACES} namespaces at a time");
            return Err(Problem::of(Kind::BadFields, vec![Flaw::body("instances", detail)]));
        }
        let away = || Problem::denied(Denial::Away);
        let mut closed: BTreeMap<_, _> =
            namespaces.iter().map(|namespace| (*namespace, away())).collect();
        let mut decided: FuturesUnordered<_> = namespaces
            .iter()
            .map(|namespace| async {
                let wanted = Wanted { rights, namespace: Some(namespace), name: None };
                (*namespace, gate.allow(caller, &wanted).await)
            })
            .collect();
        let decide = async {
            while let Some((namespace, decision)) = decided.next().await {
                match decision {
                    Ok(()) => drop(closed.remove(namespace)),
                    Err(denial) => drop(closed.insert(namespace, Problem::denied(denial))),
                }
            }
        };
        // What is not decided by then is left closed, with the reason that it began with.
        let _ = timeout(DECIDE_WITHIN, decide).await;
        drop(decided);
        Ok(closed)
    }
}

/// The bearer token of a request, if there is one. Of several none is taken: who looked at the request before may have
/// looked at another than this replica would.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
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
    /// A caller who may not.
    pub(super) fn denied(denial: Denial) -> Self {
        match denial {
            Denial::NoToken => {
                let detail = "send Authorization: Bearer with a token of the audience rollcall: in a \
                              pod a projected serviceAccountToken, by hand kubectl create token \
                              NAME --audience rollcall";
                let flaw = Flaw::header("Authorization", "one bearer token is needed, and no more");
                Self { flaws: vec![flaw], ..Self::new(Kind::Unauthenticated, detail) }
            }
            Denial::BadToken(why) => {
                let detail = format!(
                    "the token is not accepted: {why}. One that is: kubectl create token NAME --audience rollcall"
                );
                let flaw = Flaw::header("Authorization", "the token is not accepted");
                Self { flaws: vec![flaw], ..Self::new(Kind::BadToken, detail) }
            }
            Denial::Forbidden { user, right, namespace, pod } => {
                let mut problem = forbidden(&user, right, namespace);
                if let Some(pod) = pod {
                    let own = format!(
                        ". Without one, a token of the pod {0} opens the instance {0} in namespace {1}, and \
                         what has this pod among its ownerReferences",
                        pod.name, pod.namespace
                    );
                    problem.detail.to_mut().push_str(&own);
                }
                problem
            }
            Denial::NotAllowedToAsk => {
                let detail = "rollcall itself lacks the right to ask the Kubernetes API who is calling, or \
                              what they may; its log names the right. Nothing was refused, so try again \
                              when it is granted";
                Self { retry_after: Some(5), ..Self::new(Kind::Unavailable, detail) }
            }
            Denial::Away => {
                let detail = "the Kubernetes API cannot be asked just now, so nobody can be let in who was \
                              not here lately; nothing was refused, so try again";
                Self { retry_after: Some(2), ..Self::new(Kind::Unavailable, detail) }
            }
        }
    }
}

fn forbidden(user: &str, right: Right, namespace: Option<String>) -> Problem {
    let (verb, subresource) = right.words();
    let resource = subresource
        .map_or_else(|| "serviceinstances".to_owned(), |sub| format!("serviceinstances/{sub}"));
    let place = namespace
        .as_deref()
        .map_or_else(|| "all namespaces".to_owned(), |namespace| format!("namespace {namespace}"));
    let detail = format!(
        "{user} may not {verb} {resource} (API group rollcall.dev) in {place}; a Role or ClusterRole \
         has to grant it"
    );
    let mut problem = Problem::new(Kind::Forbidden, detail);
    let more = [
        ("user", user.to_owned().into()),
        ("verb", verb.into()),
        ("resource", resource.into()),
        ("namespace", namespace.into()),
    ];
    problem.more.extend(more.map(|(key, value)| (key.to_owned(), value)));
    problem
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn a_bearer_token_is_read_as_rfc_6750_writes_it() {
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
            assert_eq!(bearer(&headers), token, "{given}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
        let mut two = HeaderMap::new();
        two.append(AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        two.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert_eq!(bearer(&two), None);
    }

    #[test]
    fn a_denial_names_the_verb_the_resource_and_the_place() {
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
        assert_eq!(problem.more["verb"], "update");
        assert_eq!(problem.more["namespace"], "shop");
        assert!(denied(None).detail.contains("in all namespaces"));
    }
}
