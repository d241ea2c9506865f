//! The intake: every heartbeat and registration that comes in over HTTP.
//!
//! An ordinary beat is a look-up and a store. Whatever changes something is written to Kubernetes
//! first, then shown to readers, then answered.

use std::{sync::Arc, time::Duration};

use rollcall_core::{
    directory::{Directory, Heartbeat},
    fact::{Delivery, Fact, Sent},
    slot::{Slot, Source},
};
use rollcall_model::{
    instance::{HealthReport, Instance, InstanceKey},
    lease::{Lease, Moment, Now},
    registration::Registration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tracing::debug;

use crate::clock;
use crate::heartbeat::refusal::Refusal;
use crate::kubernetes::{
    body::{Precondition, StoredHeartbeat},
    failure::Failure,
    store_version::StoreVersion,
    writer::{Applied, Removed, Writer},
};

/// How long the engine may take to show a fact to readers; it takes milliseconds.
const SHOWN_WITHIN: Duration = Duration::from_secs(3);

/// How long the watch may take to bring a removal, and how often is looked.
const BROUGHT_WITHIN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);

/// How often a write is decided anew when the object changes under it.
pub(super) const ATTEMPTS: usize = 4;

/// The instance that a call is about.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Namespace.
    pub namespace: &'a str,
    /// Object name.
    pub name: &'a str,
    /// This incarnation and no other.
    pub uid: Option<&'a str>,
    /// This version of it and no other (resourceVersion).
    pub version: Option<u64>,
}

/// A beat that was taken.
#[derive(Clone, Debug)]
pub struct AcceptedHeartbeat {
    /// Whose.
    pub slot: Arc<Slot>,
    /// Noted here, but not promised: the API server is away and it could not be stored, or the others
    /// may not wait for this replica's ledger any more.
    pub recorded: bool,
    /// The latter: another replica may do better.
    pub fenced: bool,
}

/// A registration that is stored and can be read.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Whose.
    pub slot: Arc<Slot>,
    /// Whether it was not there before.
    pub created: bool,
    /// Whether that took a write: the same facts again are just a heartbeat.
    pub written: bool,
}

/// An instance that was deregistered.
#[derive(Clone, Debug)]
pub struct Deregistered {
    /// Which incarnation.
    pub uid: Arc<str>,
    /// Whether [`Directory::newest`] covers the deletion by now.
    pub covered: bool,
}

/// Takes beats and registrations. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    pub(super) directory: Arc<Directory>,
    pub(super) writer: Writer,
    store: StoreVersion,
    facts: mpsc::Sender<Delivery>,
    pub(super) clock: fn() -> Now,
}

impl AcceptedHeartbeat {
    /// One that counts on every replica: it is stored, or needs no beats.
    fn promised(slot: Arc<Slot>) -> Self {
        Self { slot, recorded: false, fenced: false }
    }
}

impl Target<'_> {
    fn key(&self) -> InstanceKey {
        InstanceKey::new(self.namespace, self.name)
    }

    pub(super) fn is_met_by(&self, instance: &Instance) -> Result<(), Refusal> {
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

    /// Whether a version is meant that this replica has not seen yet: another one told the caller of it.
    fn is_ahead_of(&self, slot: &Slot) -> bool {
        self.version.is_some_and(|version| version > slot.record().resource_version)
    }

    /// Whether it matters what is there.
    fn is_bound(&self) -> bool {
        self.uid.is_some() || self.version.is_some()
    }
}

impl Intake {
    /// An intake that looks into `directory`, writes with `writer` and tells the engine.
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

    /// What reads the clock.
    #[must_use]
    pub fn clock(&self) -> fn() -> Now {
        self.clock
    }

    /// Which version the store has.
    #[must_use]
    pub fn store(&self) -> &StoreVersion {
        &self.store
    }

    /// Where readers look.
    #[must_use]
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// A beat that needs no write; none when it does.
    #[must_use]
    pub fn heartbeat_from_memory(
        &self,
        target: &Target<'_>,
        health: Option<HealthReport>,
        now: Moment,
    ) -> Option<AcceptedHeartbeat> {
        let Target { namespace, name, uid, .. } = *target;
        match self.directory.heartbeat(namespace, name, uid, health, now) {
            Heartbeat::Renewed(slot) => Some(self.counted(slot, now)),
            Heartbeat::Permanent(slot) => Some(AcceptedHeartbeat::promised(slot)),
            _ => None,
        }
    }

    /// An ordinary beat counts here. Whether it counts everywhere is for the ledger to see to, as long
    /// as the others wait for it.
    fn counted(&self, slot: Arc<Slot>, at: Moment) -> AcceptedHeartbeat {
        let fenced = self.directory.is_fenced(at);
        AcceptedHeartbeat { slot, recorded: fenced, fenced }
    }

    /// A beat, whatever it takes.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] only after the API server was asked.
    pub async fn heartbeat(
        &self,
        target: &Target<'_>,
        health: Option<HealthReport>,
    ) -> Result<AcceptedHeartbeat, Refusal> {
        for _ in 0..ATTEMPTS {
            let now = (self.clock)();
            let Target { namespace, name, uid, .. } = *target;
            let slot = match self.directory.heartbeat(namespace, name, uid, health, now.moment) {
                Heartbeat::Renewed(slot) => return Ok(self.counted(slot, now.moment)),
                Heartbeat::Permanent(slot) => return Ok(AcceptedHeartbeat::promised(slot)),
                Heartbeat::Write(slot) => slot,
                Heartbeat::Terminating(slot) => {
                    Refusal::unless_terminating(&slot.record())?;
                    continue;
                }
                Heartbeat::OtherUid(uid) => return Err(Refusal::OtherUid(uid)),
                Heartbeat::Gone(recent_eviction) => return Err(Refusal::Gone(recent_eviction)),
                Heartbeat::Unknown => {
                    self.fetch(target).await?;
                    continue;
                }
            };
            let record = slot.record();
            // What stands behind the leaving must not undo that it ended meanwhile.
            let is_behind = record.stopping && health.is_some_and(|it| it != HealthReport::Passing);
            let beat = StoredHeartbeat {
                value: fresh(now),
                health,
                stopping: record.stopping,
                duration: None,
                version: is_behind.then_some(record.resource_version),
            };
            if let Some(beaten) = self.store_heartbeat(&slot, beat, now).await? {
                return Ok(beaten);
            }
        }
        Err(changing())
    }

    /// Another length of the lease, which begins with this call.
    ///
    /// # Errors
    /// As [`Intake::heartbeat`]; refused for a permanent instance.
    pub async fn renew_lease(
        &self,
        target: &Target<'_>,
        duration: Duration,
    ) -> Result<AcceptedHeartbeat, Refusal> {
        for _ in 0..ATTEMPTS {
            let slot = self.find(target).await?;
            Refusal::unless_terminating(&slot.record())?;
            if !slot.record().lease.is_leased() {
                let message = "the instance is Permanent: it has no lease to renew".to_owned();
                return Err(Refusal::Refused { status: 409, message });
            }
            let now = (self.clock)();
            let beat = StoredHeartbeat {
                value: fresh(now),
                health: None,
                stopping: false,
                duration: Some(duration),
                version: target.version,
            };
            match self.store_heartbeat(&slot, beat, now).await? {
                // Only the beat could be noted, not the new length.
                Some(AcceptedHeartbeat { recorded: true, .. }) => {
                    return Err(Refusal::overwhelmed());
                }
                Some(beaten) => return Ok(beaten),
                None => {}
            }
        }
        Err(changing())
    }

    /// Registers, or registers anew. The same facts again are just a beat.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] with the fields that the API server refuses, among others.
    pub async fn register(
        &self,
        target: &Target<'_>,
        registration: &Registration,
    ) -> Result<Registered, Refusal> {
        self.covers(target.namespace)?;
        let mut made = None;
        for _ in 0..ATTEMPTS {
            // Before the record: one of an earlier epoch proves nothing.
            let known = self.directory.before_read();
            let record = self.registered(target, registration).await?;
            if let Some(record) = &record {
                target.is_met_by(record)?;
                Refusal::unless_terminating(record)?;
                let now = (self.clock)().moment;
                if registration.is_met_by(record)
                    && let Some(AcceptedHeartbeat { slot, recorded: false, .. }) =
                        self.heartbeat_from_memory(target, registration.health, now)
                {
                    let created = made.as_ref() == Some(&record.uid);
                    return Ok(Registered { slot, created, written: made.is_some() });
                }
            }
            let stored = record.as_ref().map(|record| record.lease);
            let lease = registration.lease.or(stored).unwrap_or_default();
            let sent = self.directory.before_write();
            let known = record.as_ref().map(|record| (record, known));
            let written = self.write(target, registration, lease, known, &mut made).await?;
            let Some(written) = written else { continue };
            let created = made.as_ref() == Some(&written.uid);
            let key = written.key.clone();
            let slot = self.show(written, Source::Registration, sent).await?;
            // Known here only from the answer to the write.
            Refusal::unless_terminating(&slot.record())?;
            debug!(%key, service = registration.service, created, "registered");
            return Ok(Registered { slot, created, written: true });
        }
        Err(changing())
    }

    /// Applies a registration, and takes away what it leaves over: server-side apply keeps the facts
    /// that another manager set, and refuses an address beside such a hostname. What the instance says of itself is not
    /// for an apply to change (see [`Registration::meets_words`]). Answers none when the object is not what it was
    /// thought to be any more; `made` is the uid of the incarnation that this call has created, if any.
    async fn write(
        &self,
        target: &Target<'_>,
        registration: &Registration,
        lease: Lease,
        known: Option<(&Arc<Instance>, Sent)>,
        made: &mut Option<Arc<str>>,
    ) -> Result<Option<Arc<Instance>>, Refusal> {
        let beat = fresh((self.clock)());
        let (key, uid, version) = (target.key(), target.uid, target.version);
        let record = known.map(|(record, _)| record);
        let (before, version) = match record.filter(|record| registration.meets_words(record)) {
            Some(record) => (record.clone(), version),
            None => {
                let applied = self.writer.register(&key, uid, version, registration, lease, &beat);
                match (applied.await, record) {
                    (Ok(Applied { instance, created }), _) => {
                        if created {
                            *made = Some(instance.uid.clone());
                        }
                        if !registration.leaves_over(&instance) {
                            return Ok(Some(instance));
                        }
                        // The apply has moved it on.
                        (instance, None)
                    }
                    (Err(Failure::Invalid { .. }), Some(record))
                        if registration.leaves_over(record) =>
                    {
                        (record.clone(), version)
                    }
                    (Err(Failure::Conflict(_)), _) => return self.reread(known).await,
                    (Err(failure), _) => return Err(failure.into()),
                }
            }
        };
        match self.writer.replace(&before, version, registration, lease, &beat).await {
            Ok(written) => Ok(Some(written)),
            Err(Failure::Conflict(_) | Failure::NotFound(_)) => self.reread(known).await,
            Err(failure) => Err(failure.into()),
        }
    }

    /// A registration met another object than the one known here, if any is: the next attempt looks at it anew.
    async fn reread<T>(&self, known: Option<(&Arc<Instance>, Sent)>) -> Result<Option<T>, Refusal> {
        if let Some((record, sent)) = known {
            self.look_again(record, sent.of(record.resource_version)).await?;
        }
        Ok(None)
    }

    /// The record that a registration replaces. The API server is asked for one that is not known
    /// here where it matters: it may have a lease to be kept, or another uid.
    async fn registered(
        &self,
        target: &Target<'_>,
        registration: &Registration,
    ) -> Result<Option<Arc<Instance>>, Refusal> {
        match self.directory.slot(target.namespace, target.name) {
            Some(slot) if !target.is_ahead_of(&slot) => return Ok(Some(slot.record())),
            _ => {}
        }
        if registration.lease.is_some() && !target.is_bound() {
            return Ok(None);
        }
        match self.fetch(target).await {
            Ok(slot) => Ok(Some(slot.record())),
            Err(Refusal::Unknown) if !target.is_bound() => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Deletes the instance.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] when there is none; [`Refusal::OtherUid`] or [`Refusal::OtherVersion`] when the one that is
    /// there is not the one that was meant.
    pub async fn deregister(&self, target: &Target<'_>) -> Result<Deregistered, Refusal> {
        // Before the record: one of an earlier epoch proves nothing.
        let sent = self.directory.before_read();
        let record = self.deletable(target).await?;
        // A call that names no incarnation means the one that is there when it comes, and never a later one.
        let meant = Target { uid: Some(&record.uid), ..*target };
        let on = Precondition { uid: &record.uid, version: target.version };
        for _ in 0..ATTEMPTS {
            match self.writer.delete(&record.key, on).await {
                Ok(removed) => {
                    let covered = self.deregistered(&record, removed).await?;
                    return Ok(Deregistered { uid: record.uid.clone(), covered });
                }
                Err(Failure::Conflict(_) | Failure::NotFound(_)) => {
                    self.look_again(&record, sent.of(record.resource_version)).await?;
                    self.deletable(&meant).await?;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(changing())
    }

    /// What a deletion finds: an instance that was evicted is as little there as one that never was.
    async fn deletable(&self, target: &Target<'_>) -> Result<Arc<Instance>, Refusal> {
        match self.find(target).await {
            Ok(slot) => Ok(slot.record()),
            Err(Refusal::Gone(_)) => Err(Refusal::Unknown),
            Err(refusal) => Err(refusal),
        }
    }

    async fn deregistered(&self, record: &Instance, removed: Removed) -> Result<bool, Refusal> {
        match removed {
            Removed::Gone => {
                let deleted = clock::moment();
                self.forget(record).await?;
                Ok(self.covers_removal(&record.uid, deleted).await)
            }
            // It stays until its finalizers are done; the watch will tell.
            Removed::Held(Some(stored)) => {
                let (by, sent) = (Source::Annotation, Sent::default());
                self.tell(Fact::Written { instance: stored, by, sent }).await?;
                Ok(true)
            }
            Removed::Held(None) => Ok(false),
        }
    }

    /// Waits until the version is known in which an incarnation went. The API server does not say it with its answer: it
    /// comes by the watch, in milliseconds; or, where that is behind, the store has a later one.
    async fn covers_removal(&self, uid: &str, deleted: Moment) -> bool {
        let brought = async {
            while self.directory.awaits_removal(uid) {
                sleep(LOOK).await;
            }
        };
        if timeout(BROUGHT_WITHIN, brought).await.is_ok() {
            return true;
        }
        match timeout(SHOWN_WITHIN, self.store.after(deleted)).await {
            Ok(Ok(version)) => {
                self.directory.raise_newest(version);
                true
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// One instance; the API server is asked when it is not known here.
    ///
    /// # Errors
    /// [`Refusal::Unknown`], [`Refusal::Gone`], [`Refusal::OtherUid`] or [`Refusal::Away`].
    pub async fn find(&self, target: &Target<'_>) -> Result<Arc<Slot>, Refusal> {
        let slot = match self.directory.slot(target.namespace, target.name) {
            Some(slot) if !target.is_ahead_of(&slot) => slot,
            Some(_) => self.fetch(target).await?,
            None => match self.directory.recent_eviction(target.namespace, target.name) {
                Some(recent_eviction) => return Err(Refusal::Gone(recent_eviction)),
                None => self.fetch(target).await?,
            },
        };
        target.is_met_by(&slot.record())?;
        Ok(slot)
    }

    /// Stores a beat. Answers none when the object is not what it was thought to be any more.
    async fn store_heartbeat(
        &self,
        slot: &Arc<Slot>,
        beat: StoredHeartbeat,
        now: Now,
    ) -> Result<Option<AcceptedHeartbeat>, Refusal> {
        // Before the record: one of an earlier epoch proves nothing.
        let sent = self.directory.before_write();
        let record = slot.record();
        match self.writer.beat(&record.key, &record.uid, &beat).await {
            Ok(written) => {
                let slot = self.show(written, Source::Http, sent).await?;
                Refusal::unless_terminating(&slot.record())?;
                Ok(Some(AcceptedHeartbeat::promised(slot)))
            }
            Err(failure @ (Failure::Away(_) | Failure::Busy { .. })) => {
                debug!(key = %record.key, %failure, "a beat could not be stored; it is noted here");
                let (key, uid) = (record.key.clone(), record.uid.clone());
                self.tell(Fact::Beat { key, uid, at: now.moment }).await?;
                Ok(Some(AcceptedHeartbeat { slot: slot.clone(), recorded: true, fenced: false }))
            }
            Err(Failure::NotFound(_) | Failure::Conflict(_)) => {
                let sent = sent.of(record.resource_version);
                self.look_again(&record, sent).await.map(|()| None)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// A write met another version of the object: it may be another incarnation, or only contention.
    pub(super) async fn look_again(&self, record: &Instance, sent: Sent) -> Result<(), Refusal> {
        match self.writer.get(&record.key).await {
            Ok(stored) if stored.uid == record.uid => {
                self.show(stored, Source::Annotation, sent).await.map(|_| ())
            }
            Ok(_) | Err(Failure::NotFound(_)) => self.forget(record).await,
            Err(failure) => Err(failure.into()),
        }
    }

    /// This incarnation is gone.
    async fn forget(&self, record: &Instance) -> Result<(), Refusal> {
        self.tell(Fact::Deleted { key: record.key.clone(), uid: record.uid.clone() }).await
    }

    /// Asks the API server for an instance that is not known here.
    async fn fetch(&self, target: &Target<'_>) -> Result<Arc<Slot>, Refusal> {
        self.covers(target.namespace)?;
        let instance = self.writer.get(&target.key()).await?;
        self.show(instance, Source::Annotation, Sent::default()).await
    }

    /// What the watch does not cover would be shown once, and never followed.
    ///
    /// # Errors
    /// [`Refusal::NotCovered`].
    pub fn covers(&self, namespace: &str) -> Result<(), Refusal> {
        match self.directory.scope() {
            Some(scope) if scope != namespace => Err(Refusal::NotCovered(scope.into())),
            _ => Ok(()),
        }
    }

    /// Lets readers see what is stored, and answers where its beats are noted. `by` is the way by which
    /// it came to its heartbeat, `sent` what was known before the call.
    pub(super) async fn show(
        &self,
        instance: Arc<Instance>,
        by: Source,
        sent: Sent,
    ) -> Result<Arc<Slot>, Refusal> {
        let key = instance.key.clone();
        self.tell(Fact::Written { instance, by, sent }).await?;
        // Deleted by somebody else in between: as if it had never been there.
        self.directory.slot(&key.namespace, &key.name).ok_or(Refusal::Unknown)
    }

    /// Tells the engine, and waits until readers see it.
    async fn tell(&self, fact: Fact) -> Result<(), Refusal> {
        let (shown, seen) = oneshot::channel();
        let applied = Box::new(move || {
            // Whoever waited may have gone.
            let _ = shown.send(());
        });
        let delivery = Delivery { fact, received: clock::reading(), applied: Some(applied) };
        let told = async {
            self.facts.send(delivery).await.ok()?;
            seen.await.ok()
        };
        match timeout(SHOWN_WITHIN, told).await {
            Ok(Some(())) => Ok(()),
            Ok(None) | Err(_) => Err(Refusal::overwhelmed()),
        }
    }
}

/// A heartbeat annotation that differs from every earlier one: the time for people, and a number,
/// since two beats may share a millisecond.
fn fresh(now: Now) -> String {
    format!("{} {:06x}", now.wall, fastrand::u32(..0x0100_0000))
}

pub(super) fn changing() -> Refusal {
    let message = "the instance changes faster than a beat can be stored; try again".to_owned();
    Refusal::Refused { status: 409, message }
}
