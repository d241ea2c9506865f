//! Words for people: what is sent, and what is seen. Owns nothing else.

use rollcall_core::{fact::Fact, ledger::Ledger};

use crate::{api::Op, replica::APART};

/// A call, for people.
pub fn call(op: &Op) -> String {
    match op {
        Op::Beat { key, change, .. } => format!("beat {} of {}", change.value, key.name),
        Op::Status { on, desired } => format!("status {} of {}", desired.phase, on.key.name),
        Op::Flush { ledger, .. } => of_ledger(ledger),
        other => format!("{} of {}", other.name(), other.key().name),
    }
}

fn of_ledger(ledger: &Ledger) -> String {
    let beats: usize = ledger.segments.iter().map(|segment| segment.beats.len()).sum();
    let Ledger { replica, boot, sequence, index, ask, .. } = ledger;
    let ask = if *ask { ", asks" } else { "" };
    let stamp = ledger.stamp.0 % APART;
    format!(
        "ledger {sequence} of {replica}/{boot}, stamp {stamp}, index {index}, {beats} beats{ask}"
    )
}

/// A fact of a watch, for people.
pub fn seen(fact: &Fact) -> String {
    match fact {
        Fact::Upserted(instance) => {
            let phase = instance.stored.phase.map_or("no phase", |phase| phase.as_str());
            let beat = instance.heartbeat.as_deref().unwrap_or_default();
            let (name, version) = (&instance.key.name, instance.resource_version);
            format!("{name} in version {version}: {phase}, beat {beat}")
        }
        Fact::LedgerSeen(ledger) => of_ledger(ledger),
        other => format!("{other:?}"),
    }
}
