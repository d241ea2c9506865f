//! The two watches of a replica: what the server's log says, in order, and lists of what is there now. Owns
//! the positions; not when they move (`scene`).

use rollcall_core::fact::Fact;

use crate::{
    api::{Event, LedgerEvent},
    words,
    world::World,
};

/// Which of the two watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feed {
    Instances,
    Ledgers,
}

pub const FEEDS: [Feed; 2] = [Feed::Instances, Feed::Ledgers];

impl World {
    fn log_of(&self, feed: Feed) -> usize {
        match feed {
            Feed::Instances => self.objects.log.len(),
            Feed::Ledgers => self.ledgers.ledger_log.len(),
        }
    }

    /// Whether a watch has something to tell.
    pub fn is_behind(&self, replica: usize, feed: Feed) -> bool {
        let one = &self.replicas[replica];
        let log = self.log_of(feed);
        one.runs() && one.positions[feed as usize].is_none_or(|position| position < log)
    }

    /// The next thing, alone.
    pub fn deliver(&mut self, replica: usize, feed: Feed) {
        if self.replicas[replica].positions[feed as usize].is_none() {
            return self.list(replica, feed);
        }
        let fact = self.next(replica, feed);
        self.tell(replica, [fact]);
    }

    /// All that there is, together.
    pub fn catch_up(&mut self, replica: usize, feed: Feed) {
        if self.replicas[replica].positions[feed as usize].is_none() {
            return self.list(replica, feed);
        }
        let mut facts = Vec::new();
        while self.is_behind(replica, feed) {
            facts.push(self.next(replica, feed));
        }
        self.tell(replica, facts);
    }

    fn next(&mut self, replica: usize, feed: Feed) -> Fact {
        let position = self.replicas[replica].positions[feed as usize].as_mut().unwrap();
        let at = *position;
        *position += 1;
        let fact = match feed {
            Feed::Instances => match &self.objects.log[at] {
                Event::Upserted(instance) => Fact::Upserted(instance.clone()),
                Event::Removed { key, uid, index } => {
                    Fact::Removed { key: key.clone(), uid: uid.clone(), index: *index }
                }
            },
            Feed::Ledgers => match &self.ledgers.ledger_log[at] {
                LedgerEvent::Written(ledger) => Fact::LedgerSeen(ledger.clone()),
                LedgerEvent::Deleted { replica, version } => {
                    Fact::LedgerGone { replica: replica.clone(), version: *version }
                }
            },
        };
        self.note(|| format!("    r{replica} sees {}", words::seen(&fact)));
        fact
    }

    fn list(&mut self, replica: usize, feed: Feed) {
        self.replicas[replica].positions[feed as usize] = Some(self.log_of(feed));
        let first = !self.replicas[replica].directory.is_synced();
        let fact = match feed {
            Feed::Instances => {
                let instances = self.objects.objects.values().cloned().collect();
                Fact::Listed { instances, index: self.objects.version }
            }
            Feed::Ledgers => Fact::LedgersListed(self.ledgers.ledgers.values().cloned().collect()),
        };
        self.note(|| format!("    r{replica} lists {feed:?}"));
        self.tell(replica, [fact]);
        if first && feed == Feed::Instances {
            self.promise_newcomer(replica);
        }
    }
}
