//! Kubernetes Events: what a person would act on, beside the object that it is about.
//!
//! Owns: their words. Never one a beat, only on a change of meaning. Does not own: when.

use kube::Client;
use rollcall_api::{HEALTH_ANNOTATION, UnknownHealth};
use rollcall_core::fact::{Announcement, Version};
use rollcall_model::lease::{Lease, OnExpiry};

use crate::kubernetes::{
    failure::Failure,
    recorder::{Note, Recorder},
};
use crate::telemetry::metrics::ApiMetrics;

const NORMAL: &str = "Normal";
const WARNING: &str = "Warning";

const HELD: &str = "kept in the answers (held) for one more lease at most";

/// What to do when many are silent.
const COMMON: &str = "Look for what they have in common: the network to rollcall, a node, their sidecars, a certificate";

/// Tells people.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// Events reported by this replica.
    #[must_use]
    pub fn new(client: Client, replica: &str, metrics: &ApiMetrics) -> Self {
        Self { recorder: Recorder::new(client, replica, metrics) }
    }

    /// Tells of a change of an instance.
    ///
    /// # Errors
    /// Why it could not be written.
    pub async fn announce(&self, on: &Version, what: &Announcement) -> Result<(), Failure> {
        let (kind, reason, action) = kind(what);
        self.recorder.record(on, Note { kind, reason, action, text: bounded(text(what)) }).await
    }
}

/// Type, reason and action.
fn kind(what: &Announcement) -> (&'static str, &'static str, &'static str) {
    match what {
        Announcement::Expired { .. } => (WARNING, "LeaseExpired", "Expire"),
        Announcement::Evicted { .. } => (NORMAL, "Evicted", "Evict"),
        Announcement::Revived { .. } => (NORMAL, "Revived", "Revive"),
        Announcement::Critical => (WARNING, "ReportedCritical", "Withdraw"),
        Announcement::Recovered => (NORMAL, "Recovered", "Offer"),
        Announcement::UnknownHealth { .. } => (WARNING, "UnknownHealth", "Warn"),
        Announcement::Unreadable { .. } => (WARNING, "Unreadable", "Ignore"),
        Announcement::StoreWentBack { .. } => (WARNING, "StoreWentBack", "ListAnew"),
        Announcement::Held { .. } | Announcement::HeldAll { .. } => (WARNING, "Held", "Hold"),
        Announcement::Duplicates { .. } => (WARNING, "TwoProcesses", "Yield"),
        Announcement::OtherInstallation { .. } => (WARNING, "OtherInstallation", "Defer"),
    }
}

/// What becomes of the object of an expired instance.
fn fate(lease: Lease) -> String {
    match lease.on_expiry {
        OnExpiry::Retain => "the object stays".to_owned(),
        OnExpiry::Evict => {
            format!("without one the object is deleted after {} s", lease.evict_after.as_secs())
        }
    }
}

/// What happened, with its numbers, and what to do. Not when: the Event says that.
fn text(what: &Announcement) -> String {
    match what {
        Announcement::Expired { lease } => {
            let seconds = lease.duration.as_secs();
            let fate = fate(*lease);
            format!(
                "no heartbeat for a whole lease of {seconds} s: not discoverable any more. \
                 A heartbeat brings it back; {fate}"
            )
        }
        Announcement::Evicted { reason } => {
            format!("deleted: {reason}. To come back, it has to register again")
        }
        Announcement::Revived { lease, phase } => {
            let seconds = lease.duration.as_secs();
            let offer = if phase.is_discoverable() {
                "discoverable again".to_owned()
            } else {
                format!("not discoverable, since it is {phase}")
            };
            format!(
                "a heartbeat came after the lease of {seconds} s had ended: {offer}. \
                 If that happens often, beat every third of the lease, or ask for a longer one"
            )
        }
        Announcement::Critical => {
            "reports itself as Critical: not discoverable any more, until it reports \
                                   Passing or Warning"
                .to_owned()
        }
        Announcement::Recovered => {
            "no longer reports itself as Critical: discoverable again".to_owned()
        }
        Announcement::UnknownHealth { word } => {
            format!("the annotation {HEALTH_ANNOTATION}: {}", UnknownHealth(word.clone()))
        }
        Announcement::Held { service, of } => format!(
            "all {of} instances that the service {service} offers fell silent together: whoever's lease ends is \
             {HELD}, and nothing of the service is deleted meanwhile. {COMMON}"
        ),
        Announcement::HeldAll { silent, of } => format!(
            "{silent} of {of} leased instances of the cluster fell silent together: whoever's lease ends is {HELD}, \
             and nothing at all is deleted meanwhile. {COMMON}"
        ),
        Announcement::StoreWentBack { reason } => format!(
            "the store went back, as after a restore of etcd from a backup ({reason}): everything is listed anew, and every \
             instance has one lease. What was registered since the backup has to register again"
        ),
        Announcement::Duplicates { sentence } | Announcement::OtherInstallation { sentence } => {
            sentence.to_string()
        }
        Announcement::Unreadable { reason } => format!(
            "not discoverable, since this version of rollcall cannot read it: {reason}. Correct the object; \
             if the API server takes it as it is, update rollcall to the version of its CRDs"
        ),
    }
}

/// The API server refuses a longer note.
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
    fn a_note_says_its_numbers_and_what_to_do() {
        let lease = Lease::default();
        assert_eq!(
            text(&Announcement::Expired { lease }),
            "no heartbeat for a whole lease of 30 s: not discoverable any more. A heartbeat brings it \
             back; without one the object is deleted after 60 s"
        );
        let drained = text(&Announcement::Revived { lease, phase: Phase::Draining });
        assert!(drained.contains("not discoverable, since it is Draining"), "{drained}");
    }

    #[test]
    fn a_long_note_is_cut_to_what_the_api_server_takes() {
        let reason = "ü".repeat(2000).into();
        let note = bounded(text(&Announcement::Unreadable { reason }));
        assert!((1020..=1024).contains(&note.len()) && note.ends_with('…'), "{}", note.len());
    }
}
