//! Kubernetes Events: reports that a person can act on, attached to the object concerned.
//!
//! Owns: their texts. An Event reports a change of an instance's state, never a single heartbeat. Does not own: when one
//! is due (the state machine), writing it (`recorder`).

use kube::Client;
use rollcall_api::{HEALTH_ANNOTATION, UnknownHealth};
use rollcall_core::fact::{Announcement, Version};
use rollcall_model::lease::{Lease, OnExpiry};

use crate::kubernetes::{
    failure::Failure,
    recorder::{EventContent, Recorder},
};
use crate::telemetry::metrics::ApiMetrics;

const NORMAL: &str = "Normal";
const WARNING: &str = "Warning";

const HELD: &str = "kept in the answers (held) for at most one more lease";

/// What to check when many instances are silent.
const CHECK_SHARED_CAUSE: &str = "Check what these instances share: the network to rollcall, a node, their sidecars, a certificate";

/// Writes Events about instances.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// Events that name `replica` as their reporter.
    #[must_use]
    pub fn new(client: Client, replica: &str, metrics: &ApiMetrics) -> Self {
        Self { recorder: Recorder::new(client, replica, metrics) }
    }

    /// Writes an Event about a change of an instance.
    ///
    /// # Errors
    /// Why the Event could not be written.
    pub async fn announce(&self, on: &Version, announcement: &Announcement) -> Result<(), Failure> {
        let (type_, reason, action) = classify(announcement);
        self.recorder
            .record(on, EventContent { type_, reason, action, note: bounded(note(announcement)) })
            .await
    }
}

/// Type, reason and action.
fn classify(announcement: &Announcement) -> (&'static str, &'static str, &'static str) {
    match announcement {
        Announcement::Expired { .. } => (WARNING, "LeaseExpired", "Expire"),
        Announcement::Evicted { .. } => (NORMAL, "Evicted", "Evict"),
        Announcement::Revived { .. } => (NORMAL, "Revived", "Revive"),
        Announcement::Critical => (WARNING, "ReportedCritical", "Withdraw"),
        Announcement::Recovered => (NORMAL, "Recovered", "Offer"),
        Announcement::UnknownHealth { .. } => (WARNING, "UnknownHealth", "Warn"),
        Announcement::Unreadable { .. } => (WARNING, "Unreadable", "Ignore"),
        Announcement::StoreWentBack { .. } => (WARNING, "StoreWentBack", "Relist"),
        Announcement::Held { .. } | Announcement::HeldAll { .. } => (WARNING, "Held", "Hold"),
        Announcement::Duplicates { .. } => (WARNING, "TwoProcesses", "Yield"),
        Announcement::OtherInstallation { .. } => (WARNING, "OtherInstallation", "Defer"),
    }
}

/// What happens to the object of an expired instance that sends no heartbeat.
fn object_after_expiry(lease: Lease) -> String {
    match lease.on_expiry {
        OnExpiry::Retain => "without one, the object is kept".to_owned(),
        OnExpiry::Evict => {
            format!("without one, the object is deleted after {} s", lease.evict_after.as_secs())
        }
    }
}

/// What happened, with its numbers, and what to do. The time is in other fields of the Event.
fn note(announcement: &Announcement) -> String {
    match announcement {
        Announcement::Expired { lease } => {
            let seconds = lease.duration.as_secs();
            let fate = object_after_expiry(*lease);
            format!(
                "no heartbeat for a whole lease of {seconds} s: the instance is no longer discoverable. \
                 A heartbeat makes it discoverable again; {fate}"
            )
        }
        Announcement::Evicted { reason } => {
            format!("deleted: {reason}. To come back, the instance must register again")
        }
        Announcement::Revived { lease, phase } => {
            let seconds = lease.duration.as_secs();
            let effect = if phase.is_discoverable() {
                "the instance is discoverable again".to_owned()
            } else {
                format!("the instance is not discoverable because its phase is {phase}")
            };
            format!(
                "a heartbeat came after the lease of {seconds} s had ended: {effect}. If this happens often, \
                 send a heartbeat every third of the lease, or register with a longer lease"
            )
        }
        Announcement::Critical => {
            "the instance reports itself as Critical: it is not discoverable until it reports Passing \
             or Warning"
                .to_owned()
        }
        Announcement::Recovered => {
            "the instance no longer reports itself as Critical: it is discoverable again".to_owned()
        }
        Announcement::UnknownHealth { word } => {
            format!("the annotation {HEALTH_ANNOTATION}: {}", UnknownHealth(word.clone()))
        }
        Announcement::Held { service, of } => format!(
            "all {of} discoverable instances of the service {service} fell silent together: each of them whose \
             lease ends is {HELD}, and until then no instance of the service is evicted. {CHECK_SHARED_CAUSE}"
        ),
        Announcement::HeldAll { silent, of } => format!(
            "{silent} of {of} instances with a lease in the cluster fell silent together: each of them whose \
             lease ends is {HELD}, and until then no instance is evicted. {CHECK_SHARED_CAUSE}"
        ),
        Announcement::StoreWentBack { reason } => format!(
            "the store stepped back, as after a restore of etcd from a backup ({reason}): rollcall lists all \
             objects again and gives every instance one lease. Instances registered since the backup must \
             register again"
        ),
        Announcement::Duplicates { sentence } | Announcement::OtherInstallation { sentence } => {
            sentence.to_string()
        }
        Announcement::Unreadable { reason } => format!(
            "the instance is not discoverable because this version of rollcall cannot read its object: {reason}. \
             Correct the object. If the API server accepts it unchanged, the installed definitions and rollcall \
             are of different versions: install both of the same version"
        ),
    }
}

/// Cuts a note to the length that the API server accepts.
fn bounded(mut note: String) -> String {
    const MAX: usize = 1024;
    const CUT: &str = " …";
    if note.len() > MAX {
        let end = (0..=MAX - CUT.len()).rev().find(|end| note.is_char_boundary(*end));
        note.truncate(end.unwrap_or(0));
        note.push_str(CUT);
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollcall_model::instance::Phase;

    #[test]
    fn note_contains_numbers_and_the_fix() {
        let lease = Lease::default();
        assert_eq!(
            note(&Announcement::Expired { lease }),
            "no heartbeat for a whole lease of 30 s: the instance is no longer discoverable. A heartbeat \
             makes it discoverable again; without one, the object is deleted after 60 s"
        );
        let drained = note(&Announcement::Revived { lease, phase: Phase::Draining });
        assert!(drained.contains("not discoverable because its phase is Draining"), "{drained}");
    }

    #[test]
    fn long_note_is_cut_to_the_api_servers_limit() {
        let reason = "ü".repeat(2000).into();
        let note = bounded(note(&Announcement::Unreadable { reason }));
        assert!((1020..=1024).contains(&note.len()) && note.ends_with('…'), "{}", note.len());
    }
}
