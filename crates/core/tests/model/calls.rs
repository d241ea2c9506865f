//! Calls to the API server: what a replica sends, when it is executed, and what the response leads to, as in
//! the engine, the controller and the HTTP server. Does not own: which calls can be delayed (`scene`).

use std::sync::Arc;

use rollcall_core::{
    codec,
    fact::{Duty, Fact, SelfBeat, StorePosition, Version, WriteOutcome},
    ledger::Ledger,
    slot::Source,
};
use rollcall_model::lease::Moment;

use crate::{
    Time,
    api::{ApiError, ApiOperation, ApiResponse, HeartbeatChange},
    describe,
    world::{World, key, name},
};

/// The caller that waits for a response.
#[derive(Clone, Debug)]
pub enum Caller {
    SelfBeat,
    Flush(u64),
    Duty { on: Version, reason: Option<Arc<str>> },
    HttpServer { instance: usize, arrived: Time },
}

/// A call to the API server that has not been executed.
#[derive(Clone, Debug)]
pub struct Call {
    pub replica: usize,
    boot: u64,
    op: ApiOperation,
    caller: Caller,
    pub timed_out: bool,
}

impl Call {
    pub fn is_ledger(&self) -> bool {
        matches!(self.caller, Caller::Flush(_))
    }

    /// The kind of the call: a self-beat, a ledger, or a write of the leader or the HTTP server.
    pub fn kind(&self) -> usize {
        match self.caller {
            Caller::SelfBeat => 0,
            Caller::Flush(_) => 1,
            Caller::Duty { .. } | Caller::HttpServer { .. } => 2,
        }
    }
}

/// The ledger as another replica decodes it.
fn encode_and_decode(ledger: Ledger) -> Ledger {
    let segments = codec::decode(&codec::encode(&ledger.segments)).unwrap();
    Ledger { segments, ..ledger }
}

impl World {
    /// Starts the call of a duty.
    pub fn start_duty(&mut self, replica: usize, duty: Duty) {
        let own = self.replicas[replica].own.clone();
        let (op, caller) = match duty {
            Duty::SelfBeat(SelfBeat { value, .. }) => {
                let change = HeartbeatChange { value: value.into(), health: None, duration: None };
                (ApiOperation::Beat { key: own, uid: None, change }, Caller::SelfBeat)
            }
            Duty::WriteLedger(ledger) => {
                let sequence = ledger.sequence;
                // A later ledger reports the heartbeats from now on.
                self.replicas[replica].heartbeat_taken = Default::default();
                let ledger = Arc::new(encode_and_decode(ledger));
                (ApiOperation::Flush { key: own, ledger }, Caller::Flush(sequence))
            }
            Duty::WriteStatus { on, desired, .. } => (
                ApiOperation::Status { on: on.clone(), desired },
                Caller::Duty { on, reason: None },
            ),
            Duty::Evict { on, reason } => {
                let (key, uid, version) = (on.key.clone(), on.uid.clone(), on.resource_version);
                let op = ApiOperation::Delete {
                    key,
                    uid: Some(uid),
                    version: Some(version),
                    evicts: true,
                };
                (op, Caller::Duty { on, reason: Some(reason) })
            }
            // A checkpoint is only for users and is not a heartbeat, so it changes nothing here.
            Duty::Checkpoint { on, .. } => {
                let (key, uid) = (on.key, on.uid);
                let fact = Fact::Attempted { key, uid, outcome: WriteOutcome::Done };
                let now = self.now(replica);
                return self.replicas[replica].catalog.apply(fact, now);
            }
            // No store steps back here.
            Duty::Relist | Duty::Announce { .. } | Duty::DeleteLedger { .. } => return,
        };
        self.call(replica, op, caller);
    }

    pub fn call(&mut self, replica: usize, op: ApiOperation, caller: Caller) {
        self.log(|| format!("    r{replica} sends {}", describe::call(&op)));
        let boot = self.replicas[replica].boot;
        self.calls.push(Call { replica, boot, op, caller, timed_out: false });
    }

    pub fn fails(&self, call: &Call) -> bool {
        self.replicas[call.replica].failing_calls[call.kind()]
    }

    pub fn execute_call(&mut self, index: usize) {
        let call = self.calls.remove(index);
        self.log(|| format!("    executed: {} of r{}", describe::call(&call.op), call.replica));
        let api = match call.op {
            ApiOperation::Flush { .. } => &mut self.ledgers,
            _ => &mut self.objects,
        };
        let answer = api.execute(&call.op, self.time);
        let version = api.version;
        if answer.is_ok() && matches!(call.op, ApiOperation::Delete { .. }) {
            self.evicted(call.op.key());
        }
        if let (Caller::HttpServer { instance, .. }, Ok(_)) = (&call.caller, &answer) {
            self.record_possible_heartbeat(*instance);
        }
        let process = &self.replicas[call.replica];
        if !call.timed_out && process.up && process.boot == call.boot {
            self.answered(call, answer, version);
        }
    }

    pub fn time_out(&mut self, index: usize) {
        self.calls[index].timed_out = true;
        let call = self.calls[index].clone();
        self.log(|| format!("    timed out: {} of r{}", describe::call(&call.op), call.replica));
        self.answered(call, Err(ApiError::Unavailable), 0);
    }

    /// A call was answered, with the store at `version` then.
    fn answered(&mut self, call: Call, answer: ApiResponse, version: u64) {
        let replica = call.replica;
        let stored = if answer.is_err() { Err("away".into()) } else { Ok(version) };
        match call.caller {
            Caller::SelfBeat => {
                self.apply_facts(replica, [Fact::SelfBeatWritten { answer: stored }]);
            }
            Caller::Flush(sequence) => {
                self.apply_facts(replica, [Fact::LedgerWritten { sequence, answer: stored }]);
            }
            Caller::Duty { on, reason } => {
                let outcome = match (&answer, reason) {
                    (Ok(_), Some(_)) => WriteOutcome::Evicted,
                    (Ok(_), None) => WriteOutcome::Done,
                    (Err(ApiError::Unavailable), _) => WriteOutcome::Failed,
                    (Err(_), _) => WriteOutcome::Conflict,
                };
                let written = answer.ok().flatten();
                let written = written.map(|instance| Fact::Written {
                    instance,
                    by: Source::Annotation,
                    sent: StorePosition::default(),
                });
                let attempted = Fact::Attempted { key: on.key, uid: on.uid, outcome };
                self.apply_facts(replica, written.into_iter().chain([attempted]));
            }
            Caller::HttpServer { instance, arrived } => match answer {
                Ok(Some(stored)) => {
                    let written = Fact::Written {
                        instance: stored.clone(),
                        by: Source::Http,
                        sent: StorePosition::default(),
                    };
                    self.apply_facts(replica, [written]);
                    self.log(|| format!("    {} is answered 200", name(instance)));
                    self.promise_stored(instance, Some(replica), arrived, &stored);
                }
                Err(ApiError::Unavailable) => {
                    let at = Moment(arrived + self.replicas[replica].offset);
                    let Some(slot) = self.slot(replica, instance) else { return };
                    let uid = slot.record().uid.clone();
                    self.record_possible_heartbeat(instance);
                    self.log(|| format!("    {} is answered 202", name(instance)));
                    self.apply_facts(replica, [Fact::RecordedHere { key: key(instance), uid, at }]);
                }
                _ => self.log(|| format!("    {} is refused", name(instance))),
            },
        }
    }
}
