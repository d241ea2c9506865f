//! Who is calling, and may they.
//!
//! Owns: reading a bearer token, what a call needs, and for how long an answer of the API server is
//! good. Does not own: asking it (`cluster::review`), which call needs what and the words of a
//! refusal (`http`).
//!
//! A caller is who a token of the audience `rollcall` belongs to (TokenReview, or the cluster's keys); what
//! they may do is what RBAC lets them do with `serviceinstances` (SubjectAccessReview): rollcall has no users, and one
//! rule of its own, that a pod keeps its own instance.

mod caller;
mod gate;
mod memory;
mod metrics;
mod own;
mod right;
#[cfg(test)]
pub mod testing;
mod token;

pub use caller::Caller;
pub use gate::{Denial, Gate};
pub use metrics::AuthMetrics;
pub use own::Owners;
pub use right::{Right, Wanted};
