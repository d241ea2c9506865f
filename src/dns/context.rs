//! What an answer depends on beside the view.
//!
//! Owns: what a query brings with it ([`Moods`]), and what the name asked for adds to that (`Context`). Does not
//! own: the records that follow from both (`service`, `member`).

use std::num::NonZeroUsize;

use hickory_proto::rr::{Name, RecordType};
use rollcall_model::lease::Moment;

use crate::config::Empty;

/// When, and to whom: what an answer depends on beside the question.
#[derive(Clone, Copy, Debug)]
pub struct Moods {
    /// When.
    pub now: Moment,
    /// Decides the order.
    pub seed: u64,
    /// Decides who is chosen where there is a ceiling: the same for one client for a minute.
    pub choice: u64,
}

/// What the names of a service need to know beside the view.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    /// The name asked for, in the asker's case: it owns the answers (0x20).
    pub(super) owner: &'a Name,
    /// `<svc>.<ns>.svc.<zone>`; none when that is too long for a name.
    pub(super) base: Option<&'a Name>,
    /// The type asked for.
    pub(super) kind: RecordType,
    /// When, and to whom.
    pub(super) moods: Moods,
    /// What is answered where nobody is discoverable.
    pub(super) empty: Empty,
    /// How many instances an answer has at most.
    pub(super) ceiling: Option<NonZeroUsize>,
}
