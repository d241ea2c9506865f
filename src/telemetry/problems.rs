//! What somebody has to mend before this replica works as it should: found by the preflight, shown by
//! `/readyz` and `/v1/cluster`. Does not own: looking (`cluster::preflight`).

use std::sync::Arc;

use arc_swap::ArcSwap;

/// What is missing, each with what to do about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// Without these there is nothing to answer from.
    pub blocking: Vec<String>,
    /// Without these it works, but not as it should.
    pub limiting: Vec<String>,
}

/// The newest, for whoever shows them. Clones share it.
pub type Shared = Arc<ArcSwap<Problems>>;

impl Problems {
    /// All of them, the worst first.
    pub fn all(&self) -> impl Iterator<Item = &String> {
        self.blocking.iter().chain(&self.limiting)
    }
}
