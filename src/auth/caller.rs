//! Callers, and the keys under which results about them are cached.

use std::fmt;

use quick_cache::Equivalent;
use ring::digest::{Context, Digest, SHA256, digest};

use crate::auth::right::Right;
use crate::kubernetes::review::{Identity, Pod, TokenSubject};

/// The SHA-256 of a token or an identity, as a cache key. An attacker cannot make two inputs collide, and tokens
/// themselves are not kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 32]);

/// An authenticated caller.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(super) identity: Identity,
    /// The fingerprint of everything that the caller's rights depend on.
    pub(super) fingerprint: Fingerprint,
    /// The pod that the caller's token is bound to. It is not part of the fingerprint, so the pods of a workload share the
    /// cached decisions of RBAC.
    pub(super) pod: Option<Pod>,
}

/// The cache key of a decision: a caller and the access that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct DecisionKey {
    caller: Fingerprint,
    right: Right,
    namespace: Option<Box<str>>,
    name: Option<Box<str>>,
}

/// A borrowed [`DecisionKey`], for lookups without an allocation.
#[derive(Clone, Copy, Hash)]
pub(super) struct DecisionKeyRef<'a> {
    pub(super) caller: Fingerprint,
    pub(super) right: Right,
    pub(super) namespace: Option<&'a str>,
    pub(super) name: Option<&'a str>,
}

impl Fingerprint {
    pub(super) fn of_token(token: &str) -> Self {
        Self::from(&digest(&SHA256, token.as_bytes()))
    }

    /// Each part is hashed with its length, so that no two identities produce the same input.
    fn of_identity(identity: &Identity) -> Self {
        let mut context = Context::new(&SHA256);
        let mut hash = |part: &str| {
            context.update(&part.len().to_be_bytes());
            context.update(part.as_bytes());
        };
        hash(&identity.user);
        hash(identity.uid.as_deref().unwrap_or_default());
        hash(&identity.groups.len().to_string());
        identity.groups.iter().for_each(|group| hash(group));
        for (key, values) in &identity.extra {
            hash(key);
            hash(&values.len().to_string());
            values.iter().for_each(|value| hash(value));
        }
        Self::from(&context.finish())
    }
}

impl From<&Digest> for Fingerprint {
    fn from(digest: &Digest) -> Self {
        let mut bytes = [0; 32];
        // A SHA-256 digest has 32 bytes.
        bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }
}

impl Caller {
    /// A key for data about this caller. Callers with the same identity have the same key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.fingerprint.0
    }

    /// The user name in Kubernetes.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.identity.user
    }

    pub(super) fn new(TokenSubject { identity, pod }: TokenSubject) -> Self {
        let fingerprint = Fingerprint::of_identity(&identity);
        Self { identity, fingerprint, pod }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.identity.user)
    }
}

impl Equivalent<DecisionKey> for DecisionKeyRef<'_> {
    fn equivalent(&self, key: &DecisionKey) -> bool {
        self.caller == key.caller
            && self.right == key.right
            && self.namespace == key.namespace.as_deref()
            && self.name == key.name.as_deref()
    }
}

impl From<DecisionKeyRef<'_>> for DecisionKey {
    fn from(key: DecisionKeyRef<'_>) -> Self {
        let DecisionKeyRef { caller, right, namespace, name } = key;
        Self { caller, right, namespace: namespace.map(Into::into), name: name.map(Into::into) }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher as _, RandomState};

    use super::*;

    fn caller(user: &str, groups: &[&str], extra: &[(&str, &str)]) -> Fingerprint {
        let extra = extra.iter().map(|&(key, value)| (key.into(), vec![value.into()])).collect();
        let groups = groups.iter().map(|&group| group.into()).collect();
        let identity = Identity { user: user.into(), uid: None, groups, extra };
        Caller::new(TokenSubject { identity, pod: None }).fingerprint
    }

    #[test]
    fn fingerprint_covers_everything_that_rights_depend_on() {
        let all = [
            caller("a", &[], &[]),
            caller("ab", &[], &[]),
            caller("a", &["b"], &[]),
            caller("a", &["b", "c"], &[]),
            caller("a", &["bc"], &[]),
            caller("a", &["b"], &[("c", "d")]),
            caller("a", &["b"], &[("c", "e")]),
        ];
        for (at, fingerprint) in all.iter().enumerate() {
            assert_eq!(all.iter().position(|other| other == fingerprint), Some(at));
        }
        assert_eq!(caller("a", &["b"], &[]), caller("a", &["b"], &[]));
    }

    #[test]
    fn borrowed_key_equals_the_owned_key() {
        let caller = caller("a", &[], &[]);
        let hasher = RandomState::new();
        for (namespace, name) in [(None, None), (Some("shop"), None), (Some("shop"), Some("a"))] {
            let key = DecisionKeyRef { caller, right: Right::Patch, namespace, name };
            let owned = DecisionKey::from(key);
            assert!(key.equivalent(&owned));
            assert_eq!(hasher.hash_one(key), hasher.hash_one(&owned));
        }
    }
}
