//! The selectors, labels to the left of a service's label that select a subset of its instances.
//!
//! Owns: the kinds of selectors, how often each can occur in a name, and their translation to a [`Filter`]. Does not
//! own: their position in a name (`name`), and applying a filter (`rollcall_model::select`, the same as for HTTP).

use rollcall_model::{instance::Protocol, naming, select::Filter, view::Member};

/// A kind of selector, with its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectorKind {
    /// `<v>._ver`: instances of this version.
    Version,
    /// `<t>._tag`: instances with this tag; several in one name select instances with all of these tags.
    Tag,
    /// `<z>._zone`: instances in this zone, and no others.
    Zone,
    /// `<z>._near`: instances in this zone, or in all zones if none in this one is discoverable.
    Near,
}

impl SelectorKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Version, Self::Tag, Self::Zone, Self::Near];

    /// The label that follows the value.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Version => "_ver",
            Self::Tag => "_tag",
            Self::Zone => "_zone",
            Self::Near => "_near",
        }
    }

    /// Parses a label in lower case.
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label() == label)
    }

    /// Whether an instance has a value of this kind, so that a name below the label exists. `_near` names the zone of
    /// the client, so every zone is valid.
    #[must_use]
    pub fn is_present_in(self, member: &Member) -> bool {
        let facts = &member.facts;
        match self {
            Self::Version => facts.version.is_some(),
            Self::Tag => !facts.tags.is_empty(),
            Self::Zone => facts.zone.is_some(),
            Self::Near => true,
        }
    }
}

/// The selectors of a name; by default there are none, and all instances are selected. Values are labels in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subset<'q> {
    version: Option<&'q str>,
    tags: Vec<&'q str>,
    zone: Option<&'q str>,
    near: Option<&'q str>,
}

impl<'q> Subset<'q> {
    /// Whether there are no selectors.
    #[must_use]
    pub fn selects_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether another selector of this kind can be added.
    #[must_use]
    pub fn accepts(&self, kind: SelectorKind) -> bool {
        match kind {
            SelectorKind::Version => self.version.is_none(),
            SelectorKind::Tag => true,
            SelectorKind::Zone => self.zone.is_none(),
            SelectorKind::Near => self.near.is_none(),
        }
    }

    /// Adds a selector. `None` when its kind cannot occur again, or the value is not a DNS label.
    #[must_use]
    pub fn with(mut self, kind: SelectorKind, value: &'q str) -> Option<Self> {
        if !self.accepts(kind) || !naming::is_label(value) {
            return None;
        }
        match kind {
            SelectorKind::Version => self.version = Some(value),
            SelectorKind::Tag => self.tags.push(value),
            SelectorKind::Zone => self.zone = Some(value),
            SelectorKind::Near => self.near = Some(value),
        }
        Some(self)
    }

    /// A filter for the selected discoverable instances.
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

    /// A filter for the selected discoverable instances with a port of this protocol and, if given, of this name.
    #[must_use]
    pub fn with_port(&self, protocol: Protocol, name: Option<&str>) -> Filter {
        let port = name.map(str::to_owned);
        Filter { protocol: Some(protocol), port, ..self.filter() }
    }
}
