//! Conditions of a status, as Kubernetes has them (`metav1.Condition`).
//!
//! Owns: their shape as they are stored. Does not own: which conditions an instance should have (`rollcall-core`).

use std::sync::Arc;

pub use crate::vocabulary::ConditionType;

/// One condition, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What it is about: a word of [`ConditionType`], or another controller's.
    pub type_: Arc<str>,
    /// `True`, `False` or `Unknown`.
    pub status: Arc<str>,
    /// Why, in one word.
    pub reason: Arc<str>,
    /// Why, in a sentence.
    pub message: Arc<str>,
    /// When the status last changed (RFC 3339).
    pub transition: Arc<str>,
    /// `metadata.generation` that it was decided on.
    pub observed_generation: Option<i64>,
}

/// The condition of this type, if it is among these.
#[must_use]
pub fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| &*condition.type_ == kind.as_str())
}
