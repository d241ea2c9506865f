//! P4 at the end of a run: every replica runs, the views agree with what is stored, and what is stored is correct.
//!
//! Owns: the checks after the last event. Does not own: the checks during the run (`promises`).

use std::collections::BTreeMap;

use rollcall_core::{conditions::ConditionInput, status};
use rollcall_model::{
    instance::{Instance, Phase},
    lease::OnExpiry,
};

use crate::{ZONE, world::World};

impl World {
    pub fn check_end(&mut self) {
        self.checker.stats.milliseconds = self.now;
        self.checker.stats.faults = self.faults.len() as u64;
        let mut revisions = BTreeMap::new();
        for replica in 0..self.replicas.len() - self.duplicates.len() {
            if !self.replicas[replica].up {
                return self.record_violation(None, format!("P4: r{replica} is not running"));
            }
            let restores =
                self.faults.iter().filter(|fault| fault.kind.is_restore()).count() as u64;
            let steps = self.replicas[replica].catalog.counts().step_backs;
            // A replica that starts during a restore may detect the same restore twice.
            if steps > 2 * restores {
                let what =
                    format!("P4: r{replica} detected {steps} steps back after {restores} restores");
                return self.record_violation(None, what);
            }
            let directory = self.replicas[replica].directory.clone();
            let views = directory.views_in(None);
            for view in &views {
                let before = revisions.entry(view.key.to_string()).or_insert(view.revision);
                if *before != view.revision {
                    let what = format!("P4: r{replica} publishes {} in another revision", view.key);
                    return self.record_violation(None, what);
                }
            }
            let mut published: Vec<_> =
                views.iter().flat_map(|view| view.members.iter().cloned()).collect();
            published.sort_by(|a, b| a.facts.key.cmp(&b.facts.key));
            let stored: Vec<_> = self.api.objects.values().cloned().collect();
            let keys = published.iter().map(|member| &member.facts.key);
            if !keys.eq(stored.iter().map(|stored| &stored.key)) {
                let what =
                    format!("P4: r{replica} publishes {} of {}", published.len(), stored.len());
                self.record_violation(None, what);
                return;
            }
            for (member, stored) in published.iter().zip(&stored) {
                self.check_stored(member.phase, stored);
            }
        }
    }

    fn check_stored(&mut self, published: Phase, stored: &Instance) {
        let client = self.client_of(&stored.key);
        // No client has a port, so no address is shared.
        let judged = ConditionInput { instance: stored, phase: published, shared: None };
        if !status::is_current(&judged) || !status::has_current_columns(stored, ZONE) {
            let what = format!("P4: published as {published}, stored as {:?}", stored.stored);
            self.record_violation(client, what);
        }
        if published == Phase::Expired && stored.lease.on_expiry == OnExpiry::Evict {
            self.record_violation(client, "P4: expired long ago, and never evicted".to_owned());
        }
    }
}
