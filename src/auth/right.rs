//! What a call needs: rights over instances, as RBAC knows them.
//!
//! Owns: the rights, and what a Role calls each. Does not own: whether a caller has them (`gate`, `own`).

/// A right over instances, as RBAC knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// Register what is new.
    Create,
    /// Register again; change a lease.
    Patch,
    /// Deregister.
    Delete,
    /// Heartbeats.
    Heartbeat,
    /// The operator's word.
    State,
    /// One instance.
    Get,
    /// Discovery, and lists of services.
    List,
}

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// All of these; with none of them anybody whose token is good may.
    pub rights: &'static [Right],
    /// In one namespace, or in all.
    pub namespace: Option<&'a str>,
    /// On one instance, or on any.
    pub name: Option<&'a str>,
}

impl Right {
    /// As a Role writes it: verb and subresource of `serviceinstances`.
    #[must_use]
    pub const fn words(self) -> (&'static str, Option<&'static str>) {
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
