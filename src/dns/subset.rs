//! Which members of a service a name speaks of: the selectors left of the service's label.
//!
//! Owns: the kinds of selectors, how often each may stand in a name, and what they mean as a
//! [`Filter`]. Does not own: where they stand in a name (`name`), and whom a filter admits
//! (`rollcall_model::select`, the same as for HTTP).

use rollcall_model::{instance::Protocol, naming, select::Filter, view::Member};

/// A kind of selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `<v>._ver`: this version.
    Version,
    /// `<t>._tag`: this tag; several may stand in one name, and all of them hold.
    Tag,
    /// `<z>._zone`: this zone and no other.
    Zone,
    /// `<z>._near`: this zone where it has anybody to offer, else all.
    Near,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Version, Self::Tag, Self::Zone, Self::Near];

    /// Its label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Version => "_ver",
            Self::Tag => "_tag",
            Self::Zone => "_zone",
            Self::Near => "_near",
        }
    }

    /// The kind of a label, in lower case.
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label() == label)
    }

    /// Whether a member has any value of this kind, so that there is a name below. `_near` is about
    /// who asks: every zone can be near.
    #[must_use]
    pub fn is_had_by(self, member: &Member) -> bool {
        let facts = &member.facts;
        match self {
            Self::Version => facts.version.is_some(),
            Self::Tag => !facts.tags.is_empty(),
            Self::Zone => facts.zone.is_some(),
            Self::Near => true,
        }
    }
}

/// What is selected; everybody by default. All values are labels in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subset<'q> {
    version: Option<&'q str>,
    tags: Vec<&'q str>,
    zone: Option<&'q str>,
    near: Option<&'q str>,
}

impl<'q> Subset<'q> {
    /// Whether everybody is meant.
    #[must_use]
    pub fn is_everybody(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a selector of this kind may follow.
    #[must_use]
    pub fn takes(&self, kind: Kind) -> bool {
        match kind {
            Kind::Version => self.version.is_none(),
            Kind::Tag => true,
            Kind::Zone => self.zone.is_none(),
            Kind::Near => self.near.is_none(),
        }
    }

    /// The same with one selector more; none when it may not follow, or selects nothing that has a
    /// label.
    #[must_use]
    pub fn and(mut self, kind: Kind, value: &'q str) -> Option<Self> {
        if !self.takes(kind) || !naming::is_label(value) {
            return None;
        }
        match kind {
            Kind::Version => self.version = Some(value),
            Kind::Tag => self.tags.push(value),
            Kind::Zone => self.zone = Some(value),
            Kind::Near => self.near = Some(value),
        }
        Some(self)
    }

    /// Whom it admits, of those who are discoverable.
    #[must_use]
    pub fn filter(&self) -> Filter {
        let owned = |value: Option<&str>| value.map(str::to_owned);
        Filter {
            version: owned(self.version),
            tags: self.tags.iter().map(|tag| (*tag).to_owned()).collect(),
            zone: owned(self.zone),
            near: owned(self.near),
            ..Filter::default()
        }
    }

    /// Whom it admits, of those who are discoverable and have a port of this protocol and, if given, name.
    #[must_use]
    pub fn with_port(&self, protocol: Protocol, name: Option<&str>) -> Filter {
        let port = name.map(str::to_owned);
        Filter { protocol: Some(protocol), port, ..self.filter() }
    }
}
