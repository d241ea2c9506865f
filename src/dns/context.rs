//! What an answer depends on, apart from the view.
//!
//! Owns: the context of a query ([`QueryContext`]) and that of the queried name (`NameContext`). Does not own: the
//! records that follow from both (`service`, `member`).

use std::num::NonZeroUsize;

use hickory_proto::rr::{Name, RecordType};
use rollcall_model::lease::Moment;

use crate::config::EmptyAnswer;

/// When a query is answered, and for which client.
#[derive(Clone, Copy, Debug)]
pub struct QueryContext {
    /// The moment of the answer, from which TTLs count.
    pub now: Moment,
    /// Seed of the order of the records.
    pub seed: u64,
    /// Seed of the choice of instances where `--dns-max-answers` is set: constant for one client for a minute.
    pub choice: u64,
}

/// What the answer at a name of a service depends on, apart from the view.
#[derive(Clone, Copy)]
pub(super) struct NameContext<'a> {
    /// The queried name in the case of the query: the owner of the answers (0x20).
    pub(super) owner: &'a Name,
    /// `<svc>.<ns>.svc.<zone>`; none when that is longer than a name can be.
    pub(super) base: Option<&'a Name>,
    pub(super) kind: RecordType,
    pub(super) query: QueryContext,
    /// The answer when no instance is discoverable (`--dns-empty`).
    pub(super) empty: EmptyAnswer,
    /// The most instances in an answer (`--dns-max-answers`).
    pub(super) ceiling: Option<NonZeroUsize>,
}
