//! Writing Events: the same again on one object becomes a series, as long as it is remembered.
//!
//! Owns: names, series, and the memory for them, which is bounded whatever storm of Events there is.
//! Does not own: the words (`events`).

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
use crate::kubernetes::{call::measured, failure::Failure};
use crate::telemetry::metrics::{ApiMetrics, CallMetrics};

/// An Event that takes longer is given up: it is a courtesy.
const TIMEOUT: Duration = Duration::from_secs(5);

/// An Event that was not repeated for so long is not continued, as with other controllers.
const MEMORY: Duration = Duration::from_secs(360);

/// Series remembered; the oldest are forgotten first, and begin anew. At some 200 octets each this
/// is less than a megabyte.
const MAX_SERIES: usize = 4096;

/// The longest name of an object, and what stands behind that of the instance: a dot and 16 digits.
const MAX_NAME: usize = 253;
const SUFFIX: usize = 17;

/// What is told.
pub(super) struct Note {
    /// `Normal` or `Warning`.
    pub(super) kind: &'static str,
    pub(super) reason: &'static str,
    pub(super) action: &'static str,
    /// At most 1,024 octets.
    pub(super) text: String,
}

/// Object, reason and a hash of the text: Events of one key say the same, and are one with a count. The
/// API server lets nobody change the text of one.
type Key = (Arc<str>, &'static str, u64);

struct Series {
    event: String,
    count: i32,
    seen: Moment,
}

#[derive(Default)]
struct Memory {
    series: HashMap<Key, Series>,
    oldest: VecDeque<Key>,
}

impl Memory {
    /// The Event to continue, with its count then.
    fn again(&self, key: &Key, now: Moment) -> Option<(String, i32)> {
        let series = self.series.get(key).filter(|it| now.since(it.seen) < MEMORY)?;
        Some((series.event.clone(), series.count.saturating_add(1)))
    }

    /// It was continued.
    fn counted(&mut self, key: &Key, count: i32, now: Moment) {
        if let Some(series) = self.series.get_mut(key) {
            series.count = series.count.max(count);
            series.seen = now;
        }
    }

    fn begin(&mut self, key: Key, event: String, now: Moment) {
        if self.series.insert(key.clone(), Series { event, count: 1, seen: now }).is_none() {
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
    memory: Arc<Mutex<Memory>>,
    calls: CallMetrics,
}

impl Recorder {
    pub(super) fn new(client: Client, replica: &str, metrics: &ApiMetrics) -> Self {
        let calls = metrics.on("events", &["create", "patch"]);
        Self { client, replica: replica.to_owned(), memory: Arc::default(), calls }
    }

    /// Writes an Event, or counts it to one that says the same.
    pub(super) async fn record(&self, on: &Version, note: Note) -> Result<(), Failure> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &on.key.namespace);
        let key = (on.uid.clone(), note.reason, xxh3_64(note.text.as_bytes()));
        let now = clock::now();
        let again = self.memory.lock().again(&key, now.moment);
        if let Some((name, count)) = again {
            let series = EventSeries { count, last_observed_time: micros(now.wall) };
            let patch = Patch::Merge(Event { series: Some(series), ..Event::default() });
            let parameters = PatchParams::default();
            let call = api.patch(&name, &parameters, &patch);
            match measured(&self.calls, "patch", TIMEOUT, call).await {
                // It has had its time, or somebody cleaned up.
                Err(Failure::NotFound(_)) => {}
                Err(failure) => return Err(failure),
                Ok(_) => {
                    self.memory.lock().counted(&key, count, now.moment);
                    return Ok(());
                }
            }
        }
        let event = self.event(on, &note, now.wall);
        let name = event.metadata.name.clone().unwrap_or_default();
        let parameters = PostParams::default();
        measured(&self.calls, "create", TIMEOUT, api.create(&parameters, &event)).await?;
        self.memory.lock().begin(key, name, now.moment);
        Ok(())
    }

    fn event(&self, on: &Version, note: &Note, now: Wall) -> Event {
        let namespace = Some(on.key.namespace.to_string());
        Event {
            action: Some(note.action.to_owned()),
            event_time: Some(micros(now)),
            metadata: ObjectMeta {
                name: Some(name(&on.key.name, now)),
                namespace: namespace.clone(),
                ..ObjectMeta::default()
            },
            note: Some(note.text.clone()),
            reason: Some(note.reason.to_owned()),
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
            type_: Some(note.kind.to_owned()),
            ..Event::default()
        }
    }
}

/// The name of an Event on an instance: the instance's, cut where it would be too long, the time and
/// a number that tells those of one millisecond apart.
fn name(instance: &str, now: Wall) -> String {
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
    fn the_name_of_an_event_fits_however_long_the_instances_is() {
        let now = Wall(1_795_000_000_000);
        for length in [1, 200, 235, 236, 253] {
            let name = name(&"a".repeat(length), now);
            assert_eq!(name.len(), length.min(MAX_NAME - SUFFIX) + SUFFIX, "{name}");
        }
        let cut = name(&format!("{}.b", "a".repeat(235)), now);
        assert!(!cut.contains(".."), "{cut}");
    }

    #[test]
    fn a_series_goes_on_while_it_is_remembered_and_memory_is_bounded() {
        let mut memory = Memory::default();
        let key: Key = ("u".into(), "LeaseExpired", 7);
        assert_eq!(memory.again(&key, Moment(0)), None);
        memory.begin(key.clone(), "e".into(), Moment(0));
        assert_eq!(memory.again(&key, Moment(300_000)), Some(("e".into(), 2)));
        memory.counted(&key, 2, Moment(300_000));
        assert_eq!(memory.again(&key, Moment(600_000)), Some(("e".into(), 3)));
        memory.counted(&key, 3, Moment(600_000));
        assert_eq!(memory.again(&key, Moment(960_000)), None);
        memory.begin(key.clone(), "f".into(), Moment(960_000));
        assert_eq!(memory.again(&key, Moment(960_001)), Some(("f".into(), 2)));
        for i in 0..MAX_SERIES {
            memory.begin((i.to_string().into(), "LeaseExpired", 7), "g".into(), Moment(960_002));
        }
        assert_eq!((memory.series.len(), memory.oldest.len()), (MAX_SERIES, MAX_SERIES));
        assert_eq!(memory.again(&key, Moment(960_003)), None);
    }
}
