//! To be seen: metrics, logs and the admin port. A leaf: it knows nobody else.

pub mod admin;
pub mod logs;
pub mod metrics;
