//! rollcall: a service registry for Kubernetes.
//!
//! Facts come in from the Kubernetes API and from the doors; one pure state machine
//! ([`registry`]) turns them into views, which the doors answer from, and duties, which are
//! carried out against the Kubernetes API.

pub mod clock;
pub mod dns;
pub mod registry;
