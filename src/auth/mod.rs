//! Authentication and authorization of callers.
//!
//! Owns: the rights that a call needs, deciding whether a caller has them, and how long an answer of the API server is
//! valid. Does not own: the reviews (`kubernetes::review`), which call needs which rights and the texts of refusals
//! (`http`).
//!
//! A caller is the subject of a token for the audience `rollcall` (found by TokenReview, or with the cluster's keys),
//! and its rights are those that RBAC grants on `serviceinstances` (found by SubjectAccessReview). Rollcall has no
//! users of its own, and a single rule of its own: a pod may keep its own instance registered.

mod authorizer;
mod cache;
mod caller;
mod metrics;
mod own;
mod right;
#[cfg(test)]
pub mod testing;
mod token;

pub use authorizer::{Authorizer, Denial};
pub use caller::Caller;
pub use metrics::AuthMetrics;
pub use own::OwnerLookup;
pub use right::{RequiredRights, Right};
