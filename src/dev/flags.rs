//! The flags of etcd, kube-apiserver and kube-controller-manager.
//!
//! Owns: the flags, with the reasons for them. File names are relative to the state directory, which is the working
//! directory of all three.

use super::credentials::{PUBLIC_KEY, SIGNING_KEY, TOKENS_FILE};

/// The controllers that delete namespaces, collect dependents of deleted owners, and create `default` ServiceAccounts.
const CONTROLLERS: &str =
    "namespace-controller,garbage-collector-controller,serviceaccount-controller";

/// etcd listens on unix sockets, so that no port has to be chosen. It requires the form `host:port`, so the socket is
/// the file `etcd:0` in the working directory. fsync is off, because after a power failure only the state of a trial is
/// lost.
pub(super) const fn etcd_args() -> [&'static str; 11] {
    [
        "--data-dir",
        "etcd",
        "--unsafe-no-fsync",
        "--listen-peer-urls",
        "unix://peer:0",
        "--listen-client-urls",
        "unix://etcd:0",
        "--advertise-client-urls",
        "unix://etcd:0",
        "--log-level",
        "warn",
    ]
}

/// With `--cert-dir` and without a certificate, kube-apiserver signs its own. Users come from a token file. The
/// advertised address is explicit, because a machine without a network has none to detect.
pub(super) const fn apiserver_args(port: &str) -> [&str; 22] {
    [
        "--etcd-servers",
        "unix://etcd:0",
        "--bind-address",
        "127.0.0.1",
        "--advertise-address",
        "127.0.0.1",
        "--secure-port",
        port,
        "--cert-dir",
        "pki",
        "--authorization-mode",
        "RBAC",
        "--token-auth-file",
        TOKENS_FILE,
        "--endpoint-reconciler-type",
        "none",
        "--service-account-issuer",
        "https://kubernetes.default.svc",
        "--service-account-key-file",
        PUBLIC_KEY,
        "--service-account-signing-key-file",
        SIGNING_KEY,
    ]
}

/// Leader election is off, because there is only one controller manager.
pub(super) const fn controller_manager_args() -> [&'static str; 7] {
    [
        "--kubeconfig",
        "kubeconfig",
        "--leader-elect=false",
        "--secure-port",
        "0",
        "--controllers",
        CONTROLLERS,
    ]
}
