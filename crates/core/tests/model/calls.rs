//! Calls to the API server: what a replica sends, when it is carried out, and what the answer leads to,
//! as the engine, the controller and the doors of the program do it. Does not own what is free (`scene`).

use std::sync::Arc;

use rollcall_core::{
    codec,
    fact::{Duty, Fact, Outcome, SelfBeat, Sent, Version},
    ledger::Ledger,
    slot::Source,
};
use rollcall_model::lease::Moment;

use crate::{
    Time,
    api::{Answer, Change, Fail, Op},
    words,
    world::{World, key, name},
};

/// Who waits for a call.
#[derive(Clone, Debug)]
pub enum Caller {
    SelfBeat,
    Flush(u64),
    Duty { on: Version, reason: Option<Arc<str>> },
    Door { instance: usize, arrived: Time },
}

/// A call to the API server that has not been carried out.
#[derive(Clone, Debug)]
pub struct Call {
    pub replica: usize,
    boot: u64,
    op: Op,
    caller: Caller,
    pub given_up: bool,
}

impl Call {
    pub fn is_ledger(&self) -> bool {
        matches!(self.caller, Caller::Flush(_))
    }

    /// A self-beat, a ledger, or one of the leader or of a door.
    pub fn kind(&self) -> usize {
        match self.caller {
            Caller::SelfBeat => 0,
            Caller::Flush(_) => 1,
            Caller::Duty { .. } | Caller::Door { .. } => 2,
        }
    }
}

/// As it is read at the other end.
fn over_the_wire(ledger: Ledger) -> Ledger {
    let segments = codec::decode(&codec::encode(&ledger.segments)).unwrap();
    Ledger { segments, ..ledger }
}

impl World {
    /// Carries a duty to its call.
    pub fn hand_on(&mut self, replica: usize, duty: Duty) {
        let own = self.replicas[replica].own.clone();
        let (op, caller) = match duty {
            Duty::SelfBeat(SelfBeat { value, .. }) => {
                let change = Change { value: value.into(), health: None, duration: None };
                (Op::Beat { key: own, uid: None, change }, Caller::SelfBeat)
            }
            Duty::Flush(ledger) => {
                let sequence = ledger.sequence;
                // What is beaten from now on is told by another ledger.
                self.replicas[replica].beaten = Default::default();
                let ledger = Arc::new(over_the_wire(ledger));
                (Op::Flush { key: own, ledger }, Caller::Flush(sequence))
            }
            Duty::WriteStatus { on, desired, .. } => {
                (Op::Status { on: on.clone(), desired }, Caller::Duty { on, reason: None })
            }
            Duty::Evict { on, reason } => {
                let (key, uid, version) = (on.key.clone(), on.uid.clone(), on.resource_version);
                let op = Op::Delete { key, uid: Some(uid), version: Some(version), evicts: true };
                (op, Caller::Duty { on, reason: Some(reason) })
            }
            // For people, and no beat: what comes of it changes nothing here.
            Duty::Checkpoint { on, .. } => {
                let (key, uid) = (on.key, on.uid);
                let fact = Fact::Attempted { key, uid, outcome: Outcome::Done };
                let now = self.now(replica);
                return self.replicas[replica].catalog.apply(fact, now);
            }
            // No store goes back here.
            Duty::Relist | Duty::Announce { .. } | Duty::Sweep { .. } => return,
        };
        self.call(replica, op, caller);
    }

    pub fn call(&mut self, replica: usize, op: Op, caller: Caller) {
        self.note(|| format!("    r{replica} sends {}", words::call(&op)));
        let boot = self.replicas[replica].boot;
        self.calls.push(Call { replica, boot, op, caller, given_up: false });
    }

    pub fn is_cut(&self, call: &Call) -> bool {
        self.replicas[call.replica].cut[call.kind()]
    }

    pub fn land(&mut self, index: usize) {
        let call = self.calls.remove(index);
        self.note(|| format!("    carried out: {} of r{}", words::call(&call.op), call.replica));
        let api = match call.op {
            Op::Flush { .. } => &mut self.ledgers,
            _ => &mut self.objects,
        };
        let answer = api.execute(&call.op, self.time);
        let version = api.version;
        if answer.is_ok() && matches!(call.op, Op::Delete { .. }) {
            self.evicted(call.op.key());
        }
        if let (Caller::Door { instance, .. }, Ok(_)) = (&call.caller, &answer) {
            self.touch(*instance);
        }
        let one = &self.replicas[call.replica];
        if !call.given_up && one.up && one.boot == call.boot {
            self.answered(call, answer, version);
        }
    }

    pub fn give_up(&mut self, index: usize) {
        self.calls[index].given_up = true;
        let call = self.calls[index].clone();
        self.note(|| format!("    given up: {} of r{}", words::call(&call.op), call.replica));
        self.answered(call, Err(Fail::Away), 0);
    }

    /// A call was answered, and left the store at `version`.
    fn answered(&mut self, call: Call, answer: Answer, version: u64) {
        let replica = call.replica;
        let stored = if answer.is_err() { Err("away".into()) } else { Ok(version) };
        match call.caller {
            Caller::SelfBeat => self.tell(replica, [Fact::SelfBeatWritten { answer: stored }]),
            Caller::Flush(sequence) => {
                self.tell(replica, [Fact::LedgerWritten { sequence, answer: stored }]);
            }
            Caller::Duty { on, reason } => {
                let outcome = match (&answer, reason) {
                    (Ok(_), Some(_)) => Outcome::Evicted,
                    (Ok(_), None) => Outcome::Done,
                    (Err(Fail::Away), _) => Outcome::Failed,
                    (Err(_), _) => Outcome::Conflict,
                };
                let written = answer.ok().flatten();
                let written = written.map(|instance| Fact::Written {
                    instance,
                    by: Source::Annotation,
                    sent: Sent::default(),
                });
                let attempted = Fact::Attempted { key: on.key, uid: on.uid, outcome };
                self.tell(replica, written.into_iter().chain([attempted]));
            }
            Caller::Door { instance, arrived } => match answer {
                Ok(Some(stored)) => {
                    let written = Fact::Written {
                        instance: stored.clone(),
                        by: Source::Http,
                        sent: Sent::default(),
                    };
                    self.tell(replica, [written]);
                    self.note(|| format!("    {} is answered 200", name(instance)));
                    self.promise_stored(instance, Some(replica), arrived, &stored);
                }
                Err(Fail::Away) => {
                    let at = Moment(arrived + self.replicas[replica].offset);
                    let Some(slot) = self.slot(replica, instance) else { return };
                    let uid = slot.record().uid.clone();
                    self.touch(instance);
                    self.note(|| format!("    {} is answered 202", name(instance)));
                    self.tell(replica, [Fact::Beat { key: key(instance), uid, at }]);
                }
                _ => self.note(|| format!("    {} is refused", name(instance))),
            },
        }
    }
}
