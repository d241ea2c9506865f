//! Clients: they register, send heartbeats every third of a lease by HTTP or annotation, stop, come back late,
//! deregister, and change their lease while running. Owns: what a client does. Does not own: what rollcall
//! promises to it (`promises`).

use std::{sync::Arc, time::Duration};

use rollcall_model::{
    instance::{HealthReport, InstanceKey},
    lease::{Lease, LeaseMode, OnExpiry},
};

use crate::{
    Time,
    api::{ApiError, ApiOperation, ApiResponse, HeartbeatChange},
    faults::{Fault, FaultKind},
    replica::Caller,
    server::{Reply, RequestKind},
    world::{Event, World},
};

const NAMESPACE: &str = "shop";

/// How long a client waits for the API server.
const API_TIMEOUT: Time = 3_000;

/// How a client sends its heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatChannel {
    Http,
    Annotation,
    Alternating,
    Random,
}

/// Which replica a client calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaChoice {
    /// The same replica, as long as it answers.
    Sticky,
    /// Each replica in turn.
    Alternating,
    /// A random replica.
    Random,
    /// The same replica, even if it answers 202.
    Stubborn,
}

#[derive(Debug)]
pub struct Client {
    pub replica_choice: ReplicaChoice,
    /// Sends heartbeats at the end of its lease instead of every third of it.
    late: bool,
    /// The replica that it called last.
    replica: usize,
    /// The number of consecutive refusals.
    refused: u32,
    pub key: InstanceKey,
    pub service: Arc<str>,
    pub channel: HeartbeatChannel,
    /// The lease as the client knows it.
    pub lease: Lease,
    /// The lease duration that it requests.
    wanted_duration: Option<Duration>,
    pub running: bool,
    /// The start of its current unbroken chain of heartbeats.
    pub steady_since: Option<Time>,
    /// Whether it believes that it is registered.
    registered: bool,
    /// Timers and responses of an earlier generation are ignored.
    pub generation: u64,
    beats: u64,
}

impl Client {
    pub fn new(index: usize, rng: &mut fastrand::Rng, replicas: usize) -> Self {
        let evicts = rng.bool();
        let lease = Lease {
            mode: if rng.u8(..8) == 0 { LeaseMode::Permanent } else { LeaseMode::Heartbeat },
            duration: Duration::from_secs(rng.u64(2..=20)),
            on_expiry: if evicts { OnExpiry::Evict } else { OnExpiry::Retain },
            evict_after: Duration::from_secs(rng.u64(0..4).pow(2)),
        };
        let channels = [
            HeartbeatChannel::Http,
            HeartbeatChannel::Annotation,
            HeartbeatChannel::Alternating,
            HeartbeatChannel::Random,
        ];
        let choices = [
            ReplicaChoice::Sticky,
            ReplicaChoice::Alternating,
            ReplicaChoice::Random,
            ReplicaChoice::Stubborn,
        ];
        Self {
            replica_choice: choices[rng.usize(..choices.len())],
            replica: rng.usize(..replicas),
            refused: 0,
            late: replicas > 1 && rng.u8(..4) == 0,
            key: InstanceKey::new(NAMESPACE, &format!("c{index}")),
            service: format!("s{}", rng.u8(..3)).into(),
            channel: channels[rng.usize(..channels.len())],
            lease,
            wanted_duration: None,
            running: false,
            steady_since: None,
            registered: false,
            generation: 0,
            beats: 0,
        }
    }

    fn length(&self) -> Duration {
        self.wanted_duration.unwrap_or(self.lease.duration).min(self.lease.duration)
    }
}

impl World {
    /// The timer of a client fires.
    pub fn client_timer(&mut self, client: usize, generation: u64) {
        if self.clients[client].generation != generation {
            return;
        }
        let settled = self.now >= self.changes_end;
        if !self.clients[client].running {
            self.clients[client].running = true;
            self.clients[client].steady_since = Some(self.now);
            self.log(Some(client), || "client: starts".to_owned());
        } else if (!settled && self.rng.u8(..40) == 0)
            || (settled && self.now < self.changes_end + 25_000 && self.rng.u8(..12) == 0)
        {
            return self.stop_client(client, settled);
        } else if !settled && self.rng.u8(..40) == 0 {
            self.clients[client].wanted_duration = Some(Duration::from_secs(self.rng.u64(2..=20)));
        }
        self.send_heartbeat(client);
        let length = self.clients[client].length().as_millis() as u64;
        let jittered = match self.clients[client].late {
            true => length - self.rng.u64(12..300),
            false => length / 3 * self.rng.u64(75..=100) / 100,
        };
        self.push_in(jittered, Event::Client { client, generation });
    }

    /// Ends the client: it stops without deregistering, deregisters, or an operator deletes its object.
    fn stop_client(&mut self, client: usize, settled: bool) {
        let client_state = &mut self.clients[client];
        client_state.running = false;
        client_state.steady_since = None;
        client_state.generation += 1;
        let (generation, lease) =
            (client_state.generation, client_state.lease.duration.as_millis() as u64);
        match self.rng.u8(..8) {
            0 => {
                self.log(Some(client), || "client: deregisters".to_owned());
                self.clients[client].registered = false;
                self.drop_promises(client);
                let replica = self.choose_replica(client);
                self.send(client, replica, RequestKind::Leave);
            }
            1 => {
                self.log(Some(client), || "client: an operator deletes its object".to_owned());
                self.drop_promises(client);
                let key = self.clients[client].key.clone();
                let op = ApiOperation::Delete { key, uid: None, version: None, evicts: false };
                self.call(op, Caller::Client { client, generation }, API_TIMEOUT);
            }
            _ => self.log(Some(client), || "client: stops".to_owned()),
        }
        if !settled && self.rng.u8(..3) > 0 {
            // Often at about the end of the lease, which is the worst moment.
            let away = match self.rng.bool() {
                true => self.rng.u64(lease / 2..lease * 4),
                false => lease - 300 + self.rng.u64(0..2_000),
            };
            self.push_in(away, Event::Client { client, generation });
        }
    }

    fn send_heartbeat(&mut self, client: usize) {
        let client_state = &mut self.clients[client];
        client_state.beats += 1;
        let by_http = match client_state.channel {
            HeartbeatChannel::Http => true,
            HeartbeatChannel::Annotation => false,
            HeartbeatChannel::Alternating => client_state.beats.is_multiple_of(2),
            HeartbeatChannel::Random => self.rng.bool(),
        };
        let registered = self.clients[client].registered;
        match (registered, by_http) {
            (false, true) => {
                let lease = self.clients[client].lease;
                let replica = self.choose_replica(client);
                self.send(client, replica, RequestKind::Register(lease));
            }
            (false, false) => self.apply_manifest(client),
            (true, true) => {
                let kind = match self.clients[client].wanted_duration {
                    Some(duration) => RequestKind::Lease(duration),
                    None => RequestKind::Beat(self.health()),
                };
                let replica = self.choose_replica(client);
                self.send(client, replica, kind);
            }
            (true, false) => self.annotate(client),
        }
    }

    /// Chooses the replica for the next request.
    fn choose_replica(&mut self, client: usize) -> usize {
        let duplicates =
            self.duplicates.values().filter(|duplicate| self.replicas[**duplicate].up).count();
        let many = self.replicas.len() - self.duplicates.len() + duplicates;
        let any = self.rng.usize(..many);
        let client_state = &mut self.clients[client];
        client_state.replica = match client_state.replica_choice {
            ReplicaChoice::Sticky | ReplicaChoice::Stubborn => client_state.replica,
            ReplicaChoice::Alternating => (client_state.replica + 1) % many,
            ReplicaChoice::Random => any,
        };
        client_state.replica
    }

    /// Most clients stop together, or all send heartbeats at once.
    pub fn apply_client_fault(&mut self, fault: Fault, begins: bool) {
        for client in 0..self.clients.len() {
            let running = self.clients[client].running;
            match (fault.kind, begins) {
                (FaultKind::HeartbeatStorm, _) if running => {
                    (0..3).for_each(|_| self.send_heartbeat(client));
                }
                (FaultKind::MassExpiry, true) if running && self.rng.u8(..5) > 0 => {
                    let client_state = &mut self.clients[client];
                    client_state.running = false;
                    client_state.steady_since = None;
                    client_state.generation += 1;
                    self.log(Some(client), || "client: stops with others".to_owned());
                }
                (FaultKind::MassExpiry, false) if !running => {
                    self.clients[client].generation += 1;
                    let generation = self.clients[client].generation;
                    let at = self.rng.u64(0..200);
                    self.push_in(at, Event::Client { client, generation });
                }
                _ => {}
            }
        }
    }

    /// The health in a heartbeat; most have none.
    fn health(&mut self) -> Option<HealthReport> {
        match self.rng.u8(..24) {
            _ if self.now >= self.changes_end => None,
            0 => Some(HealthReport::Warning),
            1 => Some(HealthReport::Passing),
            _ => None,
        }
    }

    fn apply_manifest(&mut self, client: usize) {
        let beat = self.unique_value();
        let client_state = &self.clients[client];
        let (key, service, generation) =
            (client_state.key.clone(), client_state.service.clone(), client_state.generation);
        let op = ApiOperation::Register { key, service, lease: client_state.lease, beat };
        self.call(op, Caller::Client { client, generation }, API_TIMEOUT);
    }

    fn annotate(&mut self, client: usize) {
        let change = HeartbeatChange {
            value: self.unique_value(),
            health: None,
            duration: self.clients[client].wanted_duration,
        };
        let client_state = &self.clients[client];
        let (key, generation) = (client_state.key.clone(), client_state.generation);
        let op = ApiOperation::Beat { key, uid: None, change };
        self.call(op, Caller::Client { client, generation }, API_TIMEOUT);
    }

    /// The API server has answered a client.
    pub fn client_call_answered(
        &mut self,
        (client, generation): (usize, u64),
        op: &ApiOperation,
        answer: &ApiResponse,
        applied: Time,
    ) {
        self.log(Some(client), || match answer {
            Ok(_) => format!("client: {} stored", op.name()),
            Err(fail) => format!("client: {} → {fail:?}", op.name()),
        });
        if let Ok(Some(stored)) = answer {
            self.promise_stored(client, applied, stored);
        }
        if self.clients[client].generation != generation || !self.clients[client].running {
            return;
        }
        match answer {
            Ok(Some(stored)) => self.take_lease(client, stored.lease),
            Err(ApiError::NotFound) => self.register_again(client),
            _ => {}
        }
    }

    /// A replica has answered a client.
    pub fn response_arrived(&mut self, request: usize, reply: &Reply) {
        let (client, generation) =
            (self.requests[request].client, self.requests[request].generation);
        if self.clients[client].generation != generation || !self.clients[client].running {
            return;
        }
        match reply {
            Reply::Ok(Some(lease)) => self.take_lease(client, *lease),
            Reply::Ok(None) => {}
            Reply::Unknown | Reply::Gone => self.register_again(client),
            Reply::Recorded if self.clients[client].replica_choice == ReplicaChoice::Stubborn => {}
            Reply::Recorded => self.switch_replica(client),
            Reply::Refused => {
                self.switch_replica(client);
                self.clients[client].refused += 1;
                if self.clients[client].refused < 3 && self.replicas.len() > 1 {
                    self.send_heartbeat(client);
                }
                return;
            }
        }
        self.clients[client].refused = 0;
    }

    fn switch_replica(&mut self, client: usize) {
        let client_state = &mut self.clients[client];
        client_state.replica = (client_state.replica + 1) % self.replicas.len();
    }

    fn take_lease(&mut self, client: usize, lease: Lease) {
        let client_state = &mut self.clients[client];
        client_state.registered = true;
        client_state.lease = lease;
        client_state.wanted_duration =
            client_state.wanted_duration.filter(|wanted| *wanted != lease.duration);
    }

    fn register_again(&mut self, client: usize) {
        if std::mem::replace(&mut self.clients[client].registered, false) {
            self.send_heartbeat(client);
        }
    }
}
