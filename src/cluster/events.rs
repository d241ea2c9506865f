//! Kubernetes Events: what a person would act on, beside the object that it is about.
//!
//! Owns: their words. Never one a beat, only on a change of meaning. Does not own: when.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use crate::api::API_VERSION;
use crate::cluster::{call::measured, failure::Failure};
use crate::registry::fact::{Announcement, Version};
use crate::telemetry::metrics::{ApiMetrics, CallMetrics};

/// An Event that takes longer is given up: it is a courtesy.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Tells people.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    calls: CallMetrics,
}

impl Events {
    /// Events reported by this replica.
    #[must_use]
    pub fn new(client: Client, replica: &str, metrics: &ApiMetrics) -> Self {
        let reporter = Reporter {
            controller: "rollcall.dev/rollcall".to_owned(),
            instance: Some(replica.to_owned()),
        };
        let calls = metrics.on("events", &["create"]);
        Self { recorder: Recorder::new(client, reporter), calls }
    }

    /// Tells of a change of an instance.
    ///
    /// # Errors
    /// Why it could not be written.
    pub async fn announce(&self, on: &Version, what: &Announcement) -> Result<(), Failure> {
        let (type_, reason, action, note) = match what {
            Announcement::Expired { note } => {
                (EventType::Warning, "LeaseExpired", "Expire", note.clone())
            }
            Announcement::Revived => (
                EventType::Normal,
                "Revived",
                "Revive",
                "a heartbeat came after the lease had ended: offered again".to_owned(),
            ),
            Announcement::UnknownHealth { word } => (
                EventType::Warning,
                "UnknownHealth",
                "Ignore",
                format!(
                    "the annotation rollcall.dev/health says {word:?}, which is no health: as if nothing were said. \
                     Write Passing, Warning or Critical"
                ),
            ),
        };
        self.publish(
            on,
            Event {
                type_,
                reason: reason.to_owned(),
                note: Some(note),
                action: action.to_owned(),
                secondary: None,
            },
        )
        .await
    }

    /// Tells that an expired object was deleted.
    ///
    /// # Errors
    /// Why it could not be written.
    pub async fn evicted(&self, on: &Version, reason: &str) -> Result<(), Failure> {
        self.publish(
            on,
            Event {
                type_: EventType::Normal,
                reason: "Evicted".to_owned(),
                note: Some(format!("deleted: {reason}")),
                action: "Evict".to_owned(),
                secondary: None,
            },
        )
        .await
    }

    async fn publish(&self, on: &Version, event: Event) -> Result<(), Failure> {
        let about = ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some("ServiceInstance".to_owned()),
            namespace: Some(on.key.namespace.to_string()),
            name: Some(on.key.name.to_string()),
            uid: Some(on.uid.to_string()),
            // Without the version: with it no two would be taken for the same that repeats.
            ..ObjectReference::default()
        };
        // One that is told again within minutes is patched; here it counts as made all the same.
        measured(&self.calls, "create", TIMEOUT, self.recorder.publish(&event, &about)).await
    }
}
