//! What is a caller's own: a pod keeps its instance, without any Role.
//!
//! Owns: which instance is a pod's own, and which rights that gives. Does not own: which pod a token is
//! bound to (`cluster::review`), and which pod owns an instance (the registry, through [`Owners`]).
//!
//! It is decided when a call comes in, as every right is, and of what is known here then.

use std::sync::Arc;

use crate::auth::right::{Right, Wanted};
use crate::kubernetes::review::Pod;

/// The uid of the pod that owns an instance, by namespace and name; none when no pod does, or the
/// instance is not known here. Answers from memory.
pub type Owners = Box<dyn Fn(&str, &str) -> Option<Arc<str>> + Send + Sync>;

/// Whether a pod has this right over what is its own: it may keep its instance registered, and take it
/// out. The operator's word is an operator's, and reading has a right of its own.
pub(super) fn gives(right: Right) -> bool {
    match right {
        Right::Create | Right::Patch | Right::Delete | Right::Heartbeat => true,
        Right::State | Right::Get | Right::List => false,
    }
}

/// Whether the bearer of a token that is bound to `pod` wants something with an instance of its
/// namespace that bears its name or has it as an owner, and nothing but what that gives.
pub(super) fn is_own(pod: Option<&Pod>, wanted: &Wanted<'_>, owners: &Owners) -> bool {
    let (Some(pod), Some(namespace), Some(name)) = (pod, wanted.namespace, wanted.name) else {
        return false;
    };
    *pod.namespace == *namespace
        && !wanted.rights.is_empty()
        && wanted.rights.iter().all(|right| gives(*right))
        && (*pod.name == *name || owners(namespace, name).is_some_and(|uid| *uid == *pod.uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTER: &[Right] = &[Right::Create, Right::Patch];

    fn may(rights: &'static [Right], namespace: Option<&str>, name: Option<&str>) -> bool {
        let pod = Pod { namespace: "shop".into(), name: "orders-1".into(), uid: "u1".into() };
        let owners: Owners = Box::new(|_, name| match name {
            "side" => Some("u1".into()),
            "other" => Some("u2".into()),
            _ => None,
        });
        is_own(Some(&pod), &Wanted { rights, namespace, name }, &owners)
    }

    #[test]
    fn its_own_is_what_bears_a_pods_name_or_is_owned_by_it_in_its_namespace() {
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
        let wanted = Wanted { rights: REGISTER, namespace: Some("shop"), name: Some("orders-1") };
        let owners: Owners = Box::new(|_, _| Some("u1".into()));
        assert!(!is_own(None, &wanted, &owners));
    }

    #[test]
    fn it_is_kept_and_taken_out_but_not_drained_nor_read() {
        let own = |rights| may(rights, Some("shop"), Some("orders-1"));
        assert!(own(&[Right::Heartbeat]) && own(&[Right::Delete]) && own(&[Right::Patch]));
        assert!(!own(&[Right::State]) && !own(&[Right::Get]) && !own(&[Right::List]));
        assert!(!own(&[Right::Patch, Right::State]) && !own(&[]));
    }
}
