//! The annotations of a write: the heartbeat, what the instance reports, and whose pod registers it.
//!
//! Owns: which annotations a report and a registration set, and which they take away. Pure. Does not own: the rest of a body
//! (`body`), and sending (`writer`).

use std::collections::BTreeMap;

use rollcall_api::{HEALTH_ANNOTATION, HEARTBEAT_ANNOTATION, POD_ANNOTATION, STOPPING_ANNOTATION};
use rollcall_model::{
    instance::{Health, HealthReport, Instance},
    registration::Registration,
};

/// An annotation, and its value or that it is taken away.
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

/// What an apply says of an instance that is not leaving: null has no place in it.
pub(super) fn said(registration: &Registration, beat: &str) -> Vec<Annotation> {
    let pod = registration.pod.as_ref().map(|pod| (POD_ANNOTATION, Some(pod.to_string())));
    let word = registration.health.map(|report| match report.health() {
        Some(health) => health_is(health),
        None => (STOPPING_ANNOTATION, Some(beat.to_owned())),
    });
    pod.into_iter().chain(word).collect()
}

/// What a merge patch changes by a report. `stopping`: the instance is known to be leaving.
pub(super) fn report(report: Option<HealthReport>, stopping: bool, beat: &str) -> Vec<Annotation> {
    let leaving = || (STOPPING_ANNOTATION, Some(beat.to_owned()));
    match report.map(|report| (report, report.health())) {
        None => Vec::new(),
        Some((_, None)) => vec![leaving()],
        // Known or not, it ends.
        Some((HealthReport::Passing, Some(health))) => {
            vec![health_is(health), (STOPPING_ANNOTATION, None)]
        }
        // Behind the leaving, which a word in the annotation of the health may have said.
        Some((_, Some(health))) if stopping => vec![health_is(health), leaving()],
        Some((_, Some(health))) => vec![health_is(health)],
    }
}

/// The same by a registration, which another pod may take the instance over with.
pub(super) fn changed_words(
    record: &Instance,
    registration: &Registration,
    beat: &str,
) -> Vec<Annotation> {
    let taken_over = registration.takes_over(record);
    let pod = (POD_ANNOTATION, registration.pod.as_ref().map(ToString::to_string));
    let mut words = report(registration.health, record.stopping && !taken_over, beat);
    if taken_over && record.stopping && registration.health != Some(HealthReport::Stopping) {
        if registration.health.is_none() {
            words.push(health_is(record.health));
        }
        words.push((STOPPING_ANNOTATION, None));
    }
    words.into_iter().chain([pod]).collect()
}
