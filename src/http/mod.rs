//! The HTTP door: requests to answers, as docs/api.md describes them.
//!
//! Owns: connections, routes, what bodies and query strings may say, the shape of every answer and
//! problem, and what is measured of them. Does not own: what a call does (`witness`), who is alive
//! and who is chosen (`registry`). Readers are answered from the directory, without waiting for
//! anybody; beats and registrations go through the inbox.
//!
//! A request goes `server` → `dispatch` → `route` → one of `instances`, `heartbeats`, `discover`,
//! `watch`, `services`, `cluster`, `page`, `contract`; what is wrong with it comes back as a `problem`. There is no framework
//! between hyper and the handlers: seventeen routes need no more than one `match`.

mod access;
mod access_log;
mod answer;
mod batch;
mod body;
mod budget;
mod changes;
mod clip;
mod cluster;
mod connection;
mod contract;
mod detail;
mod difference;
mod discover;
mod dispatch;
mod door;
mod encode;
mod events;
mod follow;
mod heartbeats;
mod holds;
mod instances;
mod json;
mod limits;
mod list;
mod metrics;
mod min_index;
mod news;
mod page;
mod percent;
mod phases;
mod preconditions;
mod problem;
mod query;
mod route;
mod rules;
mod served;
mod server;
mod services;
mod set;
mod snapshot;
mod stream;
mod time;
mod tls;
mod validate;
mod waiters;
mod watch;
mod why;

pub use contract::text as contract;
pub use door::Behind;
pub use metrics::HttpMetrics;
pub use served::Views;
pub use server::{HttpConfig, HttpError, HttpServer, bind};
pub use waiters::Waiters;
