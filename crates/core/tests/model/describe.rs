//! Text for the printed paths: calls and observed facts. Owns nothing else.

use rollcall_core::{fact::Fact, ledger::Ledger};

use crate::{api::ApiOperation, replica::CLOCK_DISTANCE};

/// Describes a call.
pub fn call(op: &ApiOperation) -> String {
    match op {
        ApiOperation::Beat { key, change, .. } => format!("beat {} of {}", change.value, key.name),
        ApiOperation::Status { on, desired } => {
            format!("status {} of {}", desired.phase, on.key.name)
        }
        ApiOperation::Flush { ledger, .. } => ledger_text(ledger),
        other => format!("{} of {}", other.name(), other.key().name),
    }
}

fn ledger_text(ledger: &Ledger) -> String {
    let beats: usize = ledger.segments.iter().map(|segment| segment.beats.len()).sum();
    let Ledger { replica, boot, sequence, index, ask, .. } = ledger;
    let ask = if *ask { ", asks" } else { "" };
    let stamp = ledger.stamp.0 % CLOCK_DISTANCE;
    format!(
        "ledger {sequence} of {replica}/{boot}, stamp {stamp}, index {index}, {beats} beats{ask}"
    )
}

/// Describes a fact that a watch reports.
pub fn fact(fact: &Fact) -> String {
    match fact {
        Fact::Upserted(instance) => {
            let phase = instance.stored.phase.map_or("no phase", |phase| phase.as_str());
            let beat = instance.heartbeat.as_deref().unwrap_or_default();
            let (name, version) = (&instance.key.name, instance.resource_version);
            format!("{name} in version {version}: {phase}, beat {beat}")
        }
        Fact::LedgerUpserted(ledger) => ledger_text(ledger),
        other => format!("{other:?}"),
    }
}
