//! Why a call on an instance cannot be answered as asked.

use std::{sync::Arc, time::Duration};

use rollcall_core::{conditions, directory::RecentEviction};
use rollcall_model::instance::Instance;

use crate::kubernetes::failure::Failure;

pub use crate::kubernetes::failure::Fault;

/// When to ask again while the Kubernetes API is away.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The longest that the API server's own word for it is passed on.
const LONGEST: Duration = Duration::from_secs(60);

/// Why not.
#[derive(Debug)]
pub enum Refusal {
    /// No such instance; the API server was asked.
    Unknown,
    /// This replica looks after another namespace, and no other: this one.
    NotCovered(Arc<str>),
    /// No such namespace, or it is being deleted.
    NamespaceMissing,
    /// Evicted lately.
    Gone(RecentEviction),
    /// Its object is being deleted; what holds it, and what to do.
    Terminating(String),
    /// Another incarnation bears the name; its uid.
    OtherUid(Arc<str>),
    /// It has changed since; its resourceVersion.
    OtherVersion(u64),
    /// The API server refuses these fields.
    Invalid(Vec<Fault>),
    /// The API server refuses for another reason.
    Refused {
        /// HTTP status.
        status: u16,
        /// Its sentence.
        message: String,
    },
    /// The definitions of rollcall's types are not installed.
    Unserved,
    /// Rollcall itself lacks a right in Kubernetes; the API server's sentence.
    Incapable(String),
    /// The API server is away or too slow, or says that it takes no more now.
    Away {
        /// The latter.
        is_busy: bool,
        /// When to ask again.
        retry_after: Duration,
    },
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        if failure.is_own_right() {
            return Self::Incapable(failure.to_string());
        }
        match failure {
            // No door writes as the leader.
            Failure::Away(_) | Failure::NotLeading => Self::overwhelmed(),
            Failure::Unserved => Self::Unserved,
            Failure::Busy { retry_after, .. } => {
                let retry_after = retry_after.unwrap_or(RETRY_AFTER).min(LONGEST);
                Self::Away { is_busy: true, retry_after }
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
    /// Refuses what would keep an instance whose object is being deleted.
    ///
    /// # Errors
    /// [`Refusal::Terminating`].
    pub(super) fn unless_terminating(record: &Instance) -> Result<(), Self> {
        if record.is_terminating() {
            return Err(Self::Terminating(conditions::terminating(record)));
        }
        Ok(())
    }

    /// The API server does not answer; or the engine takes no facts in: the process is ending or overwhelmed.
    pub(super) fn overwhelmed() -> Self {
        Self::Away { is_busy: false, retry_after: RETRY_AFTER }
    }
}
