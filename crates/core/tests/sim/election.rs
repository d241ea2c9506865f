//! Who leads: a model of the election, with terms that end by themselves. Owns the terms; not what a
//! leader does.

use rollcall_core::{fact::Fact, leadership::Leadership};

use crate::{
    Time,
    world::{Event, World},
};

/// How long a term lasts from its last renewal, and how much of it the leader does not use.
const TERM: Time = 5_000;
const MARGIN: Time = 300;

#[derive(Debug, Default)]
pub struct Office {
    leader: Option<usize>,
    boot: u64,
    until: Time,
}

impl World {
    pub fn election(&mut self) {
        self.push_in(1_000, Event::Election);
        if self.alone || self.weather.refusing > 0 || self.weather.hanging > 0 {
            return;
        }
        let fit = |w: &Self, i: usize| {
            let one = &w.replicas[i];
            let yields = one.directory.report().yields;
            one.up && !yields && one.frozen == 0 && one.muted == 0 && w.weather.read_only == 0
        };
        let holder = self.office.leader.filter(|i| self.replicas[*i].boot == self.office.boot);
        let next = match holder {
            Some(leader) if fit(self, leader) => Some(leader),
            _ if self.now < self.office.until => None,
            _ => {
                let fit: Vec<_> = (0..self.replicas.len()).filter(|i| fit(self, *i)).collect();
                (!fit.is_empty()).then(|| fit[self.rng.usize(..fit.len())])
            }
        };
        let Some(leader) = next else { return };
        if self.office.leader != next {
            self.note(None, || format!("r{leader}: leads"));
        }
        self.office =
            Office { leader: next, boot: self.replicas[leader].boot, until: self.now + TERM };
        let tenure = self.replicas[leader].now(self.now + TERM - MARGIN, self.sabotage).moment;
        let name = Some(self.replicas[leader].own.name.clone());
        self.replicas[leader].tenure = tenure;
        self.tell(
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
