//! The HTTP door of a replica: what `witness::intake` does with a beat, a registration, another
//! lease and a farewell, as a small state machine between calls.

use std::{sync::Arc, time::Duration};

use rollcall_core::{
    directory::Heartbeat,
    fact::{Fact, Sent},
    slot::{Slot, Source},
};
use rollcall_model::{
    instance::{HealthReport, Instance},
    lease::Lease,
};

use crate::{
    Time,
    api::{Answer, Change, Fail, Op},
    replica::{Caller, WRITE_TIMEOUT},
    sabotage::Sabotage,
    world::{Event, World},
};

/// As in `witness::intake`.
const ATTEMPTS: u8 = 4;

/// A client that waits longer than this for an answer has hung up.
const PATIENCE: Time = 2_000;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Beat(Option<HealthReport>),
    Register(Lease),
    Lease(Duration),
    Leave,
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// 200 or 201, with the lease that counts.
    Ok(Option<Lease>),
    /// 202.
    Recorded,
    /// 404.
    Unknown,
    /// 410.
    Gone,
    /// 409, 503, or no connection.
    Refused,
}

/// What is done once readers see a fact.
#[derive(Clone, Copy, Debug)]
pub enum Then {
    Answer,
    Again,
    Record,
    Refuse,
    /// A farewell is answered whatever readers see.
    Farewell,
}

#[derive(Debug)]
pub struct Request {
    pub client: usize,
    pub generation: u64,
    pub replica: usize,
    pub ask: Ask,
    sent: Time,
    boot: u64,
    attempts: u8,
    /// When the present attempt began, and what was known then.
    arrived: Time,
    known: Sent,
}

impl World {
    /// A client sends a request to a replica.
    pub fn send(&mut self, client: usize, replica: usize, ask: Ask) {
        let generation = self.clients[client].generation;
        let sent = self.now;
        let request = Request {
            client,
            generation,
            replica,
            ask,
            sent,
            boot: 0,
            attempts: 0,
            arrived: 0,
            known: Sent::default(),
        };
        self.requests.push(request);
        let network = self.rng.u64(1..10);
        self.push_in(network, Event::Request(self.requests.len() - 1));
    }

    /// It reaches the door.
    pub fn request(&mut self, request: usize) {
        let replica = self.requests[request].replica;
        if !self.replicas[replica].up || !self.replicas[replica].directory.is_synced() {
            return self.reply(request, Reply::Refused);
        }
        // Nobody reads what was sent to a stopped process by somebody who has hung up.
        let is_there = self.now - self.requests[request].sent < PATIENCE;
        if !self.park(replica, &Event::Request(request)) && is_there {
            self.requests[request].boot = self.replicas[replica].boot;
            self.attempt(request);
        }
    }

    fn attempt(&mut self, request: usize) {
        let one = &mut self.requests[request];
        one.attempts += 1;
        one.arrived = self.now;
        one.known = self.replicas[one.replica].directory.before_write();
        if one.attempts > ATTEMPTS {
            return self.reply(request, Reply::Refused);
        }
        let (client, replica) = (one.client, one.replica);
        match one.ask {
            Ask::Beat(health) => self.take_beat(request, health),
            Ask::Lease(duration) => {
                if let Some(slot) = self.find(request) {
                    self.store_heartbeat(request, &slot, None, Some(duration));
                }
            }
            Ask::Leave => {
                if let Some(slot) = self.find(request) {
                    let key = self.clients[client].key.clone();
                    let uid = Some(slot.record().uid.clone());
                    let op = Op::Delete { key, uid, version: None, evicts: false };
                    self.call(op, Caller::Door { request }, WRITE_TIMEOUT);
                }
            }
            Ask::Register(lease) => {
                let key = self.clients[client].key.clone();
                let slot = self.replicas[replica].directory.slot(&key.namespace, &key.name);
                if slot.is_some_and(|slot| slot.record().lease == lease)
                    && self.ordinary(request, None)
                {
                    return;
                }
                let (service, beat) = (self.clients[client].service.clone(), self.fresh());
                let op = Op::Register { key, service, lease, beat };
                self.call(op, Caller::Door { request }, WRITE_TIMEOUT);
            }
        }
    }

    /// A heartbeat annotation unlike every other.
    pub fn fresh(&mut self) -> Arc<str> {
        format!("{} {:06x}", self.now, self.rng.u32(..0x0100_0000)).into()
    }

    /// Whether a beat of now is answered 202.
    fn is_fenced(&self, request: usize) -> bool {
        let replica = &self.replicas[self.requests[request].replica];
        replica.directory.is_fenced(replica.now(self.now, self.sabotage).moment)
    }

    fn heartbeat(&mut self, request: usize, health: Option<HealthReport>) -> Heartbeat {
        let one = &self.requests[request];
        let key = &self.clients[one.client].key;
        let replica = &self.replicas[one.replica];
        let now = replica.now(self.now, self.sabotage).moment;
        replica.directory.heartbeat(&key.namespace, &key.name, None, health, now)
    }

    /// A beat that needs no write; whether it was one, and could be answered.
    fn ordinary(&mut self, request: usize, health: Option<HealthReport>) -> bool {
        match self.heartbeat(request, health) {
            Heartbeat::Permanent(slot) => self.accept(request, &slot, true),
            Heartbeat::Renewed(slot) => {
                self.counted(self.requests[request].client);
                if self.is_fenced(request) {
                    return false;
                }
                self.accept(request, &slot, false);
            }
            _ => return false,
        }
        true
    }

    fn take_beat(&mut self, request: usize, health: Option<HealthReport>) {
        match self.heartbeat(request, health) {
            Heartbeat::Permanent(slot) => self.accept(request, &slot, true),
            Heartbeat::Renewed(slot) => {
                self.counted(self.requests[request].client);
                match self.is_fenced(request) {
                    true => self.reply(request, Reply::Recorded),
                    false => self.accept(request, &slot, false),
                }
            }
            Heartbeat::Write(slot) if self.sabotage == Sabotage::AnswersFirst => {
                self.record_beat(request, &slot.record(), Then::Answer);
            }
            Heartbeat::Write(slot) => self.store_heartbeat(request, &slot, health, None),
            Heartbeat::Gone(_) => self.reply(request, Reply::Gone),
            Heartbeat::Unknown => self.fetch(request),
            Heartbeat::OtherUid(_) | Heartbeat::Terminating(_) => {
                self.reply(request, Reply::Refused);
            }
        }
    }

    /// The slot a request is about; none when it was answered, or the server has to be asked.
    fn find(&mut self, request: usize) -> Option<Arc<Slot>> {
        let one = &self.requests[request];
        let key = self.clients[one.client].key.clone();
        let directory = self.replicas[one.replica].directory.clone();
        let slot = directory.slot(&key.namespace, &key.name);
        match &slot {
            Some(_) => {}
            None if directory.recent_eviction(&key.namespace, &key.name).is_some() => {
                self.reply(request, Reply::Gone);
            }
            None => self.fetch(request),
        }
        slot
    }

    fn fetch(&mut self, request: usize) {
        self.requests[request].known.least = 0;
        let key = self.clients[self.requests[request].client].key.clone();
        self.call(Op::Get { key }, Caller::Door { request }, WRITE_TIMEOUT);
    }

    fn store_heartbeat(
        &mut self,
        request: usize,
        slot: &Slot,
        health: Option<HealthReport>,
        duration: Option<Duration>,
    ) {
        let record = slot.record();
        let change = Change { value: self.fresh(), health, duration };
        let op = Op::Beat { key: record.key.clone(), uid: Some(record.uid.clone()), change };
        self.call(op, Caller::Door { request }, WRITE_TIMEOUT);
    }

    fn record_beat(&mut self, request: usize, record: &Instance, then: Then) {
        self.counted(self.requests[request].client);
        let one = &self.requests[request];
        let replica = &self.replicas[one.replica];
        let at = replica.now(one.arrived, self.sabotage).moment;
        let (key, uid) = (record.key.clone(), record.uid.clone());
        self.tell(one.replica, Fact::Beat { key, uid, at }, Some((request, then)));
    }

    /// A call that the door made is answered.
    pub fn door_answered(&mut self, request: usize, op: &Op, answer: Answer) {
        let (replica, boot) = (self.requests[request].replica, self.requests[request].boot);
        if !self.is_running(replica, boot) {
            return;
        }
        let sent = self.requests[request].known;
        let then = match op {
            Op::Get { .. } => Then::Again,
            _ => Then::Answer,
        };
        match (op, answer) {
            (_, Ok(Some(written))) => {
                self.tell(
                    replica,
                    Fact::Written { instance: written, by: Source::Http, sent },
                    Some((request, then)),
                );
            }
            (Op::Delete { key, uid: Some(uid), .. }, Ok(None)) => {
                let fact = Fact::Deleted { key: key.clone(), uid: uid.clone() };
                self.tell(replica, fact, Some((request, Then::Farewell)));
            }
            (Op::Beat { key, .. }, Err(Fail::Away)) => {
                let then = match self.requests[request].ask {
                    Ask::Lease(_) => Then::Refuse,
                    _ => Then::Record,
                };
                let slot = self.replicas[replica].directory.slot(&key.namespace, &key.name);
                match slot {
                    Some(slot) => self.record_beat(request, &slot.record(), then),
                    None => self.reply(request, Reply::Refused),
                }
            }
            (Op::Beat { key, uid: Some(uid), .. }, Err(_)) => {
                let fact = Fact::Deleted { key: key.clone(), uid: uid.clone() };
                self.tell(replica, fact, Some((request, Then::Again)));
            }
            (_, Err(Fail::NotFound)) => self.reply(request, Reply::Unknown),
            _ => self.reply(request, Reply::Refused),
        }
    }

    /// Readers see what the request waited for.
    pub fn shown(&mut self, request: usize, then: Then) {
        match then {
            Then::Again => self.attempt(request),
            Then::Record => self.reply(request, Reply::Recorded),
            Then::Refuse => self.reply(request, Reply::Refused),
            Then::Farewell => self.reply(request, Reply::Ok(None)),
            Then::Answer => {
                let one = &self.requests[request];
                let key = &self.clients[one.client].key;
                let slot = self.replicas[one.replica].directory.slot(&key.namespace, &key.name);
                match slot {
                    Some(slot) => self.accept(request, &slot, true),
                    None => self.reply(request, Reply::Unknown),
                }
            }
        }
    }

    /// Answers 200: from here on the promise holds. `stored` says that the API server has it.
    fn accept(&mut self, request: usize, slot: &Slot, stored: bool) {
        let record = slot.record();
        let (client, arrived) = (self.requests[request].client, self.requests[request].arrived);
        let replica = self.requests[request].replica;
        self.promise(client, arrived, &record, (replica, stored));
        self.reply(request, Reply::Ok(Some(record.lease)));
    }

    fn reply(&mut self, request: usize, reply: Reply) {
        let client = self.requests[request].client;
        let ask = self.requests[request].ask;
        let replica = self.requests[request].replica;
        self.note(Some(client), || format!("r{replica}: {ask:?} → {reply:?}"));
        let network = self.rng.u64(1..10);
        self.push_in(network, Event::Response(request, reply));
    }
}
