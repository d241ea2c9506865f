//! The HTTP server of a replica: what `heartbeat::intake` does with a heartbeat, a registration, another lease
//! and a deregistration, as a small state machine between calls.

use std::{sync::Arc, time::Duration};

use rollcall_core::{
    directory::Heartbeat,
    fact::{Fact, StorePosition},
    slot::{Slot, Source},
};
use rollcall_model::{
    instance::{HealthReport, Instance},
    lease::Lease,
};

use crate::{
    Time,
    api::{ApiError, ApiOperation, ApiResponse, HeartbeatChange},
    mutations::Mutation,
    replica::{Caller, WRITE_TIMEOUT},
    world::{Event, World},
};

/// As in `heartbeat::intake`.
const ATTEMPTS: u8 = 4;

/// A client that has waited this long for a response has closed the connection.
const CLIENT_TIMEOUT: Time = 2_000;

/// What a client requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    Beat(Option<HealthReport>),
    Register(Lease),
    Lease(Duration),
    Leave,
}

/// The response to a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// 200 or 201, with the lease in force.
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

/// How a request continues once readers see a fact.
#[derive(Clone, Copy, Debug)]
pub enum Continuation {
    Respond,
    Retry,
    RespondRecorded,
    Refuse,
    /// A deregistration, which is answered whether or not readers see it.
    RespondDeregistered,
}

#[derive(Debug)]
pub struct Request {
    pub client: usize,
    pub generation: u64,
    pub replica: usize,
    pub kind: RequestKind,
    sent: Time,
    boot: u64,
    attempts: u8,
    /// When the current attempt began, and what the replica knew then.
    arrived: Time,
    known: StorePosition,
}

impl World {
    /// A client sends a request to a replica.
    pub fn send(&mut self, client: usize, replica: usize, kind: RequestKind) {
        let generation = self.clients[client].generation;
        let sent = self.now;
        let request = Request {
            client,
            generation,
            replica,
            kind,
            sent,
            boot: 0,
            attempts: 0,
            arrived: 0,
            known: StorePosition::default(),
        };
        self.requests.push(request);
        let network = self.rng.u64(1..10);
        self.push_in(network, Event::Request(self.requests.len() - 1));
    }

    /// The request reaches the replica.
    pub fn request_arrived(&mut self, request: usize) {
        let replica = self.requests[request].replica;
        if !self.replicas[replica].up || !self.replicas[replica].directory.is_synced() {
            return self.reply(request, Reply::Refused);
        }
        // A request to a stopped process is dropped if its client has closed the connection.
        let is_connected = self.now - self.requests[request].sent < CLIENT_TIMEOUT;
        if !self.defer_if_frozen(replica, &Event::Request(request)) && is_connected {
            self.requests[request].boot = self.replicas[replica].boot;
            self.attempt(request);
        }
    }

    fn attempt(&mut self, request: usize) {
        let request_state = &mut self.requests[request];
        request_state.attempts += 1;
        request_state.arrived = self.now;
        request_state.known = self.replicas[request_state.replica].directory.before_write();
        if request_state.attempts > ATTEMPTS {
            return self.reply(request, Reply::Refused);
        }
        let (client, replica) = (request_state.client, request_state.replica);
        match request_state.kind {
            RequestKind::Beat(health) => self.take_beat(request, health),
            RequestKind::Lease(duration) => {
                if let Some(slot) = self.find_slot(request) {
                    self.store_heartbeat(request, &slot, None, Some(duration));
                }
            }
            RequestKind::Leave => {
                if let Some(slot) = self.find_slot(request) {
                    let key = self.clients[client].key.clone();
                    let uid = Some(slot.record().uid.clone());
                    let op = ApiOperation::Delete { key, uid, version: None, evicts: false };
                    self.call(op, Caller::HttpServer { request }, WRITE_TIMEOUT);
                }
            }
            RequestKind::Register(lease) => {
                let key = self.clients[client].key.clone();
                let slot = self.replicas[replica].directory.slot(&key.namespace, &key.name);
                if slot.is_some_and(|slot| slot.record().lease == lease)
                    && self.renew_without_write(request, None)
                {
                    return;
                }
                let (service, beat) = (self.clients[client].service.clone(), self.unique_value());
                let op = ApiOperation::Register { key, service, lease, beat };
                self.call(op, Caller::HttpServer { request }, WRITE_TIMEOUT);
            }
        }
    }

    /// A unique value for the heartbeat annotation.
    pub fn unique_value(&mut self) -> Arc<str> {
        format!("{} {:06x}", self.now, self.rng.u32(..0x0100_0000)).into()
    }

    /// Whether a heartbeat would be answered 202 now.
    fn is_fenced(&self, request: usize) -> bool {
        let replica = &self.replicas[self.requests[request].replica];
        replica.directory.is_fenced(replica.now(self.now, self.mutation).moment)
    }

    fn heartbeat(&mut self, request: usize, health: Option<HealthReport>) -> Heartbeat {
        let request_state = &self.requests[request];
        let key = &self.clients[request_state.client].key;
        let replica = &self.replicas[request_state.replica];
        let now = replica.now(self.now, self.mutation).moment;
        replica.directory.heartbeat(&key.namespace, &key.name, None, health, now)
    }

    /// Renews a lease if no write is needed. Returns whether the request was answered.
    fn renew_without_write(&mut self, request: usize, health: Option<HealthReport>) -> bool {
        match self.heartbeat(request, health) {
            Heartbeat::Permanent(slot) => self.confirm(request, &slot, true),
            Heartbeat::Renewed(slot) => {
                self.record_possible_heartbeat(self.requests[request].client);
                if self.is_fenced(request) {
                    return false;
                }
                self.confirm(request, &slot, false);
            }
            _ => return false,
        }
        true
    }

    fn take_beat(&mut self, request: usize, health: Option<HealthReport>) {
        match self.heartbeat(request, health) {
            Heartbeat::Permanent(slot) => self.confirm(request, &slot, true),
            Heartbeat::Renewed(slot) => {
                self.record_possible_heartbeat(self.requests[request].client);
                match self.is_fenced(request) {
                    true => self.reply(request, Reply::Recorded),
                    false => self.confirm(request, &slot, false),
                }
            }
            Heartbeat::Write(slot) if self.mutation == Mutation::RespondsBeforeWrite => {
                self.record_beat(request, &slot.record(), Continuation::Respond);
            }
            Heartbeat::Write(slot) => self.store_heartbeat(request, &slot, health, None),
            Heartbeat::Evicted(_) => self.reply(request, Reply::Gone),
            Heartbeat::Unknown => self.fetch(request),
            Heartbeat::OtherUid(_) | Heartbeat::Terminating(_) => {
                self.reply(request, Reply::Refused);
            }
        }
    }

    /// The slot of the requested instance. `None` if the request was answered, or the API server must be asked.
    fn find_slot(&mut self, request: usize) -> Option<Arc<Slot>> {
        let request_state = &self.requests[request];
        let key = self.clients[request_state.client].key.clone();
        let directory = self.replicas[request_state.replica].directory.clone();
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
        self.call(ApiOperation::Get { key }, Caller::HttpServer { request }, WRITE_TIMEOUT);
    }

    fn store_heartbeat(
        &mut self,
        request: usize,
        slot: &Slot,
        health: Option<HealthReport>,
        duration: Option<Duration>,
    ) {
        let record = slot.record();
        let change = HeartbeatChange { value: self.unique_value(), health, duration };
        let op =
            ApiOperation::Beat { key: record.key.clone(), uid: Some(record.uid.clone()), change };
        self.call(op, Caller::HttpServer { request }, WRITE_TIMEOUT);
    }

    fn record_beat(&mut self, request: usize, record: &Instance, continuation: Continuation) {
        self.record_possible_heartbeat(self.requests[request].client);
        let request_state = &self.requests[request];
        let replica = &self.replicas[request_state.replica];
        let at = replica.now(request_state.arrived, self.mutation).moment;
        let (key, uid) = (record.key.clone(), record.uid.clone());
        self.send_fact(
            request_state.replica,
            Fact::RecordedHere { key, uid, at },
            Some((request, continuation)),
        );
    }

    /// A call of the HTTP server is answered.
    pub fn http_call_answered(&mut self, request: usize, op: &ApiOperation, answer: ApiResponse) {
        let (replica, boot) = (self.requests[request].replica, self.requests[request].boot);
        if !self.is_running(replica, boot) {
            return;
        }
        let sent = self.requests[request].known;
        let continuation = match op {
            ApiOperation::Get { .. } => Continuation::Retry,
            _ => Continuation::Respond,
        };
        match (op, answer) {
            (_, Ok(Some(written))) => {
                self.send_fact(
                    replica,
                    Fact::Written { instance: written, by: Source::Http, sent },
                    Some((request, continuation)),
                );
            }
            (ApiOperation::Delete { key, uid: Some(uid), .. }, Ok(None)) => {
                let fact = Fact::Deleted { key: key.clone(), uid: uid.clone() };
                self.send_fact(replica, fact, Some((request, Continuation::RespondDeregistered)));
            }
            (ApiOperation::Beat { key, .. }, Err(ApiError::Unavailable)) => {
                let continuation = match self.requests[request].kind {
                    RequestKind::Lease(_) => Continuation::Refuse,
                    _ => Continuation::RespondRecorded,
                };
                let slot = self.replicas[replica].directory.slot(&key.namespace, &key.name);
                match slot {
                    Some(slot) => self.record_beat(request, &slot.record(), continuation),
                    None => self.reply(request, Reply::Refused),
                }
            }
            (ApiOperation::Beat { key, uid: Some(uid), .. }, Err(_)) => {
                let fact = Fact::Deleted { key: key.clone(), uid: uid.clone() };
                self.send_fact(replica, fact, Some((request, Continuation::Retry)));
            }
            (_, Err(ApiError::NotFound)) => self.reply(request, Reply::Unknown),
            _ => self.reply(request, Reply::Refused),
        }
    }

    /// Continues a request after readers see the fact that it waited for.
    pub fn continue_request(&mut self, request: usize, continuation: Continuation) {
        match continuation {
            Continuation::Retry => self.attempt(request),
            Continuation::RespondRecorded => self.reply(request, Reply::Recorded),
            Continuation::Refuse => self.reply(request, Reply::Refused),
            Continuation::RespondDeregistered => self.reply(request, Reply::Ok(None)),
            Continuation::Respond => {
                let request_state = &self.requests[request];
                let key = &self.clients[request_state.client].key;
                let slot =
                    self.replicas[request_state.replica].directory.slot(&key.namespace, &key.name);
                match slot {
                    Some(slot) => self.confirm(request, &slot, true),
                    None => self.reply(request, Reply::Unknown),
                }
            }
        }
    }

    /// Answers 200: the promise holds from here on. `stored` says whether the API server has the heartbeat.
    fn confirm(&mut self, request: usize, slot: &Slot, stored: bool) {
        let record = slot.record();
        let (client, arrived) = (self.requests[request].client, self.requests[request].arrived);
        let replica = self.requests[request].replica;
        self.promise(client, arrived, &record, (replica, stored));
        self.reply(request, Reply::Ok(Some(record.lease)));
    }

    fn reply(&mut self, request: usize, reply: Reply) {
        let client = self.requests[request].client;
        let kind = self.requests[request].kind;
        let replica = self.requests[request].replica;
        self.log(Some(client), || format!("r{replica}: {kind:?} → {reply:?}"));
        let network = self.rng.u64(1..10);
        self.push_in(network, Event::Response(request, reply));
    }
}
