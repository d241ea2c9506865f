//! The HTTP server, as docs/api.md describes it.
//!
//! Owns: connections, routes, the validation of bodies and query strings, the format of responses and problems, and the
//! metrics of requests. Does not own: what an operation does (`heartbeat`), which instances are live and which are
//! selected (`rollcall-core`, `rollcall-model`). Reads are answered from the directory without waiting; heartbeats and
//! registrations go through the intake.
//!
//! A request passes `server` → `connection` → `hot`, which answers most heartbeats and discoveries from memory →
//! `router`, which is axum: the layer `observe`, the middleware `admission`, extractors (`context`, `query`,
//! `preconditions`, `body`), and one of the handlers in `table`. Errors are returned as a `problem`.

mod accept;
mod access;
mod admin;
mod admission;
mod answer;
mod app;
mod batch;
mod body;
mod budget;
mod change_feed;
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
mod encoded_views;
mod events;
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
mod server;
mod services;
mod set;
mod shared_events;
mod snapshot;
mod stream;
mod subscribers;
mod table;
#[cfg(test)]
mod testing;
mod time;
mod tls;
mod validate;
mod watch;
mod why;
mod write_log;

pub use admin::{Admin, AdminError};
pub use app::AppParts;
pub use encoded_views::Views;
pub use metrics::HttpMetrics;
pub use server::{HttpConfig, HttpError, HttpServer, bind};
pub use subscribers::Subscribers;
pub use table::document as contract;
