//! Which services look different to readers since the last round: for whoever waits for that.
//!
//! Owns: the list of the services whose revision a round has changed, kept until the next round.
//! Does not own: who waits (`http`), and telling them (`engine`).

use crate::registry::{catalog::Catalog, instance::ServiceKey, view::Revision};

impl Catalog {
    /// The services whose revision the last [`Catalog::settle`] changed, among them those that came
    /// or went. Readers see their new views already. A beat changes none.
    #[must_use]
    pub fn take_revised(&mut self) -> Vec<ServiceKey> {
        std::mem::take(&mut self.revised)
    }

    /// A new round begins; what nobody took of the last is of no use any more.
    pub(super) fn forget_revised(&mut self) {
        self.revised.clear();
    }

    /// Publishes a service, and notes it if it looks different now.
    pub(super) fn publish_noting(&mut self, key: ServiceKey) {
        let before = self.published(&key);
        self.publish_service(key.clone());
        if self.published(&key) != before {
            self.revised.push(key);
        }
    }

    fn published(&self, key: &ServiceKey) -> Option<Revision> {
        self.directory.services.pin().get(key).map(|view| view.revision)
    }
}
