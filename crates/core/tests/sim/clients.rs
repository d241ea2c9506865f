//! Clients: they register, beat every third of a lease by HTTP or annotation, die, come back
//! late, leave, and change their lease under way. Owns what a client does; not what it is
//! promised (`check`).

use std::{sync::Arc, time::Duration};

use rollcall_model::{
    instance::{HealthReport, InstanceKey},
    lease::{Lease, LeaseMode, OnExpiry},
};

use crate::{
    Time,
    api::{Answer, Change, Fail, Op},
    faults::{Fault, Kind},
    replica::Caller,
    server::{Ask, Reply},
    world::{Event, World},
};

const NAMESPACE: &str = "shop";

/// How long a client waits for the API server.
const PATIENCE: Time = 3_000;

/// By which way somebody beats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Http,
    Annotation,
    Alternating,
    Random,
}

/// Which door somebody goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The same, as long as it answers.
    Sticky,
    /// Each in turn.
    Alternating,
    /// Any.
    Random,
    /// The same, even if it answers 202.
    Stubborn,
}

#[derive(Debug)]
pub struct Client {
    pub door: Door,
    /// Beats at the very end of its lease instead of every third.
    tardy: bool,
    /// The door it went to last.
    replica: usize,
    /// How often it was refused in a row.
    refused: u32,
    pub key: InstanceKey,
    pub service: Arc<str>,
    pub way: Way,
    /// The terms that it believes in.
    pub lease: Lease,
    /// Another length that it wants.
    wants: Option<Duration>,
    pub alive: bool,
    /// Since when it has been beating without a break.
    pub steady_since: Option<Time>,
    /// Whether it believes that it is registered.
    registered: bool,
    /// Timers and answers of an earlier life are ignored.
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
        let ways = [Way::Http, Way::Annotation, Way::Alternating, Way::Random];
        let doors = [Door::Sticky, Door::Alternating, Door::Random, Door::Stubborn];
        Self {
            door: doors[rng.usize(..doors.len())],
            replica: rng.usize(..replicas),
            refused: 0,
            tardy: replicas > 1 && rng.u8(..4) == 0,
            key: InstanceKey::new(NAMESPACE, &format!("c{index}")),
            service: format!("s{}", rng.u8(..3)).into(),
            way: ways[rng.usize(..ways.len())],
            lease,
            wants: None,
            alive: false,
            steady_since: None,
            registered: false,
            generation: 0,
            beats: 0,
        }
    }

    fn length(&self) -> Duration {
        self.wants.unwrap_or(self.lease.duration).min(self.lease.duration)
    }
}

impl World {
    /// A client's timer.
    pub fn client(&mut self, client: usize, generation: u64) {
        if self.clients[client].generation != generation {
            return;
        }
        let settled = self.now >= self.calm;
        if !self.clients[client].alive {
            self.clients[client].alive = true;
            self.clients[client].steady_since = Some(self.now);
            self.note(Some(client), || "client: is here".to_owned());
        } else if (!settled && self.rng.u8(..40) == 0)
            || (settled && self.now < self.calm + 25_000 && self.rng.u8(..12) == 0)
        {
            return self.end_life(client, settled);
        } else if !settled && self.rng.u8(..40) == 0 {
            self.clients[client].wants = Some(Duration::from_secs(self.rng.u64(2..=20)));
        }
        self.speak(client);
        let length = self.clients[client].length().as_millis() as u64;
        let jittered = match self.clients[client].tardy {
            true => length - self.rng.u64(12..300),
            false => length / 3 * self.rng.u64(75..=100) / 100,
        };
        self.push_in(jittered, Event::Client { client, generation });
    }

    /// Dies without a word, or says farewell, or is deleted by its operator.
    fn end_life(&mut self, client: usize, settled: bool) {
        let one = &mut self.clients[client];
        one.alive = false;
        one.steady_since = None;
        one.generation += 1;
        let (generation, lease) = (one.generation, one.lease.duration.as_millis() as u64);
        match self.rng.u8(..8) {
            0 => {
                self.note(Some(client), || "client: leaves".to_owned());
                self.clients[client].registered = false;
                self.dismiss(client);
                let replica = self.door(client);
                self.send(client, replica, Ask::Leave);
            }
            1 => {
                self.note(Some(client), || "client: its operator deletes it".to_owned());
                self.dismiss(client);
                let key = self.clients[client].key.clone();
                let op = Op::Delete { key, uid: None, version: None, evicts: false };
                self.call(op, Caller::Client { client, generation }, PATIENCE);
            }
            _ => self.note(Some(client), || "client: dies".to_owned()),
        }
        if !settled && self.rng.u8(..3) > 0 {
            // Often about when the lease ends, which is the worst moment.
            let away = match self.rng.bool() {
                true => self.rng.u64(lease / 2..lease * 4),
                false => lease - 300 + self.rng.u64(0..2_000),
            };
            self.push_in(away, Event::Client { client, generation });
        }
    }

    fn speak(&mut self, client: usize) {
        let one = &mut self.clients[client];
        one.beats += 1;
        let by_http = match one.way {
            Way::Http => true,
            Way::Annotation => false,
            Way::Alternating => one.beats.is_multiple_of(2),
            Way::Random => self.rng.bool(),
        };
        let registered = self.clients[client].registered;
        match (registered, by_http) {
            (false, true) => {
                let lease = self.clients[client].lease;
                let replica = self.door(client);
                self.send(client, replica, Ask::Register(lease));
            }
            (false, false) => self.apply_manifest(client),
            (true, true) => {
                let ask = match self.clients[client].wants {
                    Some(duration) => Ask::Lease(duration),
                    None => Ask::Beat(self.health()),
                };
                let replica = self.door(client);
                self.send(client, replica, ask);
            }
            (true, false) => self.annotate(client),
        }
    }

    /// Goes to a door.
    fn door(&mut self, client: usize) -> usize {
        let duplicates =
            self.duplicates.values().filter(|duplicate| self.replicas[**duplicate].up).count();
        let many = self.replicas.len() - self.duplicates.len() + duplicates;
        let any = self.rng.usize(..many);
        let one = &mut self.clients[client];
        one.replica = match one.door {
            Door::Sticky | Door::Stubborn => one.replica,
            Door::Alternating => (one.replica + 1) % many,
            Door::Random => any,
        };
        one.replica
    }

    /// Most clients die together, or all beat at once.
    pub fn client_fault(&mut self, fault: Fault, begins: bool) {
        for client in 0..self.clients.len() {
            let alive = self.clients[client].alive;
            match (fault.kind, begins) {
                (Kind::Storm, _) if alive => (0..3).for_each(|_| self.speak(client)),
                (Kind::MassDeath, true) if alive && self.rng.u8(..5) > 0 => {
                    let one = &mut self.clients[client];
                    one.alive = false;
                    one.steady_since = None;
                    one.generation += 1;
                    self.note(Some(client), || "client: dies with others".to_owned());
                }
                (Kind::MassDeath, false) if !alive => {
                    self.clients[client].generation += 1;
                    let generation = self.clients[client].generation;
                    let at = self.rng.u64(0..200);
                    self.push_in(at, Event::Client { client, generation });
                }
                _ => {}
            }
        }
    }

    /// Most beats say nothing of health.
    fn health(&mut self) -> Option<HealthReport> {
        match self.rng.u8(..24) {
            _ if self.now >= self.calm => None,
            0 => Some(HealthReport::Warning),
            1 => Some(HealthReport::Passing),
            _ => None,
        }
    }

    fn apply_manifest(&mut self, client: usize) {
        let beat = self.fresh();
        let one = &self.clients[client];
        let (key, service, generation) = (one.key.clone(), one.service.clone(), one.generation);
        let op = Op::Register { key, service, lease: one.lease, beat };
        self.call(op, Caller::Client { client, generation }, PATIENCE);
    }

    fn annotate(&mut self, client: usize) {
        let change =
            Change { value: self.fresh(), health: None, duration: self.clients[client].wants };
        let one = &self.clients[client];
        let (key, generation) = (one.key.clone(), one.generation);
        let op = Op::Beat { key, uid: None, change };
        self.call(op, Caller::Client { client, generation }, PATIENCE);
    }

    /// The API server answered a client.
    pub fn api_answered(
        &mut self,
        (client, generation): (usize, u64),
        op: &Op,
        answer: &Answer,
        applied: Time,
    ) {
        self.note(Some(client), || match answer {
            Ok(_) => format!("client: {} stored", op.name()),
            Err(fail) => format!("client: {} → {fail:?}", op.name()),
        });
        if let Ok(Some(stored)) = answer {
            self.promise_stored(client, applied, stored);
        }
        if self.clients[client].generation != generation || !self.clients[client].alive {
            return;
        }
        match answer {
            Ok(Some(stored)) => self.believes(client, stored.lease),
            Err(Fail::NotFound) => self.registers_again(client),
            _ => {}
        }
    }

    /// A door answered a client.
    pub fn replied(&mut self, request: usize, reply: &Reply) {
        let (client, generation) =
            (self.requests[request].client, self.requests[request].generation);
        if self.clients[client].generation != generation || !self.clients[client].alive {
            return;
        }
        match reply {
            Reply::Ok(Some(lease)) => self.believes(client, *lease),
            Reply::Ok(None) => {}
            Reply::Unknown | Reply::Gone => self.registers_again(client),
            Reply::Recorded if self.clients[client].door == Door::Stubborn => {}
            Reply::Recorded => self.goes_elsewhere(client),
            Reply::Refused => {
                self.goes_elsewhere(client);
                self.clients[client].refused += 1;
                if self.clients[client].refused < 3 && self.replicas.len() > 1 {
                    self.speak(client);
                }
                return;
            }
        }
        self.clients[client].refused = 0;
    }

    fn goes_elsewhere(&mut self, client: usize) {
        let one = &mut self.clients[client];
        one.replica = (one.replica + 1) % self.replicas.len();
    }

    fn believes(&mut self, client: usize, lease: Lease) {
        let one = &mut self.clients[client];
        one.registered = true;
        one.lease = lease;
        one.wants = one.wants.filter(|wants| *wants != lease.duration);
    }

    fn registers_again(&mut self, client: usize) {
        if std::mem::replace(&mut self.clients[client].registered, false) {
            self.speak(client);
        }
    }
}
