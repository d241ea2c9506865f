//! What `rollcall dev` prints when all is ready.

use super::args::DevArgs;
use super::control_plane::ControlPlane;
use super::replicas::{self, Replica};
use super::state_dir::StateDir;

/// The text: what runs where, what is not safe about it, and commands to try.
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
    let fate = if state.is_temporary() { "temporary" } else { "kept" };
    text += &format!("  Kubernetes  {}\n", control_plane.url);
    text += &format!("  state  {} ({fate})\n\n", state.path().display());
    text += "  !! It runs with --auth none: whoever reaches the HTTP address may register, change and\n\
             \x20 !! remove every instance. For trying things out on this machine only.\n\n";
    text += &format!(
        "Try, in another terminal:\n\n  export KUBECONFIG={}\n",
        control_plane.kubeconfig.display()
    );
    text += "  kubectl get si -A\n";
    if let (Some(replica), false) = (replicas.first(), options.no_samples) {
        text += &samples(replica);
    }
    text + "\nCtrl-C ends it all.\n"
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
