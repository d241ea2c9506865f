//! Whose a token is: the identity that rights depend on, and beside it the pod that it is bound to.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/> (bound
//! tokens). Owns: reading both out of what the API server says of a user. Does not own: asking it
//! (`review`), and what a pod may do with its own instance (`auth`).

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::UserInfo;

/// What tokens for rollcall are made for.
pub const AUDIENCE: &str = "rollcall";

/// What the API server says of its own bookkeeping in `extra`: which pod and node a token is bound to,
/// and the token's own id. No right of RBAC depends on it, and it differs for each pod of a workload.
pub(super) const BINDING: &str = "authentication.kubernetes.io/";

/// The user of a ServiceAccount, before its namespace and name. Nobody else is called so.
pub(super) const ACCOUNT: &str = "system:serviceaccount:";

/// Who somebody is, as far as rights of RBAC depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `system:serviceaccount:shop:orders`, for example.
    pub user: String,
    /// Of the user, where there is one.
    pub uid: Option<String>,
    /// The groups it is in.
    pub groups: Vec<String>,
    /// What authenticators add, without what a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The pod that a token is bound to: it ends with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// That of the ServiceAccount; a token is bound to pods of it only.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Which incarnation of that name.
    pub uid: Box<str>,
}

/// Whose a token is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whose {
    /// The same for all pods of a workload.
    pub identity: Identity,
    /// None for a token that stands for the ServiceAccount alone, or for somebody who is none.
    pub pod: Option<Pod>,
}

impl From<UserInfo> for Whose {
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

    fn whose(user: &str, extra: &[(&str, &[&str])]) -> Whose {
        let values = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
        let extra = extra.iter().map(|(key, of)| ((*key).to_owned(), values(of))).collect();
        Whose::from(UserInfo {
            username: Some(user.to_owned()),
            groups: Some(vec!["b".to_owned(), "a".to_owned()]),
            extra: Some(extra),
            uid: Some(String::new()),
        })
    }

    const NAME: &str = "authentication.kubernetes.io/pod-name";
    const UID: &str = "authentication.kubernetes.io/pod-uid";

    #[test]
    fn pods_of_one_workload_are_the_same_caller_each_with_its_own_pod() {
        let of = |name, uid| {
            let extra: [(&str, &[&str]); 3] = [(NAME, &[name]), (UID, &[uid]), ("scope", &["x"])];
            whose("system:serviceaccount:shop:orders", &extra)
        };
        let (one, other) = (of("orders-1", "u1"), of("orders-2", "u2"));
        assert_eq!(one.identity, other.identity);
        assert_eq!(one.identity.groups, ["a", "b"]);
        assert_eq!(one.identity.extra.keys().collect::<Vec<_>>(), ["scope"]);
        assert_eq!(one.identity.uid, None);
        let pod = Pod { namespace: "shop".into(), name: "orders-1".into(), uid: "u1".into() };
        assert_eq!(one.pod, Some(pod));
        assert_ne!(one.pod, other.pod);
    }

    #[test]
    fn a_pod_is_believed_of_a_service_account_and_only_with_name_and_uid() {
        let account = "system:serviceaccount:shop:orders";
        let both: [(&str, &[&str]); 2] = [(NAME, &["p"]), (UID, &["u"])];
        assert!(whose(account, &both).pod.is_some());
        assert_eq!(whose("alice", &both).pod, None);
        assert_eq!(whose("system:serviceaccount:shop", &both).pod, None);
        assert_eq!(whose(account, &[]).pod, None);
        assert_eq!(whose(account, &both[..1]).pod, None);
        assert_eq!(whose(account, &[(NAME, &["p", "q"]), (UID, &["u"])]).pod, None);
        assert_eq!(whose(account, &[(NAME, &["p"]), (UID, &[""])]).pod, None);
    }
}
