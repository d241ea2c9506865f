//! The annotations of a write: the heartbeat, the health that the instance reports, and the pod that registers it.
//!
//! Owns: which annotations a report and a registration set, and which they remove. Pure. Does not own: the rest of a
//! body (`body`), sending (`writer`).

use std::collections::BTreeMap;

use rollcall_api::{HEALTH_ANNOTATION, HEARTBEAT_ANNOTATION, POD_ANNOTATION, STOPPING_ANNOTATION};
use rollcall_model::{
    instance::{Health, HealthReport, Instance},
    registration::Registration,
};

/// An annotation and its value; `None` removes the annotation.
pub(super) type Annotation = (&'static str, Option<String>);

pub(super) fn with_heartbeat(
    beat: &str,
    others: impl IntoIterator<Item = Annotation>,
) -> BTreeMap<&'static str, Option<String>> {
    others.into_iter().chain([(HEARTBEAT_ANNOTATION, Some(beat.to_owned()))]).collect()
}

fn health_is(health: Health) -> Annotation {
    (HEALTH_ANNOTATION, Some(health.as_str().to_owned()))
}

/// The annotations that an apply sets on an instance that is not stopping. An apply cannot contain null, so it cannot
/// remove annotations.
pub(super) fn applied_annotations(registration: &Registration, beat: &str) -> Vec<Annotation> {
    let pod = registration.pod.as_ref().map(|pod| (POD_ANNOTATION, Some(pod.to_string())));
    let health = registration.health.map(|report| match report.health() {
        Some(health) => health_is(health),
        None => (STOPPING_ANNOTATION, Some(beat.to_owned())),
    });
    pod.into_iter().chain(health).collect()
}

/// The annotations that a merge patch changes for a report. `stopping`: the instance is known to be stopping.
pub(super) fn report_annotations(
    report: Option<HealthReport>,
    stopping: bool,
    beat: &str,
) -> Vec<Annotation> {
    let stop = || (STOPPING_ANNOTATION, Some(beat.to_owned()));
    match report.map(|report| (report, report.health())) {
        None => Vec::new(),
        Some((_, None)) => vec![stop()],
        // Passing ends Stopping, whether or not this replica knows that the instance is stopping.
        Some((HealthReport::Passing, Some(health))) => {
            vec![health_is(health), (STOPPING_ANNOTATION, None)]
        }
        // The health annotation itself may say `Stopping`, and this write replaces it, so Stopping is stored again in
        // its own annotation.
        Some((_, Some(health))) if stopping => vec![health_is(health), stop()],
        Some((_, Some(health))) => vec![health_is(health)],
    }
}

/// Like [`report_annotations`], for a registration. Another pod may take the instance over with it.
pub(super) fn replaced_annotations(
    record: &Instance,
    registration: &Registration,
    beat: &str,
) -> Vec<Annotation> {
    let taken_over = registration.takes_over(record);
    let pod = (POD_ANNOTATION, registration.pod.as_ref().map(ToString::to_string));
    let mut annotations =
        report_annotations(registration.health, record.stopping && !taken_over, beat);
    if taken_over && record.stopping && registration.health != Some(HealthReport::Stopping) {
        if registration.health.is_none() {
            annotations.push(health_is(record.health));
        }
        annotations.push((STOPPING_ANNOTATION, None));
    }
    annotations.into_iter().chain([pod]).collect()
}
