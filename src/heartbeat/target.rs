//! The instance that a call is about.
//!
//! Owns: its name, and the preconditions of the call. Does not own: what the call does (`intake`, `change`).

use rollcall_core::slot::Slot;
use rollcall_model::instance::{Instance, InstanceKey};

use crate::heartbeat::refusal::Refusal;

/// The instance that a call is about.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Namespace.
    pub namespace: &'a str,
    /// Object name.
    pub name: &'a str,
    /// The uid that the object must have, if any.
    pub uid: Option<&'a str>,
    /// The resourceVersion that the object must have, if any.
    pub version: Option<u64>,
}

impl Target<'_> {
    pub(super) fn key(&self) -> InstanceKey {
        InstanceKey::new(self.namespace, self.name)
    }

    /// Checks the preconditions.
    pub(super) fn check_preconditions(&self, instance: &Instance) -> Result<(), Refusal> {
        match self.uid {
            Some(uid) if *uid != *instance.uid => {
                return Err(Refusal::OtherUid(instance.uid.clone()));
            }
            _ => {}
        }
        match self.version {
            Some(version) if version != instance.resource_version => {
                Err(Refusal::OtherVersion(instance.resource_version))
            }
            _ => Ok(()),
        }
    }

    /// Whether the caller requires a newer version than this replica has received. Another replica may have received
    /// it.
    pub(super) fn is_ahead_of(&self, slot: &Slot) -> bool {
        self.version.is_some_and(|version| version > slot.record().resource_version)
    }

    /// Whether there is a precondition on the object.
    pub(super) fn has_precondition(&self) -> bool {
        self.uid.is_some() || self.version.is_some()
    }
}
