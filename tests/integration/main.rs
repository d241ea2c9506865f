//! Tests against a real etcd, kube-apiserver and kube-controller-manager, and the real executable.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::needless_pass_by_value,
    unreachable_pub,
    reason = "a test fails by panicking, and says how long a real thing took"
)]

mod support;

mod admission;
mod api_doc;
mod apply;
mod changes;
mod cli;
mod conditions;
mod crds;
mod dev;
mod dns_tcp;
mod dns_wire;
mod election;
mod faults;
mod fields;
mod hostile;
mod http2;
mod http_connections;
mod http_errors;
mod http_live;
mod https;
mod incarnations;
mod indexes;
mod install;
mod installations;
mod keys;
mod labels;
mod leaving;
mod listeners;
mod lives;
mod page;
mod people;
mod pods;
mod policies;
mod python;
mod rates;
mod recorded;
mod registrations;
mod replicas;
mod resolvers;
mod rights;
mod seen;
mod stopping;
mod terminating;
#[cfg(feature = "otel")]
mod traces;
mod unavailable;
