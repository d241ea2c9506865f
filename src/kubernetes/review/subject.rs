//! The subject of a token: the identity that rights depend on, and the pod that the token is bound to.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/> (bound
//! tokens). Owns: decoding both from a UserInfo. Does not own: the review (`review`), and what a pod may do with its own
//! instance (`auth`).

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::UserInfo;

/// The audience of tokens for rollcall.
pub const AUDIENCE: &str = "rollcall";

/// The prefix of keys in `extra` with which the API server describes the token: the pod and node that it is bound to,
/// and the token's id. Rights in RBAC do not depend on them, and they differ between the pods of a workload.
pub(super) const BINDING: &str = "authentication.kubernetes.io/";

/// The prefix of the user name of a ServiceAccount, before its namespace and name. No other user name has it.
pub(super) const ACCOUNT: &str = "system:serviceaccount:";

/// A user, as far as rights in RBAC depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// For example `system:serviceaccount:shop:orders`.
    pub user: String,
    /// The uid of the user, if it has one.
    pub uid: Option<String>,
    /// The groups of the user.
    pub groups: Vec<String>,
    /// What authenticators add, without the keys that describe the token.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The pod that a token is bound to. The token is valid only as long as the pod exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// The namespace of the ServiceAccount: a token can only be bound to a pod in that namespace.
    pub namespace: Box<str>,
    /// The name.
    pub name: Box<str>,
    /// The uid.
    pub uid: Box<str>,
}

/// The subject of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSubject {
    /// The same for all pods of a workload.
    pub identity: Identity,
    /// None for a token that is not bound to a pod, and for users that are not ServiceAccounts.
    pub pod: Option<Pod>,
}

impl From<UserInfo> for TokenSubject {
    fn from(user: UserInfo) -> Self {
        let mut groups = user.groups.unwrap_or_default();
        groups.sort_unstable();
        let mut extra = user.extra.unwrap_or_default();
        let uid = user.uid.filter(|uid| !uid.is_empty());
        let user = user.username.unwrap_or_default();
        let pod = pod(&user, &extra);
        extra.retain(|key, _| !key.starts_with(BINDING));
        Self { identity: Identity { user, uid, groups, extra }, pod }
    }
}

fn pod(user: &str, extra: &BTreeMap<String, Vec<String>>) -> Option<Pod> {
    let (namespace, _) = user.strip_prefix(ACCOUNT)?.split_once(':')?;
    let only = |key: &str| match extra.get(&format!("{BINDING}{key}"))?.as_slice() {
        [value] if !value.is_empty() => Some(value.as_str().into()),
        _ => None,
    };
    Some(Pod { namespace: namespace.into(), name: only("pod-name")?, uid: only("pod-uid")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(user: &str, extra: &[(&str, &[&str])]) -> TokenSubject {
        let values = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
        let extra = extra.iter().map(|(key, of)| ((*key).to_owned(), values(of))).collect();
        TokenSubject::from(UserInfo {
            username: Some(user.to_owned()),
            groups: Some(vec!["b".to_owned(), "a".to_owned()]),
            extra: Some(extra),
            uid: Some(String::new()),
        })
    }

    const NAME: &str = "authentication.kubernetes.io/pod-name";
    const UID: &str = "authentication.kubernetes.io/pod-uid";

    #[test]
    fn pods_of_a_workload_share_an_identity_and_keep_their_own_pod() {
        let of_pod = |name, uid| {
            let extra: [(&str, &[&str]); 3] = [(NAME, &[name]), (UID, &[uid]), ("scope", &["x"])];
            subject("system:serviceaccount:shop:orders", &extra)
        };
        let (first, second) = (of_pod("orders-1", "u1"), of_pod("orders-2", "u2"));
        assert_eq!(first.identity, second.identity);
        assert_eq!(first.identity.groups, ["a", "b"]);
        assert_eq!(first.identity.extra.keys().collect::<Vec<_>>(), ["scope"]);
        assert_eq!(first.identity.uid, None);
        let pod = Pod { namespace: "shop".into(), name: "orders-1".into(), uid: "u1".into() };
        assert_eq!(first.pod, Some(pod));
        assert_ne!(first.pod, second.pod);
    }

    #[test]
    fn pod_is_accepted_for_service_accounts_only_and_with_name_and_uid() {
        let account = "system:serviceaccount:shop:orders";
        let both: [(&str, &[&str]); 2] = [(NAME, &["p"]), (UID, &["u"])];
        assert!(subject(account, &both).pod.is_some());
        assert_eq!(subject("alice", &both).pod, None);
        assert_eq!(subject("system:serviceaccount:shop", &both).pod, None);
        assert_eq!(subject(account, &[]).pod, None);
        assert_eq!(subject(account, &both[..1]).pod, None);
        assert_eq!(subject(account, &[(NAME, &["p", "q"]), (UID, &["u"])]).pod, None);
        assert_eq!(subject(account, &[(NAME, &["p"]), (UID, &[""])]).pod, None);
    }
}
