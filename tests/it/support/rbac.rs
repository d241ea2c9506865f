//! Waiting until a grant counts: the API server's authorizer hears of a binding a moment later.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::api::{Api, PostParams};
use serde_json::json;

use super::{Namespace, eventually};

/// Waits until a ServiceAccount of this namespace may do this (verb, subresource, name) with instances in it.
pub async fn until_may(
    ns: &Namespace,
    account: &str,
    (verb, subresource, name): (&str, Option<&str>, Option<&str>),
) {
    let review = serde_json::from_value::<SubjectAccessReview>(json!({"spec": {
        "user": format!("system:serviceaccount:{}:{account}", ns.name),
        "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{}", ns.name)],
        "resourceAttributes": {
            "group": "rollcall.dev", "resource": "serviceinstances", "namespace": ns.name,
            "verb": verb, "subresource": subresource, "name": name,
        },
    }}));
    let (api, review) = (Api::<SubjectAccessReview>::all(ns.client.clone()), review.unwrap());
    eventually(&format!("{account} may {verb}"), Duration::from_secs(30), async || {
        let answer = api.create(&PostParams::default(), &review).await.unwrap();
        answer.status.unwrap().allowed.then_some(())
    })
    .await;
}
