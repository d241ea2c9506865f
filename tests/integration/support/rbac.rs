//! ServiceAccounts, their tokens, and the rights that they are granted.

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

/// A request on instances: verb, subresource and name.
pub type AccessRequest<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

/// A token of the ServiceAccount `name`, which is created if it does not exist.
pub async fn token(ns: &Namespace, name: &str, audience: &str) -> String {
    request_token(ns, name, audience, None).await
}

/// A pod of the ServiceAccount `account`, which is created if it does not exist. No node runs the pod.
pub async fn pod(ns: &Namespace, account: &str, name: &str) -> Pod {
    pod_with_spec(ns, account, name, json!({})).await
}

/// A pod with additional fields in its spec.
pub async fn pod_with_spec(ns: &Namespace, account: &str, name: &str, more: Value) -> Pod {
    let mut spec = json!({
        "serviceAccountName": account, "automountServiceAccountToken": false,
        "containers": [{"name": "main", "image": "none"}],
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let pod = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec}));
    ensure_account(ns, account).await;
    let api: Api<Pod> = ns.api();
    api.create(&PostParams::default(), &pod.unwrap()).await.unwrap()
}

/// A token that is bound to an object of the core API, given by kind and name.
pub async fn bound_token(ns: &Namespace, account: &str, (kind, name): (&str, &str)) -> String {
    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        uid: None,
    };
    request_token(ns, account, "rollcall", Some(bound)).await
}

/// A token like the one in a pod's projected volume: it belongs to the pod's ServiceAccount, and is bound to the pod.
pub async fn pod_token(ns: &Namespace, pod: &Pod) -> String {
    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
    };
    let account = pod.spec.as_ref().unwrap().service_account_name.as_deref().unwrap();
    request_token(ns, account, "rollcall", Some(bound)).await
}

async fn ensure_account(ns: &Namespace, name: &str) {
    let api: Api<ServiceAccount> = ns.api();
    let account = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    let _ = api.create(&PostParams::default(), &account).await;
}

async fn request_token(
    ns: &Namespace,
    name: &str,
    audience: &str,
    bound_object_ref: Option<BoundObjectReference>,
) -> String {
    ensure_account(ns, name).await;
    let audiences = vec![audience.to_owned()];
    let spec = TokenRequestSpec { audiences, bound_object_ref, ..Default::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let api: Api<ServiceAccount> = ns.api();
    let created = api.create_token_request(name, &PostParams::default(), &request).await.unwrap();
    created.status.unwrap().token
}

/// Grants a role to a ServiceAccount in this namespace, and waits until `access` is allowed.
pub async fn grant(
    ns: &Namespace,
    (kind, role): (&str, &str),
    account: &str,
    access: AccessRequest<'_>,
) {
    let binding = serde_json::from_value(json!({
        "metadata": {"name": format!("{account}-{role}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": ns.name}],
    }));
    let api: Api<RoleBinding> = ns.api();
    api.create(&PostParams::default(), &binding.unwrap()).await.unwrap();
    until_allowed(ns, account, access).await;
}

/// Waits until a ServiceAccount of this namespace has this access to its instances: the API server's authorizer observes
/// a binding a moment after it is created.
async fn until_allowed(
    ns: &Namespace,
    account: &str,
    (verb, subresource, name): AccessRequest<'_>,
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
    eventually(&format!("{account} is allowed to {verb}"), Duration::from_secs(30), async || {
        let answer = api.create(&PostParams::default(), &review).await.unwrap();
        answer.status.unwrap().allowed.then_some(())
    })
    .await;
}
