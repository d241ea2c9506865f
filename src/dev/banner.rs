//! The text that `rollcall dev` prints once everything is ready.

use super::args::DevArgs;
use super::control_plane::ControlPlane;
use super::replicas::{self, Replica};
use super::state_dir::StateDir;

/// Lists the addresses and files, warns about missing authentication, and gives commands to try.
pub(super) fn banner(
    control_plane: &ControlPlane,
    replicas: &[Replica],
    options: &DevArgs,
    state: &StateDir,
) -> String {
    let mut text = String::from("\nrollcall is ready.\n\n");
    for replica in replicas {
        text += &format!(
            "  {}  HTTP http://{}  DNS {}  admin http://{}\n  log {}\n",
            replica.identity,
            replica.http,
            replica.dns,
            replica.admin,
            replicas::log(state.path(), replica).display()
        );
    }
    let kept = if state.is_temporary() { "temporary" } else { "kept" };
    text += &format!("  Kubernetes  {}\n", control_plane.url);
    text += &format!("  state  {} ({kept})\n\n", state.path().display());
    text += "  !! rollcall runs with --auth none: every client that reaches the HTTP address can register,\n\
             \x20 !! change and remove every instance. Use it on this machine only.\n\n";
    text += &format!(
        "Try, in another terminal:\n\n  export KUBECONFIG={}\n",
        control_plane.kubeconfig.display()
    );
    text += "  kubectl get si -A\n";
    if let (Some(replica), false) = (replicas.first(), options.no_samples) {
        text += &samples(replica);
    }
    text + "\nPress Ctrl-C to stop everything.\n"
}

fn samples(replica: &Replica) -> String {
    let (dns, http) = (replica.dns, replica.http);
    format!(
        "  dig @{} -p {} SRV _http._tcp.orders.shop.svc.rollcall.internal\n  \
         curl http://{http}/v1/namespaces/shop/services/orders\n  \
         curl -X PUT http://{http}/v1/namespaces/shop/instances/carts-1/heartbeat\n",
        dns.ip(),
        dns.port()
    )
}
