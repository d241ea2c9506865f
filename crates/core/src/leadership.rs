//! Which replica writes: one leads, and for a bounded time only.
//!
//! Every replica judges; only the leader writes status, evicts and announces. Owns: what is known of that. Does not own: the
//! election, which reports it by [`Fact::Leadership`](super::fact::Fact::Leadership), and what begins and ends with a
//! tenure (`catalog`).

use std::sync::Arc;

use rollcall_model::{
    installation::Installation,
    lease::{Moment, Wall},
};

/// Who leads, as this replica knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The identity of the leader, if there is one.
    pub leader: Option<Arc<str>>,
    /// Tells the leader's process from another one of the same name, if that is known.
    pub boot: Option<Arc<str>>,
    /// Since when, as the leader itself has written it.
    pub since: Option<Wall>,
    /// Up to when this replica may write as the leader. In the past when it does not lead.
    pub tenure: Moment,
    /// The installation whose election it is; none while that is not known.
    pub installation: Option<Installation>,
}

impl Leadership {
    /// Whether this replica itself leads.
    #[must_use]
    pub fn is_own(&self, now: Moment) -> bool {
        now < self.tenure
    }
}
