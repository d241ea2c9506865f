//! Conditions of a status, as Kubernetes defines them (`metav1.Condition`).
//!
//! Owns: their stored form. Does not own: which conditions an instance should have (`rollcall-core`).

use std::sync::Arc;

pub use crate::vocabulary::ConditionType;

/// One stored condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The type: a value of [`ConditionType`], or a type of another controller.
    pub type_: Arc<str>,
    /// `True`, `False` or `Unknown`.
    pub status: Arc<str>,
    /// The reason, in one word.
    pub reason: Arc<str>,
    /// The reason, in a sentence.
    pub message: Arc<str>,
    /// When the status last changed (RFC 3339).
    pub transition: Arc<str>,
    /// The `metadata.generation` that the condition is based on.
    pub observed_generation: Option<i64>,
}

/// The condition of this type, if there is one.
#[must_use]
pub fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| &*condition.type_ == kind.as_str())
}
