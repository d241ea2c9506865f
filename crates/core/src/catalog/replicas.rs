//! Other replicas: the effects of their ledgers, and the combined horizon.
//!
//! Owns: the order in which the effects of a ledger are applied. Does not own: what is known about each
//! replica (`ledgers`).

use std::sync::{Arc, atomic::Ordering};

use rollcall_model::{
    instance::InstanceKey,
    lease::{Moment, Now},
};

use super::Catalog;
use crate::{
    fact::{Announcement, Version},
    history::Proof,
    ledger::Ledger,
    ledgers::Ledgers,
    peers::Arrival,
    report::Duplicate,
    rules::Rules,
};

impl<R: Rules> Catalog<R> {
    pub(super) fn apply_ledger_list(&mut self, listed: &[Arc<Ledger>], now: Now) {
        let Some(ledgers) = &mut self.ledgers else { return };
        if !ledgers.is_listed() {
            self.history.adopt_epoch(listed.iter().map(|ledger| ledger.epoch).max().unwrap_or(0));
            ledgers.update_epoch(self.history.epoch());
        }
        let (first, vanished) = ledgers.list(listed, now.moment);
        if first {
            self.instances.leases.grant_whole_lease(now.moment);
            self.instances.publish_grace();
        }
        if vanished {
            self.give_back(now.moment, None);
        }
        for ledger in listed {
            self.apply_ledger(
                ledger,
                if first { Arrival::FirstList } else { Arrival::Relist },
                now,
            );
        }
    }

    pub(super) fn apply_ledger(&mut self, ledger: &Ledger, arrival: Arrival, now: Now) {
        self.update_epoch(ledger, now);
        let Some(ledgers) = &mut self.ledgers else { return };
        let before = ledgers.duplicates(now.moment);
        let news = ledgers.apply(ledger, arrival, now.moment);
        let mut duplicates = ledgers.duplicates(now.moment).into_iter();
        let new = duplicates.find(|duplicate| !before.contains(duplicate));
        self.announce_duplicates(new);
        let Some(news) = news else { return };
        for (id, at) in news.beats {
            self.instances.apply_remote_heartbeat(id, at, now);
        }
        if news.gap {
            self.give_back(now.moment, None);
        }
        self.update_silence(now.moment);
    }

    /// Handles the epoch of a ledger. If the ledger proves or reports that the store went back, this
    /// replica steps back, too.
    pub(super) fn update_epoch(&mut self, ledger: &Ledger, now: Now) {
        let (version, index, replica) = (ledger.version, ledger.index, ledger.replica.clone());
        if index >= version && version > 0 && self.history.is_new_step_back(ledger.epoch) {
            let proof = Proof::Ledger { replica, version, index };
            self.step_back(ledger.epoch + 1, &proof, now);
        } else if ledger.epoch > self.history.epoch() && R::EPOCH_IS_ADOPTED {
            self.step_back(ledger.epoch, &Proof::Reported { replica }, now);
        }
    }

    pub(super) fn announce_duplicates(&mut self, duplicates: Option<Duplicate>) {
        let Some(duplicates) = duplicates else { return };
        let key = InstanceKey { name: duplicates.replica.clone(), ..self.own.clone() };
        let Some(entry) = self.instances.table.get(&key) else { return };
        let on = Version::of(entry.instance());
        let sentence = duplicates.sentence().into();
        self.instances.outbox.announce(on, Announcement::Duplicates { sentence });
    }

    pub(super) fn ledger_written(
        &mut self,
        sequence: u64,
        answer: &Result<u64, Arc<str>>,
        now: Now,
    ) {
        let Some(ledgers) = &mut self.ledgers else { return };
        let index = ledgers.written(sequence, answer.is_ok());
        let replica = ledgers.name();
        let proof = index.zip(answer.as_ref().ok().copied());
        let proof = proof.filter(|(index, version)| index >= version);
        self.apply_proof(
            proof.map(|(index, version)| Proof::Ledger { replica, version, index }),
            now,
        );
    }

    /// Whether this process writes nothing because an older process has the same identity.
    pub(super) fn yields(&self) -> bool {
        self.ledgers.as_ref().is_some_and(Ledgers::is_yielding)
    }

    /// Begins to leave: from now on no heartbeat is answered 200.
    pub(super) fn start_leaving(&mut self) {
        if let Some(ledgers) = &mut self.ledgers {
            ledgers.start_leaving();
            self.directory().fence.store(0, Ordering::SeqCst);
        }
    }

    /// Updates which replicas are silent, gone or back.
    pub(super) fn update_silence(&mut self, now: Moment) {
        let Some(ledgers) = &mut self.ledgers else { return };
        let not_before = ledgers.update_silence(now);
        self.instances.set_silence_grace(not_before);
    }

    /// Updates the combined horizon.
    pub(super) fn update_horizon(&mut self, now: Moment) {
        self.update_silence(now);
        let self_beat = self.self_beats.moment();
        let Some(ledgers) = &self.ledgers else {
            self.horizon = self_beat;
            return;
        };
        self.directory().fence.store(ledgers.fence(self_beat).0, Ordering::SeqCst);
        self.horizon = ledgers.horizon(self_beat).unwrap_or(self.horizon);
    }
}
