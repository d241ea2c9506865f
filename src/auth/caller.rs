//! Callers, and the keys under which what is known of them is kept.

use std::fmt;

use quick_cache::Equivalent;
use ring::digest::{Context, Digest, SHA256, digest};

use crate::auth::right::Right;
use crate::kubernetes::review::{Identity, Pod, Whose};

/// A fingerprint by which tokens and callers are kept: no two have the same, whatever a stranger tries,
/// and no token is kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 32]);

/// Who is calling.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(super) identity: Identity,
    /// Of everything that their rights depend on.
    pub(super) fingerprint: Fingerprint,
    /// The pod that their token is bound to. Beside the fingerprint: the pods of a workload share what
    /// RBAC lets them do.
    pub(super) pod: Option<Pod>,
}

/// What a caller wants to do, as a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    caller: Fingerprint,
    right: Right,
    namespace: Option<Box<str>>,
    name: Option<Box<str>>,
}

/// A borrowed [`Asked`], to look up without allocating.
#[derive(Clone, Copy, Hash)]
pub(super) struct AskedRef<'a> {
    pub(super) caller: Fingerprint,
    pub(super) right: Right,
    pub(super) namespace: Option<&'a str>,
    pub(super) name: Option<&'a str>,
}

impl Fingerprint {
    pub(super) fn of_token(token: &str) -> Self {
        Self::from(&digest(&SHA256, token.as_bytes()))
    }

    /// Each part goes in with its length, so that no two identities read the same.
    fn of_identity(identity: &Identity) -> Self {
        let mut context = Context::new(&SHA256);
        let mut say = |word: &str| {
            context.update(&word.len().to_be_bytes());
            context.update(word.as_bytes());
        };
        say(&identity.user);
        say(identity.uid.as_deref().unwrap_or_default());
        say(&identity.groups.len().to_string());
        identity.groups.iter().for_each(|group| say(group));
        for (key, values) in &identity.extra {
            say(key);
            say(&values.len().to_string());
            values.iter().for_each(|value| say(value));
        }
        Self::from(&context.finish())
    }
}

impl From<&Digest> for Fingerprint {
    fn from(digest: &Digest) -> Self {
        let mut bytes = [0; 32];
        // SHA-256 has as many.
        bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }
}

impl Caller {
    /// Tells callers apart: who has the same rights by the same name is the same.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.fingerprint.0
    }

    /// The name that Kubernetes knows them by.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.identity.user
    }

    pub(super) fn new(Whose { identity, pod }: Whose) -> Self {
        let fingerprint = Fingerprint::of_identity(&identity);
        Self { identity, fingerprint, pod }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.identity.user)
    }
}

impl Equivalent<Asked> for AskedRef<'_> {
    fn equivalent(&self, key: &Asked) -> bool {
        self.caller == key.caller
            && self.right == key.right
            && self.namespace == key.namespace.as_deref()
            && self.name == key.name.as_deref()
    }
}

impl From<AskedRef<'_>> for Asked {
    fn from(asked: AskedRef<'_>) -> Self {
        let AskedRef { caller, right, namespace, name } = asked;
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
        Caller::new(Whose { identity, pod: None }).fingerprint
    }

    #[test]
    fn callers_differ_by_everything_that_rights_depend_on() {
        let all = [
            caller("a", &[], &[]),
            caller("ab", &[], &[]),
            caller("a", &["b"], &[]),
            caller("a", &["b", "c"], &[]),
            caller("a", &["bc"], &[]),
            caller("a", &["b"], &[("c", "d")]),
            caller("a", &["b"], &[("c", "e")]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert_eq!(all.iter().position(|other| other == one), Some(at));
        }
        assert_eq!(caller("a", &["b"], &[]), caller("a", &["b"], &[]));
    }

    #[test]
    fn a_borrowed_key_finds_the_owned_one() {
        let caller = caller("a", &[], &[]);
        let hasher = RandomState::new();
        for (namespace, name) in [(None, None), (Some("shop"), None), (Some("shop"), Some("a"))] {
            let asked = AskedRef { caller, right: Right::Patch, namespace, name };
            let owned = Asked::from(asked);
            assert!(asked.equivalent(&owned));
            assert_eq!(hasher.hash_one(asked), hasher.hash_one(&owned));
        }
    }
}
