//! What Kubernetes stores: the custom resource types, the names of annotations, and the manifests
//! generated from them.
//!
//! Owns the shape of the objects (fields, defaults, bounds, validation rules) and every name that
//! other people write into their manifests. Does not talk to Kubernetes (that is the server), and
//! decides nothing about leases (that is `rollcall-core`).

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

/// Group and version as they stand in `apiVersion`.
pub const API_VERSION: &str = "rollcall.dev/v1alpha1";

/// Annotation whose every change is a beat. The value is for people: by convention the moment of
/// the beat in RFC 3339, but only that it differs from the one before counts. Removing it is no
/// beat.
pub const HEARTBEAT_ANNOTATION: &str = "rollcall.dev/heartbeat";

/// Annotation in which an instance reports its own health: a word of [`HealthReport`], in upper or lower case, or one that
/// other registries use for it.
pub const HEALTH_ANNOTATION: &str = "rollcall.dev/health";

/// Annotation of a replica's own instance: the installation of rollcall that it belongs to, as `status.installation` names
/// it.
pub const INSTALLATION_ANNOTATION: &str = "rollcall.dev/installation";

/// Annotation whose presence says that the instance is leaving, written by rollcall when it reports `Stopping` over HTTP:
/// beside the health, so that another report does not undo it. The value is for people: the heartbeat that said so.
pub const STOPPING_ANNOTATION: &str = "rollcall.dev/stopping";

/// Annotation with the uid of the pod that registered the instance last over HTTP as its own, written by rollcall: how the
/// next pod of that name is told from it.
pub const POD_ANNOTATION: &str = "rollcall.dev/pod-uid";

/// Annotation that names the registry whose client registered this instance: `eureka`, `consul` or `nacos`. It is kept for
/// clients, and decides nothing.
pub const DIALECT_ANNOTATION: &str = "rollcall.dev/dialect";

/// The field manager of everything rollcall writes, so that ownership can be told from
/// `metadata.managedFields`.
pub const FIELD_MANAGER: &str = "rollcall";

/// Who owns `spec.state` in server-side apply, when it is set over HTTP: a registration is another's.
pub const STATE_MANAGER: &str = "rollcall-state";

#[cfg(test)]
mod tests {
    use kube::Resource as _;

    use super::*;

    #[test]
    fn the_constants_name_what_the_derive_names() {
        assert_eq!(ServiceInstance::group(&()), GROUP);
        assert_eq!(ServiceInstance::version(&()), VERSION);
        assert_eq!(ServiceInstance::api_version(&()), API_VERSION);
    }
}
