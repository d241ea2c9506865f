//! Leadership: which replica leads. One replica leads at a time, for a bounded time.
//!
//! Every replica judges leases; only the leader writes statuses, evicts and announces. Owns: what this
//! replica knows about the leadership. Does not own: the election, which reports it with
//! [`Fact::Leadership`](super::fact::Fact::Leadership), and what begins and ends with a tenure
//! (`catalog`).

use std::sync::Arc;

use rollcall_model::{
    installation::Installation,
    lease::{Moment, Wall},
};

/// The leadership as this replica knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The identity of the leader, if there is one.
    pub leader: Option<Arc<str>>,
    /// Distinguishes the leader's process from another one of the same name, if it is known.
    pub boot: Option<Arc<str>>,
    /// Since when it leads, as the leader itself wrote it.
    pub since: Option<Wall>,
    /// Until when this replica may write as the leader; a moment in the past if it does not lead.
    pub tenure: Moment,
    /// The installation that the election belongs to, once it is known.
    pub installation: Option<Installation>,
}

impl Leadership {
    #[must_use]
    pub fn is_own(&self, now: Moment) -> bool {
        now < self.tenure
    }
}
