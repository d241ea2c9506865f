//! The identity of this installation, and which installation wrote a status.
//!
//! Owns: the name of this installation, and the comparison with the one that wrote a status. Does not own:
//! which other installations exist (`installations`), and where the name comes from (the election in the
//! server).

use std::time::Duration;

use rollcall_model::{installation::Installation, instance::Instance};

/// How long another installation counts as active after its last write: twice the longest pause between
/// two checkpoints.
pub(super) const ACTIVE_FOR: Duration = Duration::from_secs(1_200);

/// Maximum number of former names of this installation that are kept. The installation gets a new name
/// whenever the Lease of its election is deleted.
const MAX_FORMER: usize = 16;

/// The names of this installation. They are unknown until the election has received its first answer,
/// which requires rights. While they are unknown, no status counts as another installation's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    current: Option<Installation>,
    former: Vec<Installation>,
}

/// The installation that wrote a status, relative to this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Author {
    /// This installation, or the status names none.
    #[default]
    Own,
    /// An older installation, whose status takes precedence.
    Older,
    /// A younger installation.
    Younger,
}

impl Identity {
    #[must_use]
    pub fn current(&self) -> Option<&Installation> {
        self.current.as_ref()
    }

    pub(super) fn renamed(&self, own: &Installation) -> Self {
        let mut identity = self.clone();
        let former = identity.current.replace(own.clone());
        identity.former.extend(former);
        let extra = identity.former.len().saturating_sub(MAX_FORMER);
        identity.former.drain(..extra);
        identity
    }

    /// Which installation wrote the status of an object.
    pub(super) fn author(&self, instance: &Instance) -> Author {
        instance.stored.installation.as_ref().map_or(Author::Own, |it| self.classify(it))
    }

    pub(super) fn classify(&self, other: &Installation) -> Author {
        match &self.current {
            Some(own) if own != other && !self.former.contains(other) => {
                if other < own {
                    Author::Older
                } else {
                    Author::Younger
                }
            }
            _ => Author::Own,
        }
    }

    /// Whether this installation stored the object as `Expired`. The verdict of another installation does not
    /// count here, because it does not know the heartbeats that are taken here.
    #[must_use]
    pub fn is_stored_expired(&self, instance: &Instance) -> bool {
        instance.is_stored_expired() && self.author(instance) == Author::Own
    }
}

impl Author {
    pub(super) fn is_foreign(self) -> bool {
        self != Self::Own
    }
}
