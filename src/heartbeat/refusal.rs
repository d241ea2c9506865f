//! Why a call on an instance is refused.

use std::{sync::Arc, time::Duration};

use rollcall_core::{conditions, directory::RecentEviction};
use rollcall_model::instance::Instance;

use crate::kubernetes::failure::Failure;

pub use crate::kubernetes::failure::Fault;

/// The `Retry-After` while the Kubernetes API does not answer.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The API server's own `Retry-After` is passed on up to this bound.
const LONGEST: Duration = Duration::from_secs(60);

/// Why a call is refused.
#[derive(Debug)]
pub enum Refusal {
    /// The API server has no such instance.
    Unknown,
    /// This replica serves only this one namespace, which is not that of the call.
    NotCovered(Arc<str>),
    /// The namespace does not exist, or is being deleted.
    NamespaceMissing,
    /// The instance was evicted recently.
    Gone(RecentEviction),
    /// The object is being deleted. The text names the finalizers that keep it, and what to do.
    Terminating(String),
    /// The object has another uid than the call requires: this one.
    OtherUid(Arc<str>),
    /// The object has another resourceVersion than the call requires: this one.
    OtherVersion(u64),
    /// The API server refuses these fields.
    Invalid(Vec<Fault>),
    /// The API server refuses for another reason.
    Refused {
        /// HTTP status.
        status: u16,
        /// The API server's message.
        message: String,
    },
    /// The definitions of rollcall's types are not installed.
    Unserved,
    /// Rollcall itself lacks a right in Kubernetes; the API server's message.
    Incapable(String),
    /// The API server does not answer in time, or limits its load.
    Unavailable {
        /// Whether it limits its load (429).
        is_busy: bool,
        /// How long to wait before the next try.
        retry_after: Duration,
    },
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        if failure.is_missing_own_right() {
            return Self::Incapable(failure.to_string());
        }
        match failure {
            // The intake never writes as the leader, so `NotLeading` does not occur.
            Failure::Unavailable(_) | Failure::NotLeading => Self::overwhelmed(),
            Failure::Unserved => Self::Unserved,
            Failure::Busy { retry_after, .. } => {
                let retry_after = retry_after.unwrap_or(RETRY_AFTER).min(LONGEST);
                Self::Unavailable { is_busy: true, retry_after }
            }
            Failure::NotFound(_) => Self::Unknown,
            Failure::NoNamespace(_) => Self::NamespaceMissing,
            Failure::Conflict(message) => Self::Refused { status: 409, message },
            Failure::Invalid { message, faults } if faults.is_empty() => {
                Self::Refused { status: 422, message }
            }
            Failure::Invalid { faults, .. } => Self::Invalid(faults),
            Failure::Refused { code, message } => Self::Refused { status: code, message },
            Failure::Unreadable(message) => Self::Refused { status: 502, message },
        }
    }
}

impl Refusal {
    pub(super) fn contended() -> Self {
        let message =
            "the instance changes faster than this call can be stored; try again".to_owned();
        Self::Refused { status: 409, message }
    }

    /// Refuses calls that would keep an instance whose object is being deleted.
    ///
    /// # Errors
    /// [`Refusal::Terminating`].
    pub(super) fn unless_terminating(record: &Instance) -> Result<(), Self> {
        if record.is_terminating() {
            return Err(Self::Terminating(conditions::terminating(record)));
        }
        Ok(())
    }

    /// The API server does not answer, or the engine does not process facts in time: the process is ending or overloaded.
    pub(super) fn overwhelmed() -> Self {
        Self::Unavailable { is_busy: false, retry_after: RETRY_AFTER }
    }
}
