//! Tests against a real etcd, kube-apiserver and kube-controller-manager, and the real executable.

mod support;

mod admission;
mod api_doc;
mod crds;
mod dev;
mod dns_wire;
mod faults;
mod http_connections;
mod http_errors;
mod lives;
