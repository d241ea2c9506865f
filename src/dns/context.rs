//! The input of an answer, apart from the view.
//!
//! Owns: the context of a query ([`QueryContext`]) and that of the queried name (`NameContext`). Does not own: the
//! records that follow from both (`service`, `member`).

use std::num::NonZeroUsize;

use hickory_proto::rr::{Name, RecordType};
use rollcall_model::lease::Moment;

use crate::config::EmptyAnswer;

/// The time of a query, and the random seeds for its client.
#[derive(Clone, Copy, Debug)]
pub struct QueryContext {
    /// The time of the answer, from which TTLs are counted.
    pub now: Moment,
    /// The seed for the order of the records.
    pub seed: u64,
    /// The seed for choosing instances when `--dns-max-answers` is set: constant for one client for a minute.
    pub choice: u64,
}

/// The input of an answer at a name of a service, apart from the view.
#[derive(Clone, Copy)]
pub(super) struct NameContext<'a> {
    /// The queried name, with the letter case of the query: the owner name of the answers (0x20).
    pub(super) owner: &'a Name,
    /// `<svc>.<ns>.svc.<zone>`; `None` when that is longer than a name can be.
    pub(super) base: Option<&'a Name>,
    pub(super) kind: RecordType,
    pub(super) query: QueryContext,
    /// The answer when no instance is discoverable (`--dns-empty`).
    pub(super) empty: EmptyAnswer,
    /// The maximum number of instances in an answer (`--dns-max-answers`).
    pub(super) ceiling: Option<NonZeroUsize>,
}
