//! The rights on instances that calls need.
//!
//! Owns: the rights, and their verbs and subresources in RBAC. Does not own: whether a caller has them (`authorizer`,
//! `own`).

/// A right on instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// Register a new instance.
    Create,
    /// Register again; change the lease or attributes.
    Patch,
    /// Deregister.
    Delete,
    /// Send heartbeats.
    Heartbeat,
    /// Set the operator state.
    State,
    /// Read one instance.
    Get,
    /// Discover and watch instances, and list services.
    List,
}

/// The rights that a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequiredRights<'a> {
    /// All of these. If there are none, any valid token is enough.
    pub rights: &'static [Right],
    /// In one namespace, or in all.
    pub namespace: Option<&'a str>,
    /// On one instance, or on any.
    pub name: Option<&'a str>,
}

impl Right {
    /// The verb and the subresource of `serviceinstances` in a Role.
    #[must_use]
    pub const fn verb_and_subresource(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Create => ("create", None),
            Self::Patch => ("patch", None),
            Self::Delete => ("delete", None),
            Self::Heartbeat => ("update", Some("heartbeat")),
            Self::State => ("update", Some("state")),
            Self::Get => ("get", None),
            Self::List => ("list", None),
        }
    }
}
