//! Which services look different to readers since the last round: for whoever waits for that.
//!
//! Owns: the list of the services whose revision a round has changed, kept until the next round.
//! Does not own: who waits (`http`), and telling them (`engine`).

use crate::{catalog::Catalog, instance::ServiceKey};

impl Catalog {
    /// The services whose revision the last [`Catalog::settle`] changed, among them those that came
    /// or went. Readers see their new views already. A beat changes none.
    #[must_use]
    pub fn take_revised(&mut self) -> Vec<ServiceKey> {
        std::mem::take(&mut self.revised).into_iter().collect()
    }

    /// A new round begins; what nobody took of the last is of no use any more.
    pub(super) fn forget_revised(&mut self) {
        self.revised.clear();
    }
}
