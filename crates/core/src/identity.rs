//! The identity of this installation, and what the mark of an installation means here.
//!
//! Owns: which installation this is, and by which one a status was written. Does not own: which others there are
//! (`installations`), and where the identity comes from (the election of the server).

use std::time::Duration;

use rollcall_model::{installation::Installation, instance::Instance};

/// How long another installation is respected after its last sign of life: twice the longest pause between two
/// checkpoints.
pub(super) const RESPECT: Duration = Duration::from_secs(1_200);

/// Former identities of this installation: each time somebody deletes the Lease of its election.
const MOST_FORMER: usize = 16;

/// What this installation is called. Not known without the rights of the election, and before its first answer: then
/// nothing is another's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    current: Option<Installation>,
    former: Vec<Installation>,
}

/// By which installation something was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mark {
    /// By this one, or it does not say.
    #[default]
    Own,
    /// By one that is older: its word stands before ours.
    Older,
    /// By one that is younger.
    Younger,
}

impl Identity {
    /// This installation, as far as it is known.
    #[must_use]
    pub fn current(&self) -> Option<&Installation> {
        self.current.as_ref()
    }

    /// This installation is called so from now on.
    pub(super) fn renamed(&self, own: &Installation) -> Self {
        let mut identity = self.clone();
        let former = identity.current.replace(own.clone());
        identity.former.extend(former);
        let extra = identity.former.len().saturating_sub(MOST_FORMER);
        identity.former.drain(..extra);
        identity
    }

    /// By which installation the status of an object was written.
    pub(super) fn mark(&self, instance: &Instance) -> Mark {
        instance.stored.installation.as_ref().map_or(Mark::Own, |it| self.mark_of(it))
    }

    pub(super) fn mark_of(&self, other: &Installation) -> Mark {
        match &self.current {
            Some(own) if own != other && !self.former.contains(other) => {
                if other < own {
                    Mark::Older
                } else {
                    Mark::Younger
                }
            }
            _ => Mark::Own,
        }
    }

    /// Whether the object says `Expired`, as this installation has found. What another one has found is no verdict here:
    /// it does not know the heartbeats that are taken here.
    #[must_use]
    pub fn is_stored_expired(&self, instance: &Instance) -> bool {
        instance.is_stored_expired() && self.mark(instance) == Mark::Own
    }
}

impl Mark {
    pub(super) fn is_foreign(self) -> bool {
        self != Self::Own
    }
}
