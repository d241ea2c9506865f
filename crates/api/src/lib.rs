//! What Kubernetes stores: the custom resource types, the names of annotations, and the generated manifests.
//!
//! Owns: the fields of the objects (with defaults, bounds and validation rules), and every name that users
//! write into manifests. Does not own: talking to Kubernetes (the server), and decisions about leases
//! (`rollcall-core`).

#[cfg(test)]
mod bounds;
pub mod instance;
pub mod ledger;
pub mod manifests;
pub mod patch;
mod rules;

pub use instance::{
    Lease, OBSERVED_HEARTBEAT_MAX, Port, ServiceInstance, ServiceInstanceSpec,
    ServiceInstanceStatus, observed_heartbeat,
};
pub use ledger::{FORMAT, HeartbeatLedger, HeartbeatLedgerPatch, HeartbeatLedgerSpec, PeerSeen};
pub use rollcall_model::vocabulary::{
    ConditionType, Health, HealthReport, LeaseMode, OnExpiry, Phase, Protocol, State, UnknownHealth,
};

/// The API group of every kind defined here.
pub const GROUP: &str = "rollcall.dev";

/// The version of the group that is served and stored.
pub const VERSION: &str = "v1alpha1";

/// Group and version, as in `apiVersion`.
pub const API_VERSION: &str = "rollcall.dev/v1alpha1";

/// Annotation of which every change is a heartbeat. A change means any difference from the previous value;
/// by convention the value is the time of the heartbeat in RFC 3339. Removing the annotation is not a
/// heartbeat.
pub const HEARTBEAT_ANNOTATION: &str = "rollcall.dev/heartbeat";

/// Annotation in which an instance reports its own health: a value of [`HealthReport`] in upper or lower
/// case, or an equivalent value of another registry.
pub const HEALTH_ANNOTATION: &str = "rollcall.dev/health";

/// Annotation of a replica's own instance: the installation of rollcall that it belongs to, in the form of
/// `status.installation`.
pub const INSTALLATION_ANNOTATION: &str = "rollcall.dev/installation";

/// Annotation whose presence says that the instance is leaving. Rollcall writes it when an instance reports
/// `Stopping` over HTTP, separately from the health, so that a later health report does not undo it. The
/// value is informational: the heartbeat that reported it.
pub const STOPPING_ANNOTATION: &str = "rollcall.dev/stopping";

/// Annotation with the uid of the pod that last registered the instance as its own over HTTP. Rollcall
/// writes it to distinguish that pod from a later pod with the same name.
pub const POD_ANNOTATION: &str = "rollcall.dev/pod-uid";

/// Annotation that names the registry whose client registered this instance: `eureka`, `consul` or
/// `nacos`. It is kept for clients and has no effect.
pub const DIALECT_ANNOTATION: &str = "rollcall.dev/dialect";

/// The field manager of everything that rollcall writes, so that `metadata.managedFields` shows what rollcall
/// owns.
pub const FIELD_MANAGER: &str = "rollcall";

/// The field manager of `spec.state` when it is set over HTTP. Registrations use another one.
pub const STATE_MANAGER: &str = "rollcall-state";

#[cfg(test)]
mod tests {
    use kube::Resource as _;

    use super::*;

    #[test]
    fn constants_match_the_derived_resource() {
        assert_eq!(ServiceInstance::group(&()), GROUP);
        assert_eq!(ServiceInstance::version(&()), VERSION);
        assert_eq!(ServiceInstance::api_version(&()), API_VERSION);
    }
}
