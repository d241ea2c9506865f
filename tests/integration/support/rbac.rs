//! ServiceAccounts, their tokens, and what they are granted.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use super::{Namespace, eventually};

/// The audience of tokens for the API server itself.
pub const API_SERVER: &str = "https://kubernetes.default.svc";

/// Verb, subresource and name: something to be done with instances.
pub type Deed<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

/// A token of the ServiceAccount `name`, which is made when it is not there.
pub async fn token(ns: &Namespace, name: &str, audience: &str) -> String {
    made_for(ns, name, audience, None).await
}

/// A pod of the ServiceAccount `account`, which is made when it is not there; nobody runs it.
pub async fn pod(ns: &Namespace, account: &str, name: &str) -> Pod {
    pod_of(ns, account, name, json!({})).await
}

/// The same with more in its spec.
pub async fn pod_of(ns: &Namespace, account: &str, name: &str, more: Value) -> Pod {
    let mut spec = json!({
        "serviceAccountName": account, "automountServiceAccountToken": false,
        "containers": [{"name": "main", "image": "none"}],
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let pod = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec}));
    ensure(ns, account).await;
    let api: Api<Pod> = ns.api();
    api.create(&PostParams::default(), &pod.unwrap()).await.unwrap()
}

/// A token that is bound to an object of the core API, by its kind and name.
pub async fn bound_to(ns: &Namespace, account: &str, (kind, name): (&str, &str)) -> String {
    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        uid: None,
    };
    made_for(ns, account, "rollcall", Some(bound)).await
}

/// A token as a pod has it from its projected volume: of its ServiceAccount, and bound to it.
pub async fn token_of(ns: &Namespace, pod: &Pod) -> String {
    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
    };
    let account = pod.spec.as_ref().unwrap().service_account_name.as_deref().unwrap();
    made_for(ns, account, "rollcall", Some(bound)).await
}

async fn ensure(ns: &Namespace, name: &str) {
    let api: Api<ServiceAccount> = ns.api();
    let account = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    let _ = api.create(&PostParams::default(), &account).await;
}

async fn made_for(
    ns: &Namespace,
    name: &str,
    audience: &str,
    bound_object_ref: Option<BoundObjectReference>,
) -> String {
    ensure(ns, name).await;
    let audiences = vec![audience.to_owned()];
    let spec = TokenRequestSpec { audiences, bound_object_ref, ..Default::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let api: Api<ServiceAccount> = ns.api();
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
