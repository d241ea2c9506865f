//! Tests against a real etcd, kube-apiserver and kube-controller-manager, and the real executable.

mod support;

mod admission;
mod crds;
mod dev;
mod faults;
mod lives;
