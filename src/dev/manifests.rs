//! The manifests of `deploy/` that are compiled into the executable and installed together with the CRDs.

/// The rights of the replicas, and their namespace and ServiceAccount.
pub const RBAC: &[&str] = &[
    include_str!("../../deploy/rbac/namespace.yaml"),
    include_str!("../../deploy/rbac/serviceaccount.yaml"),
    include_str!("../../deploy/rbac/clusterrole-instances.yaml"),
    include_str!("../../deploy/rbac/clusterrole-server.yaml"),
    include_str!("../../deploy/rbac/clusterrolebinding-instances.yaml"),
    include_str!("../../deploy/rbac/clusterrolebinding-server.yaml"),
    ROLE,
    ROLE_BINDING,
];

/// The rights of the replicas in their own namespace.
pub const ROLE: &str = include_str!("../../deploy/rbac/role.yaml");

/// Binds [`ROLE`].
pub const ROLE_BINDING: &str = include_str!("../../deploy/rbac/rolebinding.yaml");

/// ClusterRoles that can be granted to the users of rollcall.
pub const ROLES: &[&str] = &[
    include_str!("../../deploy/roles/workload.yaml"),
    include_str!("../../deploy/roles/operator.yaml"),
    include_str!("../../deploy/roles/reader.yaml"),
];

/// Sample services.
pub const SAMPLES: &[&str] = &[
    include_str!("../../deploy/samples/namespace.yaml"),
    include_str!("../../deploy/samples/orders.yaml"),
    include_str!("../../deploy/samples/payments.yaml"),
    include_str!("../../deploy/samples/db.yaml"),
    include_str!("../../deploy/samples/carts.yaml"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// Every file in a directory of `deploy/` except its kustomization.
    fn files(folder: &str) -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(folder);
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<String> = paths
            .filter(|path| !path.ends_with("kustomization.yaml"))
            .map(|path| fs::read_to_string(path).unwrap())
            .collect();
        files.sort();
        files
    }

    #[test]
    fn every_manifest_of_these_directories_is_installed() {
        for (folder, installed) in [("rbac", RBAC), ("roles", ROLES), ("samples", SAMPLES)] {
            let mut installed: Vec<String> = installed.iter().map(|&s| s.to_owned()).collect();
            installed.sort();
            assert_eq!(installed, files(folder), "deploy/{folder}");
        }
    }
}
