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

mod admission_policies;
mod api_doc;
mod apply;
mod authorization;
mod cli;
mod cluster_rights;
mod conditions;
mod crd_validation;
mod crds;
mod dev;
mod dns_tcp;
mod dns_wire;
mod election;
mod finalizers;
mod hostile;
mod http2;
mod http_connections;
mod http_errors;
mod http_watches;
mod https;
mod indexes;
mod install;
mod installations;
mod instance_fields;
mod kubectl_output;
mod kubernetes_unavailable;
mod labels;
mod lease_lifecycle;
mod network_faults;
mod observability;
mod partial_updates;
mod pod_tokens;
mod python_client;
mod rate_limits;
mod recorded;
mod registrations;
mod replicas;
mod resolvers;
mod served_documents;
mod shutdown;
mod stopping_instances;
mod token_keys;
#[cfg(feature = "otel")]
mod traces;
mod write_conflicts;
