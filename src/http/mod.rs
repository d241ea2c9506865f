//! The HTTP server: requests to answers, as docs/api.md describes them.
//!
//! Owns: connections, routes, what bodies and query strings may say, the shape of every answer and
//! problem, and what is measured of them. Does not own: what a call does (`witness`), which instances are live
//! and which are chosen (`rollcall-core`, `rollcall-model`). Readers are answered from the directory, without waiting;
//! heartbeats and registrations go through the intake.
//!
//! A request goes `server` → `connection` → `hot`, which answers most heartbeats and discoveries from memory → `router`,
//! which is axum: the layer `observe`, the middleware `admission`, extractors (`context`, `query`, `preconditions`, `body`),
//! and one of the handlers that `table` names. Whatever is wrong with it comes back as a `problem`.

mod accept;
mod access;
mod admin;
mod admission;
mod answer;
mod app;
mod batch;
mod body;
mod budget;
mod changes;
mod clip;
mod cluster;
mod connection;
mod context;
mod contract;
mod detail;
mod difference;
mod discover;
mod document;
mod encode;
mod events;
mod follow;
mod headers;
mod heartbeats;
mod holds;
mod hot;
mod instances;
mod json;
mod limits;
mod list;
mod metrics;
mod min_index;
mod news;
mod observe;
mod operation;
mod page;
mod panics;
mod percent;
mod phases;
mod preconditions;
mod problem;
mod query;
mod route;
mod router;
mod rules;
mod served;
mod server;
mod services;
mod set;
mod snapshot;
mod stream;
mod table;
#[cfg(test)]
mod testing;
mod time;
mod tls;
mod validate;
mod waiters;
mod watch;
mod why;
mod write_log;

pub use admin::{Admin, AdminError};
pub use app::AppParts;
pub use metrics::HttpMetrics;
pub use served::Views;
pub use server::{HttpConfig, HttpError, HttpServer, bind};
pub use table::document as contract;
pub use waiters::Waiters;
