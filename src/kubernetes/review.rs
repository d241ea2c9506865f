//! Who bears a token, and whether they may do something, by the API server's word.
//!
//! Sources: <https://kubernetes.io/docs/reference/access-authn-authz/authentication/> (TokenReview),
//! <https://kubernetes.io/docs/reference/access-authn-authz/authorization/> (SubjectAccessReview).
//! Owns: the two questions, their deadlines, how many are under way. Does not own: telling whose a token is
//! by the cluster's keys, without a question (`keyring`), reading who somebody is (`whose`), when to ask, and
//! how long an answer is good for (`auth`).

mod brief;
mod issuer;
mod jwt;
mod keyring;
mod keys;
#[cfg(test)]
mod mint;
mod whose;

pub use keyring::{KeyReader, Keyring};
pub use whose::{AUDIENCE, Identity, Pod, Whose};

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use rollcall_api::GROUP;
use tokio::sync::Semaphore;

use crate::kubernetes::{breaker::Breaker, call::Guarded, failure::Failure};
use crate::telemetry::metrics::ApiMetrics;

/// Questions under way at once of each of two kinds: those that were answered before, and those that
/// never were. An API server answers one in 1 to 5 ms, so each kind has some 2,000 a second. On their
/// own, so that a crowd with made-up tokens holds up newcomers only, and what was withdrawn is not
/// repeated for want of an answer.
const MAX_REVIEWS: usize = 8;

/// Something that somebody wants to do with instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// In Kubernetes' words.
    pub verb: &'static str,
    /// Of `serviceinstances`.
    pub subresource: Option<&'static str>,
    /// One namespace, or all.
    pub namespace: Option<&'a str>,
    /// One instance, or any.
    pub name: Option<&'a str>,
}

/// How a question is asked.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Whether it was answered before.
    pub anew: bool,
    /// How long it may take, the wait for its turn included.
    pub within: Duration,
}

/// Asks. Cheap to clone.
#[derive(Clone)]
pub struct Reviews {
    client: Client,
    known: Arc<Semaphore>,
    new: Arc<Semaphore>,
    tokens: Guarded,
    access: Guarded,
}

impl Reviews {
    /// Uses `client` for nothing else.
    #[must_use]
    pub fn new(client: Client, metrics: &ApiMetrics, breaker: &Breaker) -> Self {
        let guarded = |metrics| Guarded { metrics, breaker: breaker.clone() };
        Self {
            client,
            known: Arc::new(Semaphore::new(MAX_REVIEWS)),
            new: Arc::new(Semaphore::new(MAX_REVIEWS)),
            tokens: guarded(metrics.on("tokenreviews", &["create"])),
            access: guarded(metrics.on("subjectaccessreviews", &["create"])),
        }
    }

    /// Whose token it is; or why it is nobody's, or not for us.
    ///
    /// # Errors
    /// When it could not be asked in time.
    pub async fn token(&self, token: &str, ask: Ask) -> Result<Result<Whose, String>, Failure> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![AUDIENCE.to_owned()]),
            },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let parameters = PostParams::default();
        let asked = api.create(&parameters, &review);
        let answer = self.ask(&self.tokens, ask, asked).await?;
        Ok(whose(answer.status.unwrap_or_default()))
    }

    /// Whether somebody may.
    ///
    /// # Errors
    /// When it could not be asked in time.
    pub async fn access(
        &self,
        who: &Identity,
        question: Question<'_>,
        ask: Ask,
    ) -> Result<bool, Failure> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(who.user.clone()),
                uid: who.uid.clone(),
                groups: Some(who.groups.clone()),
                extra: Some(who.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(GROUP.to_owned()),
                    resource: Some("serviceinstances".to_owned()),
                    subresource: question.subresource.map(str::to_owned),
                    verb: Some(question.verb.to_owned()),
                    namespace: question.namespace.map(str::to_owned),
                    name: question.name.map(str::to_owned),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let parameters = PostParams::default();
        let asked = api.create(&parameters, &review);
        let answer = self.ask(&self.access, ask, asked).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    async fn ask<T>(
        &self,
        calls: &Guarded,
        Ask { anew, within }: Ask,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Failure> {
        let turn_and_call = async {
            // Never closed; the deadline counts from here.
            let turns = if anew { &self.known } else { &self.new };
            let _turn = turns.acquire().await;
            call.await
        };
        calls.call("create", within, turn_and_call).await
    }
}

/// A server that knows no audiences would say yes to tokens of any: its answer must name ours.
fn whose(status: TokenReviewStatus) -> Result<Whose, String> {
    let for_us = status.audiences.iter().flatten().any(|audience| audience == AUDIENCE);
    match status {
        TokenReviewStatus { authenticated: Some(true), user: Some(user), .. } if for_us => {
            Ok(user.into())
        }
        TokenReviewStatus { error: Some(why), .. } if !why.is_empty() => Err(why),
        TokenReviewStatus { authenticated: Some(true), .. } => {
            Err(format!("it is not made for the audience {AUDIENCE}"))
        }
        _ => Err("nobody bears it, or it has ended".to_owned()),
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
    fn only_an_answer_that_names_our_audience_counts() {
        assert!(whose(status(true, &["rollcall"], "")).is_ok());
        for (answer, why) in [
            (status(true, &[], ""), "audience"),
            (status(true, &["https://kubernetes.default.svc"], ""), "audience"),
            (status(false, &[], "it is torn"), "it is torn"),
            (status(false, &["rollcall"], ""), "nobody"),
            (TokenReviewStatus::default(), "nobody"),
        ] {
            let said = whose(answer).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
