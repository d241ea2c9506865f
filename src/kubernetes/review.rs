//! Authentication of tokens and authorization of callers by the API server.
//!
//! Sources: <https://kubernetes.io/docs/reference/access-authn-authz/authentication/> (TokenReview),
//! <https://kubernetes.io/docs/reference/access-authn-authz/authorization/> (SubjectAccessReview).
//! Owns: the two reviews, their deadlines, how many are under way. Does not own: authentication with the cluster's keys,
//! without a review (`keyring`), decoding a user (`subject`), when to send a review, and how long its result is valid
//! (`auth`).

mod issuer;
mod jwt;
mod keyring;
mod keys;
#[cfg(test)]
mod mint;
mod quote;
mod subject;

pub use keyring::{KeyReader, Keyring};
pub use subject::{AUDIENCE, Identity, Pod, TokenSubject};

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use rollcall_api::GROUP;
use tokio::sync::Semaphore;

use crate::kubernetes::{breaker::Breaker, call::GuardedCalls, failure::Failure};
use crate::telemetry::metrics::ApiMetrics;

/// Maximum number of reviews under way at once, for each of two kinds: repeated reviews, which were answered before,
/// and first reviews. An API server answers a review in 1 to 5 ms, so each kind gets about 2,000 a second. The kinds
/// are limited separately, so that a flood of made-up tokens delays only new callers. Otherwise repeated reviews would
/// time out, and a revoked right would stay valid by its last answer.
const MAX_REVIEWS: usize = 8;

/// The access to instances that a SubjectAccessReview checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessRequest<'a> {
    /// The verb in RBAC.
    pub verb: &'static str,
    /// A subresource of `serviceinstances`.
    pub subresource: Option<&'static str>,
    /// One namespace, or all.
    pub namespace: Option<&'a str>,
    /// One instance, or any.
    pub name: Option<&'a str>,
}

/// How a review is sent.
#[derive(Clone, Copy, Debug)]
pub struct ReviewOptions {
    /// Whether the same review was answered before.
    pub repeated: bool,
    /// The deadline, which includes the wait for its turn.
    pub within: Duration,
}

/// Sends reviews. Cheap to clone.
#[derive(Clone)]
pub struct Reviewer {
    client: Client,
    repeated: Arc<Semaphore>,
    first: Arc<Semaphore>,
    tokens: GuardedCalls,
    access: GuardedCalls,
}

impl Reviewer {
    /// Sends reviews with `client`.
    #[must_use]
    pub fn new(client: Client, metrics: &ApiMetrics, breaker: &Breaker) -> Self {
        let guarded = |metrics| GuardedCalls { metrics, breaker: breaker.clone() };
        Self {
            client,
            repeated: Arc::new(Semaphore::new(MAX_REVIEWS)),
            first: Arc::new(Semaphore::new(MAX_REVIEWS)),
            tokens: guarded(metrics.for_resource("tokenreviews", &["create"])),
            access: guarded(metrics.for_resource("subjectaccessreviews", &["create"])),
        }
    }

    /// The subject of a token, or why the token is invalid.
    ///
    /// # Errors
    /// When the API server did not answer in time, or refused the review.
    pub async fn authenticate(
        &self,
        token: &str,
        ask: ReviewOptions,
    ) -> Result<Result<TokenSubject, String>, Failure> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![AUDIENCE.to_owned()]),
            },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let parameters = PostParams::default();
        let call = api.create(&parameters, &review);
        let answer = self.call(&self.tokens, ask, call).await?;
        Ok(subject_of_review(answer.status.unwrap_or_default()))
    }

    /// Whether a caller has this access.
    ///
    /// # Errors
    /// When the API server did not answer in time, or refused the review.
    pub async fn is_allowed(
        &self,
        caller: &Identity,
        request: AccessRequest<'_>,
        ask: ReviewOptions,
    ) -> Result<bool, Failure> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(caller.user.clone()),
                uid: caller.uid.clone(),
                groups: Some(caller.groups.clone()),
                extra: Some(caller.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(GROUP.to_owned()),
                    resource: Some("serviceinstances".to_owned()),
                    subresource: request.subresource.map(str::to_owned),
                    verb: Some(request.verb.to_owned()),
                    namespace: request.namespace.map(str::to_owned),
                    name: request.name.map(str::to_owned),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let parameters = PostParams::default();
        let call = api.create(&parameters, &review);
        let answer = self.call(&self.access, ask, call).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    async fn call<T>(
        &self,
        calls: &GuardedCalls,
        ReviewOptions { repeated, within }: ReviewOptions,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Failure> {
        let turn_and_call = async {
            // The semaphore is never closed. The deadline of the call includes this wait.
            let turns = if repeated { &self.repeated } else { &self.first };
            let _turn = turns.acquire().await;
            call.await
        };
        calls.call("create", within, turn_and_call).await
    }
}

/// The subject that a TokenReview found. An API server that does not support audiences would accept tokens for any
/// audience, so its answer must name ours.
fn subject_of_review(status: TokenReviewStatus) -> Result<TokenSubject, String> {
    let is_for_us = status.audiences.iter().flatten().any(|audience| audience == AUDIENCE);
    match status {
        TokenReviewStatus { authenticated: Some(true), user: Some(user), .. } if is_for_us => {
            Ok(user.into())
        }
        TokenReviewStatus { error: Some(why), .. } if !why.is_empty() => Err(why),
        TokenReviewStatus { authenticated: Some(true), .. } => {
            Err(format!("it is not for the audience {AUDIENCE}"))
        }
        _ => Err("the API server does not know it, or it has expired".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    fn status(authenticated: bool, audiences: &[&str], error: &str) -> TokenReviewStatus {
        TokenReviewStatus {
            authenticated: Some(authenticated),
            audiences: Some(audiences.iter().map(|&audience| audience.into()).collect()),
            error: Some(error.to_owned()),
            user: Some(UserInfo::default()),
        }
    }

    #[test]
    fn token_is_valid_only_if_the_review_names_our_audience() {
        assert!(subject_of_review(status(true, &["rollcall"], "")).is_ok());
        for (answer, why) in [
            (status(true, &[], ""), "audience"),
            (status(true, &["https://kubernetes.default.svc"], ""), "audience"),
            (status(false, &[], "it is malformed"), "it is malformed"),
            (status(false, &["rollcall"], ""), "does not know it"),
            (TokenReviewStatus::default(), "does not know it"),
        ] {
            let error = subject_of_review(answer).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
