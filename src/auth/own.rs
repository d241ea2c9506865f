//! A pod's own instance: the pod may keep it registered without any Role.
//!
//! Owns: which instance is a pod's own, and the rights on it. Does not own: which pod a token is
//! bound to (`kubernetes::review`), and which pod owns an instance (the registry, through [`OwnerLookup`]).
//!
//! Like every right, this is decided when a call arrives, from the data that the replica has at that time.

use std::sync::Arc;

use crate::auth::right::{RequiredRights, Right};
use crate::kubernetes::review::Pod;

/// Looks up the uid of the pod that owns an instance, by namespace and name; `None` when no pod does, or this
/// replica does not know the instance. Answers from memory.
pub type OwnerLookup = Box<dyn Fn(&str, &str) -> Option<Arc<str>> + Send + Sync>;

/// Whether a pod has this right on its own instance. It may register and deregister the instance and send
/// heartbeats. Only operators set the operator state, and reading needs a Role.
pub(super) fn includes(right: Right) -> bool {
    match right {
        Right::Create | Right::Patch | Right::Delete | Right::Heartbeat => true,
        Right::State | Right::Get | Right::List => false,
    }
}

/// Whether a call with a token that is bound to `pod` concerns the pod's own instance (in its namespace, with its name or
/// with the pod as its owner), and needs only rights that the pod has on it.
pub(super) fn is_own(pod: Option<&Pod>, wanted: &RequiredRights<'_>, owners: &OwnerLookup) -> bool {
    let (Some(pod), Some(namespace), Some(name)) = (pod, wanted.namespace, wanted.name) else {
        return false;
    };
    *pod.namespace == *namespace
        && !wanted.rights.is_empty()
        && wanted.rights.iter().all(|right| includes(*right))
        && (*pod.name == *name || owners(namespace, name).is_some_and(|uid| *uid == *pod.uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTER: &[Right] = &[Right::Create, Right::Patch];

    fn may(rights: &'static [Right], namespace: Option<&str>, name: Option<&str>) -> bool {
        let pod = Pod { namespace: "shop".into(), name: "orders-1".into(), uid: "u1".into() };
        let owners: OwnerLookup = Box::new(|_, name| match name {
            "side" => Some("u1".into()),
            "other" => Some("u2".into()),
            _ => None,
        });
        is_own(Some(&pod), &RequiredRights { rights, namespace, name }, &owners)
    }

    #[test]
    fn own_instance_has_the_pods_namespace_and_its_name_or_the_pod_as_owner() {
        for (namespace, name, own) in [
            (Some("shop"), Some("orders-1"), true),
            (Some("shop"), Some("side"), true),
            (Some("shop"), Some("orders-2"), false),
            (Some("shop"), Some("other"), false),
            (Some("till"), Some("orders-1"), false),
            (Some("till"), Some("side"), false),
            (Some("shop"), None, false),
            (None, Some("orders-1"), false),
        ] {
            assert_eq!(may(REGISTER, namespace, name), own, "{namespace:?} {name:?}");
        }
        let wanted =
            RequiredRights { rights: REGISTER, namespace: Some("shop"), name: Some("orders-1") };
        let owners: OwnerLookup = Box::new(|_, _| Some("u1".into()));
        assert!(!is_own(None, &wanted, &owners));
    }

    #[test]
    fn pod_may_register_and_deregister_its_own_instance_but_not_drain_or_read_it() {
        let own = |rights| may(rights, Some("shop"), Some("orders-1"));
        assert!(own(&[Right::Heartbeat]) && own(&[Right::Delete]) && own(&[Right::Patch]));
        assert!(!own(&[Right::State]) && !own(&[Right::Get]) && !own(&[Right::List]));
        assert!(!own(&[Right::Patch, Right::State]) && !own(&[]));
    }
}
