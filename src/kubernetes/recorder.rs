//! Writes of Events: an Event that repeats on one object becomes a series, as long as it is remembered.
//!
//! Owns: names, series, and the memory for them, which is bounded however many Events there are.
//! Does not own: the texts (`events`).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use parking_lot::Mutex;
use rollcall_api::API_VERSION;
use rollcall_core::fact::Version;
use rollcall_model::lease::{Moment, Wall};
use xxhash_rust::xxh3::xxh3_64;

use crate::clock;
use crate::kubernetes::{call::measure, failure::Failure};
use crate::telemetry::metrics::{ApiMetrics, CallMetrics};

/// The deadline of one call. An Event is best effort.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A series ends when the Event was not repeated for this long, as with other controllers.
const SERIES_LIFETIME: Duration = Duration::from_secs(360);

/// Maximum number of series that are remembered. The oldest are dropped first; an Event of a dropped series starts a
/// new one. At about 200 bytes each they take less than a megabyte.
const MAX_SERIES: usize = 4096;

/// The longest name of an object, and the length of the suffix after the instance's name: a dot and 16 digits.
const MAX_NAME: usize = 253;
const SUFFIX: usize = 17;

/// The content of an Event.
pub(super) struct EventContent {
    /// `Normal` or `Warning`.
    pub(super) type_: &'static str,
    pub(super) reason: &'static str,
    pub(super) action: &'static str,
    /// At most 1,024 bytes.
    pub(super) note: String,
}

/// Object, reason and a hash of the text. Events with the same key have the same content, and become one with a count. The
/// API server does not allow changes of an Event's text.
type Key = (Arc<str>, &'static str, u64);

struct Series {
    event: String,
    count: i32,
    last: Moment,
}

#[derive(Default)]
struct SeriesMemory {
    series: HashMap<Key, Series>,
    oldest: VecDeque<Key>,
}

impl SeriesMemory {
    /// The Event to continue, and its new count.
    fn continue_series(&self, key: &Key, now: Moment) -> Option<(String, i32)> {
        let series = self.series.get(key).filter(|it| now.since(it.last) < SERIES_LIFETIME)?;
        Some((series.event.clone(), series.count.saturating_add(1)))
    }

    /// Records that an Event was continued.
    fn record_repeat(&mut self, key: &Key, count: i32, now: Moment) {
        if let Some(series) = self.series.get_mut(key) {
            series.count = series.count.max(count);
            series.last = now;
        }
    }

    fn start_series(&mut self, key: Key, event: String, now: Moment) {
        if self.series.insert(key.clone(), Series { event, count: 1, last: now }).is_none() {
            self.oldest.push_back(key);
        }
        while self.oldest.len() > MAX_SERIES {
            self.oldest.pop_front().map(|key| self.series.remove(&key));
        }
    }
}

/// Writes Events.
#[derive(Clone)]
pub(super) struct Recorder {
    client: Client,
    replica: String,
    memory: Arc<Mutex<SeriesMemory>>,
    calls: CallMetrics,
}

impl Recorder {
    pub(super) fn new(client: Client, replica: &str, metrics: &ApiMetrics) -> Self {
        let calls = metrics.for_resource("events", &["create", "patch"]);
        Self { client, replica: replica.to_owned(), memory: Arc::default(), calls }
    }

    /// Writes an Event, or raises the count of one with the same content.
    pub(super) async fn record(&self, on: &Version, content: EventContent) -> Result<(), Failure> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &on.key.namespace);
        let key = (on.uid.clone(), content.reason, xxh3_64(content.note.as_bytes()));
        let now = clock::now();
        let continued = self.memory.lock().continue_series(&key, now.moment);
        if let Some((name, count)) = continued {
            let series = EventSeries { count, last_observed_time: micros(now.wall) };
            let patch = Patch::Merge(Event { series: Some(series), ..Event::default() });
            let parameters = PatchParams::default();
            let call = api.patch(&name, &parameters, &patch);
            match measure(&self.calls, "patch", TIMEOUT, call).await {
                // The API server has expired the Event, or it was deleted.
                Err(Failure::NotFound(_)) => {}
                Err(failure) => return Err(failure),
                Ok(_) => {
                    self.memory.lock().record_repeat(&key, count, now.moment);
                    return Ok(());
                }
            }
        }
        let event = self.event(on, &content, now.wall);
        let name = event.metadata.name.clone().unwrap_or_default();
        let parameters = PostParams::default();
        measure(&self.calls, "create", TIMEOUT, api.create(&parameters, &event)).await?;
        self.memory.lock().start_series(key, name, now.moment);
        Ok(())
    }

    fn event(&self, on: &Version, content: &EventContent, now: Wall) -> Event {
        let namespace = Some(on.key.namespace.to_string());
        Event {
            action: Some(content.action.to_owned()),
            event_time: Some(micros(now)),
            metadata: ObjectMeta {
                name: Some(event_name(&on.key.name, now)),
                namespace: namespace.clone(),
                ..ObjectMeta::default()
            },
            note: Some(content.note.clone()),
            reason: Some(content.reason.to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some(API_VERSION.to_owned()),
                kind: Some("ServiceInstance".to_owned()),
                namespace,
                name: Some(on.key.name.to_string()),
                uid: Some(on.uid.to_string()),
                resource_version: Some(on.resource_version.to_string()),
                ..ObjectReference::default()
            }),
            reporting_controller: Some("rollcall.dev/rollcall".to_owned()),
            reporting_instance: Some(self.replica.clone()),
            type_: Some(content.type_.to_owned()),
            ..Event::default()
        }
    }
}

/// The name of an Event on an instance: the instance's name, cut where it would be too long, the time, and a number
/// that distinguishes Events written in the same millisecond.
fn event_name(instance: &str, now: Wall) -> String {
    let head: String = instance.chars().take(MAX_NAME - SUFFIX).collect();
    let head = head.trim_end_matches(['.', '-']);
    let millis = now.0 & 0x0fff_ffff_ffff;
    format!("{head}.{millis:011x}{:05x}", fastrand::u32(..0x0010_0000))
}

fn micros(wall: Wall) -> MicroTime {
    MicroTime(Timestamp::from_millisecond(wall.0).unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_name_fits_for_instance_names_of_any_length() {
        let now = Wall(1_795_000_000_000);
        for length in [1, 200, 235, 236, 253] {
            let name = event_name(&"a".repeat(length), now);
            assert_eq!(name.len(), length.min(MAX_NAME - SUFFIX) + SUFFIX, "{name}");
        }
        let cut = event_name(&format!("{}.b", "a".repeat(235)), now);
        assert!(!cut.contains(".."), "{cut}");
    }

    #[test]
    fn series_continues_while_it_is_remembered_and_memory_is_bounded() {
        let mut memory = SeriesMemory::default();
        let key: Key = ("u".into(), "LeaseExpired", 7);
        assert_eq!(memory.continue_series(&key, Moment(0)), None);
        memory.start_series(key.clone(), "e".into(), Moment(0));
        assert_eq!(memory.continue_series(&key, Moment(300_000)), Some(("e".into(), 2)));
        memory.record_repeat(&key, 2, Moment(300_000));
        assert_eq!(memory.continue_series(&key, Moment(600_000)), Some(("e".into(), 3)));
        memory.record_repeat(&key, 3, Moment(600_000));
        assert_eq!(memory.continue_series(&key, Moment(960_000)), None);
        memory.start_series(key.clone(), "f".into(), Moment(960_000));
        assert_eq!(memory.continue_series(&key, Moment(960_001)), Some(("f".into(), 2)));
        for i in 0..MAX_SERIES {
            memory.start_series(
                (i.to_string().into(), "LeaseExpired", 7),
                "g".into(),
                Moment(960_002),
            );
        }
        assert_eq!((memory.series.len(), memory.oldest.len()), (MAX_SERIES, MAX_SERIES));
        assert_eq!(memory.continue_series(&key, Moment(960_003)), None);
    }
}
