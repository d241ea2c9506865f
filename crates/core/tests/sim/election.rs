//! A model of the leader election, with terms that end by themselves. Owns: the terms. Does not own: what a
//! leader does.

use rollcall_core::{fact::Fact, leadership::Leadership};

use crate::{
    Time,
    world::{Event, World},
};

/// The length of a term from its last renewal, and the part at its end that the leader does not use.
const TERM_LENGTH: Time = 5_000;
const MARGIN: Time = 300;

#[derive(Debug, Default)]
pub struct Term {
    leader: Option<usize>,
    boot: u64,
    until: Time,
}

impl World {
    pub fn election(&mut self) {
        self.push_in(1_000, Event::Election);
        if self.single_replica || self.api_faults.refusing > 0 || self.api_faults.hanging > 0 {
            return;
        }
        let eligible = |w: &Self, i: usize| {
            let process = &w.replicas[i];
            let yields = process.directory.report().yields;
            process.up
                && !yields
                && process.frozen == 0
                && process.cut_off == 0
                && w.api_faults.read_only == 0
        };
        let holder = self.term.leader.filter(|i| self.replicas[*i].boot == self.term.boot);
        let next = match holder {
            Some(leader) if eligible(self, leader) => Some(leader),
            _ if self.now < self.term.until => None,
            _ => {
                let eligible: Vec<_> =
                    (0..self.replicas.len()).filter(|i| eligible(self, *i)).collect();
                (!eligible.is_empty()).then(|| eligible[self.rng.usize(..eligible.len())])
            }
        };
        let Some(leader) = next else { return };
        if self.term.leader != next {
            self.log(None, || format!("r{leader}: leads"));
        }
        self.term =
            Term { leader: next, boot: self.replicas[leader].boot, until: self.now + TERM_LENGTH };
        let tenure =
            self.replicas[leader].now(self.now + TERM_LENGTH - MARGIN, self.mutation).moment;
        let name = Some(self.replicas[leader].own.name.clone());
        self.replicas[leader].tenure = tenure;
        self.send_fact(
            leader,
            Fact::Leadership(Leadership {
                leader: name,
                since: None,
                tenure,
                ..Leadership::default()
            }),
            None,
        );
    }
}
