//! The intake of heartbeats and registrations over HTTP.
//!
//! An ordinary heartbeat is a lookup and an atomic store. Every change is written to Kubernetes
//! first, then published to readers, then answered.

use std::{sync::Arc, time::Duration};

use rollcall_core::{
    directory::{Directory, Heartbeat},
    fact::{Delivery, Fact, StorePosition},
    slot::{Slot, Source},
};
use rollcall_model::{
    instance::{HealthReport, Instance},
    lease::{Lease, Moment, Now},
    registration::Registration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tracing::debug;

use crate::clock;
use crate::heartbeat::{refusal::Refusal, target::Target};
use crate::kubernetes::{
    body::{Precondition, StoredHeartbeat},
    failure::Failure,
    store_version::StoreVersion,
    writer::{Applied, Deletion, Writer},
};

/// How long to wait until the engine has published a fact to readers; normally it takes milliseconds.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(3);

/// How long to wait until the watch reports a deletion, and how often to check.
const REPORTED_WITHIN: Duration = Duration::from_secs(1);
const POLL_EVERY: Duration = Duration::from_millis(5);

/// How many times a write is attempted when the object changes at the same time.
pub(super) const ATTEMPTS: usize = 4;

/// A heartbeat that was taken.
#[derive(Clone, Debug)]
pub struct AcceptedHeartbeat {
    /// The instance's slot.
    pub slot: Arc<Slot>,
    /// Whether the heartbeat is recorded on this replica only, so it is not confirmed with 200. Either it had to be
    /// stored and the API server did not answer, or this replica is fenced: the other replicas may no longer wait for
    /// its ledger.
    pub recorded: bool,
    /// Whether this replica is fenced. In that case another replica may be able to confirm the heartbeat.
    pub fenced: bool,
}

/// A registration that is stored and visible to readers.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The instance's slot.
    pub slot: Arc<Slot>,
    /// Whether the instance did not exist before.
    pub created: bool,
    /// Whether a write was necessary. Registering the same facts again is only a heartbeat.
    pub written: bool,
}

/// An instance that was deregistered.
#[derive(Clone, Debug)]
pub struct Deregistered {
    /// The uid of the object that was deleted.
    pub uid: Arc<str>,
    /// Whether [`Directory::newest`] covers the deletion.
    pub covered: bool,
}

/// Takes heartbeats and registrations. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    pub(super) directory: Arc<Directory>,
    pub(super) writer: Writer,
    store: StoreVersion,
    facts: mpsc::Sender<Delivery>,
    pub(super) clock: fn() -> Now,
}

impl AcceptedHeartbeat {
    /// A heartbeat that counts on every replica: it is stored, or the instance is permanent.
    fn confirmed(slot: Arc<Slot>) -> Self {
        Self { slot, recorded: false, fenced: false }
    }
}

impl Intake {
    /// An intake that reads from `directory`, writes with `writer`, and reports `facts` to the engine.
    #[must_use]
    pub fn new(
        directory: Arc<Directory>,
        writer: Writer,
        store: StoreVersion,
        facts: mpsc::Sender<Delivery>,
        clock: fn() -> Now,
    ) -> Self {
        Self { directory, writer, store, facts, clock }
    }

    /// The function that reads the clock.
    #[must_use]
    pub fn clock(&self) -> fn() -> Now {
        self.clock
    }

    /// The current version of the store.
    #[must_use]
    pub fn store(&self) -> &StoreVersion {
        &self.store
    }

    /// The directory that readers use.
    #[must_use]
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Takes a heartbeat that needs no write; `None` when it needs one.
    #[must_use]
    pub fn heartbeat_from_memory(
        &self,
        target: &Target<'_>,
        health: Option<HealthReport>,
        now: Moment,
    ) -> Option<AcceptedHeartbeat> {
        let Target { namespace, name, uid, .. } = *target;
        match self.directory.heartbeat(namespace, name, uid, health, now) {
            Heartbeat::Renewed(slot) => Some(self.accept_ordinary(slot, now)),
            Heartbeat::Permanent(slot) => Some(AcceptedHeartbeat::confirmed(slot)),
            _ => None,
        }
    }

    /// An ordinary heartbeat counts on this replica at once. The ledger reports it to the other replicas, which wait
    /// for the ledger unless this replica is fenced.
    fn accept_ordinary(&self, slot: Arc<Slot>, at: Moment) -> AcceptedHeartbeat {
        let fenced = self.directory.is_fenced(at);
        AcceptedHeartbeat { slot, recorded: fenced, fenced }
    }

    /// Takes a heartbeat, with reads and writes where necessary.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] only after a read from the API server.
    pub async fn heartbeat(
        &self,
        target: &Target<'_>,
        health: Option<HealthReport>,
    ) -> Result<AcceptedHeartbeat, Refusal> {
        for _ in 0..ATTEMPTS {
            let now = (self.clock)();
            let Target { namespace, name, uid, .. } = *target;
            let slot = match self.directory.heartbeat(namespace, name, uid, health, now.moment) {
                Heartbeat::Renewed(slot) => return Ok(self.accept_ordinary(slot, now.moment)),
                Heartbeat::Permanent(slot) => return Ok(AcceptedHeartbeat::confirmed(slot)),
                Heartbeat::Write(slot) => slot,
                Heartbeat::Terminating(slot) => {
                    Refusal::unless_terminating(&slot.record())?;
                    continue;
                }
                Heartbeat::OtherUid(uid) => return Err(Refusal::OtherUid(uid)),
                Heartbeat::Evicted(recent_eviction) => return Err(Refusal::Gone(recent_eviction)),
                Heartbeat::Unknown => {
                    self.fetch(target).await?;
                    continue;
                }
            };
            let record = slot.record();
            // A report other than Passing leaves the instance stopping. The version is a precondition, because the
            // instance may have reported Passing in the meantime.
            let keeps_stopping =
                record.stopping && health.is_some_and(|it| it != HealthReport::Passing);
            let beat = StoredHeartbeat {
                value: unique_value(now),
                health,
                stopping: record.stopping,
                duration: None,
                version: keeps_stopping.then_some(record.resource_version),
            };
            if let Some(accepted) = self.store_heartbeat(&slot, beat, now).await? {
                return Ok(accepted);
            }
        }
        Err(Refusal::contended())
    }

    /// Changes the length of the lease, which starts again with this call.
    ///
    /// # Errors
    /// Like [`Intake::heartbeat`], and [`Refusal::Refused`] for a permanent instance.
    pub async fn renew_lease(
        &self,
        target: &Target<'_>,
        duration: Duration,
    ) -> Result<AcceptedHeartbeat, Refusal> {
        for _ in 0..ATTEMPTS {
            let slot = self.find(target).await?;
            Refusal::unless_terminating(&slot.record())?;
            if !slot.record().lease.is_leased() {
                let message = "the instance is Permanent, so it has no lease to renew".to_owned();
                return Err(Refusal::Refused { status: 409, message });
            }
            let now = (self.clock)();
            let beat = StoredHeartbeat {
                value: unique_value(now),
                health: None,
                stopping: false,
                duration: Some(duration),
                version: target.version,
            };
            match self.store_heartbeat(&slot, beat, now).await? {
                // The heartbeat is recorded on this replica, but the new length is not stored.
                Some(AcceptedHeartbeat { recorded: true, .. }) => {
                    return Err(Refusal::overwhelmed());
                }
                Some(accepted) => return Ok(accepted),
                None => {}
            }
        }
        Err(Refusal::contended())
    }

    /// Registers an instance, or registers it again. Registering the same facts again is only a heartbeat.
    ///
    /// # Errors
    /// Among others [`Refusal::Invalid`] with the fields that the API server refuses.
    pub async fn register(
        &self,
        target: &Target<'_>,
        registration: &Registration,
    ) -> Result<Registered, Refusal> {
        self.covers(target.namespace)?;
        let mut created_uid = None;
        for _ in 0..ATTEMPTS {
            // Taken before the record is read: a record of an earlier epoch proves nothing about the store.
            let known = self.directory.before_read();
            let record = self.record_to_replace(target, registration).await?;
            if let Some(record) = &record {
                target.check_preconditions(record)?;
                Refusal::unless_terminating(record)?;
                let now = (self.clock)().moment;
                if registration.is_met_by(record)
                    && let Some(AcceptedHeartbeat { slot, recorded: false, .. }) =
                        self.heartbeat_from_memory(target, registration.health, now)
                {
                    let created = created_uid.as_ref() == Some(&record.uid);
                    return Ok(Registered { slot, created, written: created_uid.is_some() });
                }
            }
            let stored = record.as_ref().map(|record| record.lease);
            let lease = registration.lease.or(stored).unwrap_or_default();
            let sent = self.directory.before_write();
            let known = record.as_ref().map(|record| (record, known));
            let written = self
                .write_registration(target, registration, lease, known, &mut created_uid)
                .await?;
            let Some(written) = written else { continue };
            let created = created_uid.as_ref() == Some(&written.uid);
            let key = written.key.clone();
            let slot = self.publish(written, Source::Registration, sent).await?;
            // Only the answer to the write may show that the object is being deleted.
            Refusal::unless_terminating(&slot.record())?;
            debug!(%key, service = registration.service, created, "registered");
            return Ok(Registered { slot, created, written: true });
        }
        Err(Refusal::contended())
    }

    /// Applies a registration, and removes facts that the apply would leave: server-side apply keeps the facts that
    /// another manager set, and the API server refuses an object that has a hostname of another manager and the new
    /// address. An apply must not change what the instance reports about itself (see
    /// [`Registration::clears_reported_state`]). Returns `None` when the object has changed since it was read.
    /// `created_uid` is the uid of the object that this call has created, if any.
    async fn write_registration(
        &self,
        target: &Target<'_>,
        registration: &Registration,
        lease: Lease,
        known: Option<(&Arc<Instance>, StorePosition)>,
        created_uid: &mut Option<Arc<str>>,
    ) -> Result<Option<Arc<Instance>>, Refusal> {
        let beat = unique_value((self.clock)());
        let (key, uid, version) = (target.key(), target.uid, target.version);
        let record = known.map(|(record, _)| record);
        let (before, version) = match record
            .filter(|record| registration.clears_reported_state(record))
        {
            Some(record) => (record.clone(), version),
            None => {
                let applied = self.writer.register(&key, uid, version, registration, lease, &beat);
                match (applied.await, record) {
                    (Ok(Applied { instance, created }), _) => {
                        if created {
                            *created_uid = Some(instance.uid.clone());
                        }
                        if !registration.has_stale_facts(&instance) {
                            return Ok(Some(instance));
                        }
                        // The apply has changed the version.
                        (instance, None)
                    }
                    (Err(Failure::Invalid { .. }), Some(record))
                        if registration.has_stale_facts(record) =>
                    {
                        (record.clone(), version)
                    }
                    (Err(Failure::Conflict(_)), _) => return self.refresh_known(known).await,
                    (Err(failure), _) => return Err(failure.into()),
                }
            }
        };
        match self.writer.replace(&before, version, registration, lease, &beat).await {
            Ok(written) => Ok(Some(written)),
            Err(Failure::Conflict(_) | Failure::NotFound(_)) => self.refresh_known(known).await,
            Err(failure) => Err(failure.into()),
        }
    }

    /// After a conflict, reads the object again, if this replica knew one. Returns `None`, so the caller tries again.
    async fn refresh_known<T>(
        &self,
        known: Option<(&Arc<Instance>, StorePosition)>,
    ) -> Result<Option<T>, Refusal> {
        if let Some((record, sent)) = known {
            self.refresh(record, sent.of(record.resource_version)).await?;
        }
        Ok(None)
    }

    /// The record that a registration replaces. An unknown one is read from the API server only when the result depends on
    /// it: when its lease must be kept, or the call has a precondition.
    async fn record_to_replace(
        &self,
        target: &Target<'_>,
        registration: &Registration,
    ) -> Result<Option<Arc<Instance>>, Refusal> {
        match self.directory.slot(target.namespace, target.name) {
            Some(slot) if !target.is_ahead_of(&slot) => return Ok(Some(slot.record())),
            _ => {}
        }
        if registration.lease.is_some() && !target.has_precondition() {
            return Ok(None);
        }
        match self.fetch(target).await {
            Ok(slot) => Ok(Some(slot.record())),
            Err(Refusal::Unknown) if !target.has_precondition() => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Deletes the instance.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] when there is none; [`Refusal::OtherUid`] or [`Refusal::OtherVersion`] when the precondition
    /// does not hold.
    pub async fn deregister(&self, target: &Target<'_>) -> Result<Deregistered, Refusal> {
        // Taken before the record is read: a record of an earlier epoch proves nothing about the store.
        let sent = self.directory.before_read();
        let record = self.record_to_delete(target).await?;
        // A call without a uid means the object that exists when the call arrives, and never a later one.
        let same_object = Target { uid: Some(&record.uid), ..*target };
        let on = Precondition { uid: &record.uid, version: target.version };
        for _ in 0..ATTEMPTS {
            match self.writer.delete(&record.key, on).await {
                Ok(removed) => {
                    let covered = self.finish_deletion(&record, removed).await?;
                    return Ok(Deregistered { uid: record.uid.clone(), covered });
                }
                Err(Failure::Conflict(_) | Failure::NotFound(_)) => {
                    self.refresh(&record, sent.of(record.resource_version)).await?;
                    self.record_to_delete(&same_object).await?;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(Refusal::contended())
    }

    /// The record to delete. For a deletion, an evicted instance counts as unknown, like one that never existed.
    async fn record_to_delete(&self, target: &Target<'_>) -> Result<Arc<Instance>, Refusal> {
        match self.find(target).await {
            Ok(slot) => Ok(slot.record()),
            Err(Refusal::Gone(_)) => Err(Refusal::Unknown),
            Err(refusal) => Err(refusal),
        }
    }

    async fn finish_deletion(&self, record: &Instance, removed: Deletion) -> Result<bool, Refusal> {
        match removed {
            Deletion::Gone => {
                let deleted = clock::moment();
                self.report_deleted(record).await?;
                Ok(self.wait_for_removal(&record.uid, deleted).await)
            }
            // The object exists until its finalizers are removed; the watch reports its end.
            Deletion::Held(Some(stored)) => {
                let (by, sent) = (Source::Annotation, StorePosition::default());
                self.report(Fact::Written { instance: stored, by, sent }).await?;
                Ok(true)
            }
            Deletion::Held(None) => Ok(false),
        }
    }

    /// Waits until this replica knows the version of a deletion. The API server's answer does not contain the version,
    /// but the watch normally delivers it within milliseconds. When the watch lags, a newer version is read from the
    /// store.
    async fn wait_for_removal(&self, uid: &str, deleted: Moment) -> bool {
        let reported = async {
            while self.directory.awaits_removal(uid) {
                sleep(POLL_EVERY).await;
            }
        };
        if timeout(REPORTED_WITHIN, reported).await.is_ok() {
            return true;
        }
        match timeout(PUBLISHED_WITHIN, self.store.after(deleted)).await {
            Ok(Ok(version)) => {
                self.directory.raise_newest(version);
                true
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Finds an instance. If this replica does not know it, reads it from the API server.
    ///
    /// # Errors
    /// [`Refusal::Unknown`], [`Refusal::Gone`], [`Refusal::OtherUid`] or [`Refusal::Unavailable`].
    pub async fn find(&self, target: &Target<'_>) -> Result<Arc<Slot>, Refusal> {
        let slot = match self.directory.slot(target.namespace, target.name) {
            Some(slot) if !target.is_ahead_of(&slot) => slot,
            Some(_) => self.fetch(target).await?,
            None => match self.directory.recent_eviction(target.namespace, target.name) {
                Some(recent_eviction) => return Err(Refusal::Gone(recent_eviction)),
                None => self.fetch(target).await?,
            },
        };
        target.check_preconditions(&slot.record())?;
        Ok(slot)
    }

    /// Stores a heartbeat. Returns `None` when the object has changed since it was read.
    async fn store_heartbeat(
        &self,
        slot: &Arc<Slot>,
        beat: StoredHeartbeat,
        now: Now,
    ) -> Result<Option<AcceptedHeartbeat>, Refusal> {
        // Taken before the record is read: a record of an earlier epoch proves nothing about the store.
        let sent = self.directory.before_write();
        let record = slot.record();
        match self.writer.store_heartbeat(&record.key, &record.uid, &beat).await {
            Ok(written) => {
                let slot = self.publish(written, Source::Http, sent).await?;
                Refusal::unless_terminating(&slot.record())?;
                Ok(Some(AcceptedHeartbeat::confirmed(slot)))
            }
            Err(failure @ (Failure::Unavailable(_) | Failure::Busy { .. })) => {
                debug!(key = %record.key, %failure, "cannot store a heartbeat; it is recorded on this replica only");
                let (key, uid) = (record.key.clone(), record.uid.clone());
                self.report(Fact::RecordedHere { key, uid, at: now.moment }).await?;
                Ok(Some(AcceptedHeartbeat { slot: slot.clone(), recorded: true, fenced: false }))
            }
            Err(Failure::NotFound(_) | Failure::Conflict(_)) => {
                let sent = sent.of(record.resource_version);
                self.refresh(&record, sent).await.map(|()| None)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// After a write that failed with a conflict, reads the object again: it may have been replaced, or only changed.
    pub(super) async fn refresh(
        &self,
        record: &Instance,
        sent: StorePosition,
    ) -> Result<(), Refusal> {
        match self.writer.get(&record.key).await {
            Ok(stored) if stored.uid == record.uid => {
                self.publish(stored, Source::Annotation, sent).await.map(|_| ())
            }
            Ok(_) | Err(Failure::NotFound(_)) => self.report_deleted(record).await,
            Err(failure) => Err(failure.into()),
        }
    }

    /// Reports to the engine that the object with this uid is deleted.
    async fn report_deleted(&self, record: &Instance) -> Result<(), Refusal> {
        self.report(Fact::Deleted { key: record.key.clone(), uid: record.uid.clone() }).await
    }

    /// Reads an instance from the API server, and publishes it to readers.
    async fn fetch(&self, target: &Target<'_>) -> Result<Arc<Slot>, Refusal> {
        self.covers(target.namespace)?;
        let instance = self.writer.get(&target.key()).await?;
        self.publish(instance, Source::Annotation, StorePosition::default()).await
    }

    /// Checks that this replica watches the namespace. An instance in another namespace would be published once and never
    /// updated.
    ///
    /// # Errors
    /// [`Refusal::NotCovered`].
    pub fn covers(&self, namespace: &str) -> Result<(), Refusal> {
        match self.directory.scope() {
            Some(scope) if scope != namespace => Err(Refusal::NotCovered(scope.into())),
            _ => Ok(()),
        }
    }

    /// Publishes a stored object to readers, and returns its slot. `by` is the source of its heartbeat, `sent` is what the
    /// directory contained before the call.
    pub(super) async fn publish(
        &self,
        instance: Arc<Instance>,
        by: Source,
        sent: StorePosition,
    ) -> Result<Arc<Slot>, Refusal> {
        let key = instance.key.clone();
        self.report(Fact::Written { instance, by, sent }).await?;
        // If there is no slot, the object was deleted in the meantime.
        self.directory.slot(&key.namespace, &key.name).ok_or(Refusal::Unknown)
    }

    /// Reports a fact to the engine, and waits until readers can see it.
    async fn report(&self, fact: Fact) -> Result<(), Refusal> {
        let (applied_in, applied_out) = oneshot::channel();
        let applied = Box::new(move || {
            // An error means that the caller no longer waits.
            let _ = applied_in.send(());
        });
        let delivery = Delivery { fact, received: clock::reading(), applied: Some(applied) };
        let applied_in_time = async {
            self.facts.send(delivery).await.ok()?;
            applied_out.await.ok()
        };
        match timeout(PUBLISHED_WITHIN, applied_in_time).await {
            Ok(Some(())) => Ok(()),
            Ok(None) | Err(_) => Err(Refusal::overwhelmed()),
        }
    }
}

/// A value of the heartbeat annotation that differs from all earlier ones: the time, for people, and a random number,
/// because two heartbeats can arrive in the same millisecond.
fn unique_value(now: Now) -> String {
    format!("{} {:06x}", now.wall, fastrand::u32(..0x0100_0000))
}
