//! ServiceAccounts, their tokens, and what they are granted.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, PostParams};
use serde_json::json;

use super::{Namespace, eventually};

/// The audience of tokens for the API server itself.
pub const API_SERVER: &str = "https://kubernetes.default.svc";

/// Verb, subresource and name: something to be done with instances.
pub type Deed<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

/// A token of the ServiceAccount `name`, which is made when it is not there.
pub async fn token(ns: &Namespace, name: &str, audience: &str) -> String {
    let api: Api<ServiceAccount> = ns.api();
    let account = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    let _ = api.create(&PostParams::default(), &account).await;
    let spec = TokenRequestSpec { audiences: vec![audience.to_owned()], ..Default::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let made = api.create_token_request(name, &PostParams::default(), &request).await.unwrap();
    made.status.unwrap().token
}

/// Grants a role to a ServiceAccount in this namespace, and waits until it counts: until `deed` is allowed.
pub async fn grant(ns: &Namespace, (kind, role): (&str, &str), account: &str, deed: Deed<'_>) {
    let binding = serde_json::from_value(json!({
        "metadata": {"name": format!("{account}-{role}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": ns.name}],
    }));
    let api: Api<RoleBinding> = ns.api();
    api.create(&PostParams::default(), &binding.unwrap()).await.unwrap();
    until_may(ns, account, deed).await;
}

/// The API server's authorizer hears of a binding a moment later. Waits until a ServiceAccount of this namespace do this with instances in it.
async fn until_may(ns: &Namespace, account: &str, (verb, subresource, name): Deed<'_>) {
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
