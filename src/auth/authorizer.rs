//! The authorizer: takes a token and the rights that a call needs, and returns the caller or a denial.
//!
//! Owns: how long results are valid, and the order of the checks. First the token is authenticated (by a review, or with
//! the keys that the API server publishes). Then the call is allowed if the instance is the caller's own, if the caller
//! has the rights in the whole namespace, or if it has them on this instance. Does not own: the rights (`right`), the
//! calls to the API server (`kubernetes::review`), and which instance is a pod's own (`own`).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rollcall_model::lease::Moment;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::auth::{
    cache::{AnswerCache, AnswerSource, FetchedAnswer},
    caller::{Caller, DecisionKey, DecisionKeyRef, Fingerprint},
    metrics::{AuthMetrics, CheckKind},
    own::{self, OwnerLookup},
    right::{RequiredRights, Right},
    token,
};
use crate::clock;
use crate::kubernetes::{
    failure::Failure,
    review::{AccessRequest, Keyring, Pod, ReviewOptions, Reviewer, TokenSubject},
};

/// Maximum number of tokens in the cache. Each takes 32 bytes for the fingerprint and about 550 for the caller, so a
/// full cache takes 10 MB. Every pod has its own token, so this is enough for the sidecars of 16,384 pods.
const TOKENS: usize = 16_384;

/// Maximum number of decisions in the cache, of 200 bytes each. A caller is a ServiceAccount, so this is enough for
/// 8,192 pairs of workload and right.
const DECISIONS: usize = 8_192;

/// Longer tokens are refused; those of ServiceAccounts have about 1,200 characters.
const MAX_TOKEN: usize = 8 * 1024;

/// How long an authenticated token is accepted without another check. A token whose pod is deleted is accepted for at
/// most this long. With the cluster's keys, such a token is accepted until it expires or its key is withdrawn.
const CALLER_FRESH: Duration = Duration::from_secs(120);

/// How long a granted right is used without another review. A revoked right ends after this time.
const GRANT_FRESH: Duration = Duration::from_secs(30);

/// A denial is reviewed again soon, because an operator may be about to grant the right.
const DENIAL_FRESH: Duration = Duration::from_secs(5);

/// How long the last decision on a right, granted or denied, is used while the API server does not answer. It is a day,
/// so that instances can send heartbeats even through an outage that lasts overnight. The token expires earlier.
const RIGHT_FALLBACK: Duration = Duration::from_secs(24 * 3600);

/// The deadline of a review without an earlier result to fall back to.
const ASK_WITHIN: Duration = Duration::from_secs(3);

/// The deadline of a review with an earlier result to fall back to.
const REFRESH_WITHIN: Duration = Duration::from_secs(1);

/// The deadline of all reviews of a call together, and of the wait for reviews that other calls have sent.
const ADMIT_WITHIN: Duration = Duration::from_secs(5);

/// Why a call is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The request has no token.
    NoToken,
    /// The token is invalid, for this reason.
    BadToken(Arc<str>),
    /// The caller lacks a right.
    Forbidden {
        /// The caller's user name.
        user: String,
        /// The right that the caller lacks.
        right: Right,
        /// The namespace; none for all namespaces.
        namespace: Option<String>,
        /// The pod that the caller's token is bound to, if the caller has the right on that pod's own instance.
        pod: Option<Pod>,
    },
    /// The API server did not answer.
    Unavailable,
    /// Rollcall itself lacks the right to send reviews.
    ReviewsForbidden,
}

/// Authenticates and authorizes callers.
pub struct Authorizer {
    reviews: Reviewer,
    /// Authenticates tokens with the cluster's keys; without it, reviews do.
    keyring: Option<Keyring>,
    tokens: AnswerCache<Fingerprint, TokenResult>,
    decisions: AnswerCache<DecisionKey, bool>,
    owners: OwnerLookup,
    metrics: AuthMetrics,
    /// Whether the last review of each kind failed, so that only changes are logged.
    failing: [AtomicBool; 2],
}

#[derive(Clone, Debug)]
enum TokenResult {
    Valid(Arc<Caller>),
    Invalid(Arc<str>),
}

impl Authorizer {
    /// Starts with empty caches.
    #[must_use]
    pub fn new(
        reviews: Reviewer,
        keyring: Option<Keyring>,
        owners: OwnerLookup,
        metrics: AuthMetrics,
    ) -> Self {
        let (tokens, decisions) = (AnswerCache::new(TOKENS), AnswerCache::new(DECISIONS));
        let failing = [const { AtomicBool::new(false) }; 2];
        Self { reviews, keyring, tokens, decisions, owners, metrics, failing }
    }

    /// Whether the caller's token alone allows this: it is bound to the pod that owns the instance.
    #[must_use]
    pub fn is_own(&self, caller: &Caller, wanted: &RequiredRights<'_>) -> bool {
        own::is_own(caller.pod.as_ref(), wanted, &self.owners)
    }

    /// The uid of the pod that the caller's token is bound to, if the instance is that pod's own.
    #[must_use]
    pub fn own_pod(&self, caller: &Caller, wanted: &RequiredRights<'_>) -> Option<Arc<str>> {
        let pod = caller.pod.as_ref().filter(|_| self.is_own(caller, wanted))?;
        Some(pod.uid.as_ref().into())
    }

    /// The result, if the caches contain it, after one or two lookups; `None` when a review is necessary.
    #[must_use]
    pub fn known(
        &self,
        token: Option<&str>,
        wanted: &RequiredRights<'_>,
        now: Moment,
    ) -> Option<Result<Arc<Caller>, Denial>> {
        let token = match require_token(token) {
            Ok(token) => token,
            Err(denial) => return Some(Err(denial)),
        };
        let caller = match self.tokens.fresh(&Fingerprint::of_token(token), now)? {
            TokenResult::Valid(caller) => caller,
            TokenResult::Invalid(why) => return Some(Err(Denial::BadToken(why))),
        };
        if !self.is_own(&caller, wanted) {
            for right in wanted.rights {
                if !self.cached_decision(&caller, *right, wanted, now)? {
                    return Some(Err(forbidden(&caller, *right, wanted)));
                }
            }
        }
        self.metrics.count_admitted_from_memory();
        Some(Ok(caller))
    }

    /// The user name of a token's subject, if the cache contains it.
    #[must_use]
    pub fn user(&self, token: &str, now: Moment) -> Option<String> {
        match self.tokens.fresh(&Fingerprint::of_token(token), now)? {
            TokenResult::Valid(caller) => Some(caller.user().to_owned()),
            TokenResult::Invalid(_) => None,
        }
    }

    /// Authenticates and authorizes a call, with reviews where necessary, within five seconds.
    ///
    /// # Errors
    /// Why the call is denied.
    pub async fn admit(
        &self,
        token: Option<&str>,
        wanted: &RequiredRights<'_>,
    ) -> Result<Arc<Caller>, Denial> {
        let token = require_token(token)?;
        let admit = async {
            let caller = self.authenticate(token).await?;
            self.authorize(&caller, wanted).await?;
            Ok(caller)
        };
        timeout(ADMIT_WITHIN, admit).await.unwrap_or(Err(Denial::Unavailable))
    }

    /// Authorizes a further access of an authenticated caller, within five seconds.
    ///
    /// # Errors
    /// [`Denial::Forbidden`], or why no review was possible.
    pub async fn allow(&self, caller: &Caller, wanted: &RequiredRights<'_>) -> Result<(), Denial> {
        timeout(ADMIT_WITHIN, self.authorize(caller, wanted))
            .await
            .unwrap_or(Err(Denial::Unavailable))
    }

    async fn authorize(&self, caller: &Caller, wanted: &RequiredRights<'_>) -> Result<(), Denial> {
        if self.is_own(caller, wanted) {
            return Ok(());
        }
        for right in wanted.rights {
            let wide = self.is_granted(caller, *right, wanted.namespace, None).await?;
            let allowed = wide
                || match wanted.name {
                    None => false,
                    name => self.is_granted(caller, *right, wanted.namespace, name).await?,
                };
            if !allowed {
                return Err(forbidden(caller, *right, wanted));
            }
        }
        Ok(())
    }

    fn cached_decision(
        &self,
        caller: &Caller,
        right: Right,
        wanted: &RequiredRights<'_>,
        now: Moment,
    ) -> Option<bool> {
        let caller = caller.fingerprint;
        let wide = DecisionKeyRef { caller, right, namespace: wanted.namespace, name: None };
        let wide_decided = self.decisions.fresh(&wide, now)?;
        if wide_decided || wanted.name.is_none() {
            return Some(wide_decided);
        }
        self.decisions.fresh(&DecisionKeyRef { name: wanted.name, ..wide }, now)
    }

    async fn authenticate(&self, token: &str) -> Result<Arc<Caller>, Denial> {
        let fetch = |repeated| async move {
            Ok(match self.token_subject(token, review_options(repeated)).await? {
                Ok(subject) => {
                    let left = token::remaining_lifetime(token, clock::wall());
                    let value = TokenResult::Valid(Arc::new(Caller::new(subject)));
                    FetchedAnswer { value, fresh: CALLER_FRESH.min(left), fallback: Some(left) }
                }
                Err(why) => FetchedAnswer {
                    value: TokenResult::Invalid(why.into()),
                    fresh: DENIAL_FRESH,
                    fallback: None,
                },
            })
        };
        let (result, source) = self.record_result(
            CheckKind::Token,
            self.tokens.get(&Fingerprint::of_token(token), fetch).await,
        )?;
        match result {
            TokenResult::Valid(caller) => {
                self.metrics.count_check(CheckKind::Token, "yes", source);
                Ok(caller)
            }
            TokenResult::Invalid(why) => {
                self.metrics.count_check(CheckKind::Token, "no", source);
                Err(Denial::BadToken(why))
            }
        }
    }

    async fn token_subject(
        &self,
        token: &str,
        ask: ReviewOptions,
    ) -> Result<Result<TokenSubject, String>, Failure> {
        match &self.keyring {
            Some(keyring) => keyring.authenticate(token, ask.within).await,
            None => self.reviews.authenticate(token, ask).await,
        }
    }

    async fn is_granted(
        &self,
        caller: &Caller,
        right: Right,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<bool, Denial> {
        let (verb, subresource) = right.verb_and_subresource();
        let fetch = |repeated| async move {
            let request = AccessRequest { verb, subresource, namespace, name };
            let allowed = self
                .reviews
                .is_allowed(&caller.identity, request, review_options(repeated))
                .await?;
            let fresh = if allowed { GRANT_FRESH } else { DENIAL_FRESH };
            // A denial is kept as long as a grant: for a right on one instance, the denial in the whole namespace is
            // needed first.
            Ok(FetchedAnswer { value: allowed, fresh, fallback: Some(RIGHT_FALLBACK) })
        };
        let key = DecisionKeyRef { caller: caller.fingerprint, right, namespace, name };
        let (allowed, source) =
            self.record_result(CheckKind::Access, self.decisions.get(&key.into(), fetch).await)?;
        self.metrics.count_check(CheckKind::Access, if allowed { "yes" } else { "no" }, source);
        Ok(allowed)
    }

    fn record_result<T>(
        &self,
        step: CheckKind,
        answer: Result<(T, AnswerSource), Failure>,
    ) -> Result<(T, AnswerSource), Denial> {
        let failed = match &answer {
            // No review was sent.
            Ok((_, AnswerSource::Cache)) => None,
            Ok((_, source)) => Some(*source == AnswerSource::Outage),
            Err(_) => Some(true),
        };
        // With the cluster's keys, their reader logs its own failures. If the key of one token could not be read, that
        // says nothing about other tokens, and any caller can make up such a token.
        let with_keys = step == CheckKind::Token && self.keyring.is_some();
        if let Some(failed) = failed.filter(|_| !with_keys) {
            self.log_change(step, failed, answer.as_ref().err());
        }
        answer.map_err(|failure| {
            self.metrics.count_check(step, "unknown", AnswerSource::Fetched);
            match failure {
                Failure::Refused { code: 403, .. } => Denial::ReviewsForbidden,
                _ => Denial::Unavailable,
            }
        })
    }

    /// Logs when reviews begin to fail, and when they are answered again.
    fn log_change(&self, step: CheckKind, failed: bool, why: Option<&Failure>) {
        let [token, access] = &self.failing;
        let flag = if step == CheckKind::Token { token } else { access };
        match (flag.swap(failed, Ordering::Relaxed), failed) {
            (false, true) => {
                let why = why.map_or_else(|| "no answer in time".to_owned(), Failure::to_string);
                warn!(
                    why,
                    ?step,
                    "cannot review callers with the Kubernetes API; calls whose caller was not reviewed lately are refused"
                );
            }
            (true, false) => info!(?step, "the Kubernetes API reviews callers again"),
            _ => {}
        }
    }
}

fn review_options(repeated: bool) -> ReviewOptions {
    ReviewOptions { repeated, within: if repeated { REFRESH_WITHIN } else { ASK_WITHIN } }
}

fn require_token(token: Option<&str>) -> Result<&str, Denial> {
    match token {
        None => Err(Denial::NoToken),
        Some(token) if token.len() > MAX_TOKEN => Err(Denial::BadToken("it is too long".into())),
        Some(token) => Ok(token),
    }
}

fn forbidden(caller: &Caller, right: Right, wanted: &RequiredRights<'_>) -> Denial {
    let namespace = wanted.namespace.map(str::to_owned);
    let pod = caller.pod.clone().filter(|_| own::includes(right));
    Denial::Forbidden { user: caller.to_string(), right, namespace, pod }
}
