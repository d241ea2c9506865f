//! To be seen: metrics, logs and the admin port. A leaf: it knows nobody else.

pub mod admin;
pub mod beats;
mod classic;
pub mod keys;
pub mod level;
pub mod logs;
pub mod metrics;
mod port;
pub mod problems;
mod process;
mod scrape;
