//! The flags of the programs of the control plane, each with its reason.
//!
//! File names in them are relative to the state folder, which is their working folder.

use super::credentials::{PUBLIC_KEY, SIGNING_KEY, TOKENS_FILE};

/// What makes namespaces deletable, owners' dependents collected, and `default` ServiceAccounts.
const CONTROLLERS: &str =
    "namespace-controller,garbage-collector-controller,serviceaccount-controller";

/// On unix sockets, so that there is no port to choose. etcd wants `host:port` there: the socket's
/// file in the working folder is `etcd:0`. Without fsync: the state of a try-out may go with a power cut.
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

/// With `--cert-dir` and no certificate it signs its own; users come from a file of tokens. The
/// advertised address is given since there may be no network to guess it from.
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

/// Without an election: there is only one.
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
