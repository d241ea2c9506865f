//! The two watches of a replica: they report the changes in the server's log in order, and lists of what exists.
//! Owns: the positions in the log. Does not own: when the watches advance (`scene`).

use rollcall_core::fact::Fact;

use crate::{
    api::{Event, LedgerEvent},
    describe,
    world::World,
};

/// The resource of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    Instances,
    Ledgers,
}

pub const RESOURCES: [Resource; 2] = [Resource::Instances, Resource::Ledgers];

impl World {
    fn log_of(&self, resource: Resource) -> usize {
        match resource {
            Resource::Instances => self.objects.log.len(),
            Resource::Ledgers => self.ledgers.ledger_log.len(),
        }
    }

    /// Whether a watch has changes to deliver.
    pub fn is_behind(&self, replica: usize, resource: Resource) -> bool {
        let process = &self.replicas[replica];
        let log = self.log_of(resource);
        process.runs() && process.positions[resource as usize].is_none_or(|position| position < log)
    }

    /// Delivers the next change only.
    pub fn deliver(&mut self, replica: usize, resource: Resource) {
        if self.replicas[replica].positions[resource as usize].is_none() {
            return self.list(replica, resource);
        }
        let fact = self.next(replica, resource);
        self.apply_facts(replica, [fact]);
    }

    /// Delivers all changes at once.
    pub fn catch_up(&mut self, replica: usize, resource: Resource) {
        if self.replicas[replica].positions[resource as usize].is_none() {
            return self.list(replica, resource);
        }
        let mut facts = Vec::new();
        while self.is_behind(replica, resource) {
            facts.push(self.next(replica, resource));
        }
        self.apply_facts(replica, facts);
    }

    fn next(&mut self, replica: usize, resource: Resource) -> Fact {
        let position = self.replicas[replica].positions[resource as usize].as_mut().unwrap();
        let at = *position;
        *position += 1;
        let fact = match resource {
            Resource::Instances => match &self.objects.log[at] {
                Event::Upserted(instance) => Fact::Upserted(instance.clone()),
                Event::Removed { key, uid, index } => {
                    Fact::Removed { key: key.clone(), uid: uid.clone(), index: *index }
                }
            },
            Resource::Ledgers => match &self.ledgers.ledger_log[at] {
                LedgerEvent::Written(ledger) => Fact::LedgerUpserted(ledger.clone()),
                LedgerEvent::Deleted { replica, version } => {
                    Fact::LedgerRemoved { replica: replica.clone(), version: *version }
                }
            },
        };
        self.log(|| format!("    r{replica} observes {}", describe::fact(&fact)));
        fact
    }

    fn list(&mut self, replica: usize, resource: Resource) {
        self.replicas[replica].positions[resource as usize] = Some(self.log_of(resource));
        let first = !self.replicas[replica].directory.is_synced();
        let fact = match resource {
            Resource::Instances => {
                let instances = self.objects.objects.values().cloned().collect();
                Fact::Listed { instances, index: self.objects.version }
            }
            Resource::Ledgers => {
                Fact::LedgersListed(self.ledgers.ledgers.values().cloned().collect())
            }
        };
        self.log(|| format!("    r{replica} lists {resource:?}"));
        self.apply_facts(replica, [fact]);
        if first && resource == Resource::Instances {
            self.promise_after_first_list(replica);
        }
    }
}
