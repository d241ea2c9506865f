//! The search for etcd, kube-apiserver and kube-controller-manager on this machine.
//!
//! Owns: the search order, separately for each program: `KUBEBUILDER_ASSETS`, then `PATH`, then the cache. Does not
//! own: building the programs that are not found (`build`).

use std::env;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

/// The pinned Go modules from which the programs are built.
pub(super) const GO_MOD: &str = include_str!("modules/go.mod");
/// The checksums of these modules.
pub(super) const GO_SUM: &str = include_str!("modules/go.sum");

/// Neither variable names a directory for the cache.
#[derive(Debug, Error)]
#[error("cannot choose a cache directory for built programs: set HOME or XDG_CACHE_HOME")]
pub struct NoCache;

/// One of the three programs of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tool {
    /// The name of its executable.
    pub(super) name: &'static str,
    /// The Go package from which it is built.
    pub(super) package: &'static str,
}

/// The programs in build order, the smallest one first.
pub(super) const TOOLS: [Tool; 3] = [
    Tool { name: "etcd", package: "go.etcd.io/etcd/server/v3" },
    Tool { name: "kube-apiserver", package: "k8s.io/kubernetes/cmd/kube-apiserver" },
    Tool {
        name: "kube-controller-manager",
        package: "k8s.io/kubernetes/cmd/kube-controller-manager",
    },
];

/// The executables of a control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// etcd.
    pub etcd: PathBuf,
    /// kube-apiserver.
    pub apiserver: PathBuf,
    /// kube-controller-manager.
    pub controller_manager: PathBuf,
}

/// Where programs are searched for, in this order.
#[derive(Debug, Clone)]
pub struct SearchPaths {
    /// `KUBEBUILDER_ASSETS`, if set.
    pub assets: Option<PathBuf>,
    /// `PATH`, if set.
    pub path: Option<OsString>,
    /// The directory of this version in the cache, named after a hash of the module files.
    pub cache: PathBuf,
}

impl SearchPaths {
    /// The search paths from the environment of this process.
    ///
    /// # Errors
    /// When neither `XDG_CACHE_HOME` nor `HOME` is set.
    pub fn from_env() -> Result<Self, NoCache> {
        let folder = |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        // A relative XDG_CACHE_HOME is invalid (XDG Base Directory Specification).
        let cache = folder("XDG_CACHE_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| folder("HOME").map(|home| home.join(".cache")))
            .ok_or(NoCache)?;
        let modules = xxh3_64(format!("{GO_MOD}{GO_SUM}").as_bytes());
        Ok(Self {
            assets: folder("KUBEBUILDER_ASSETS"),
            path: env::var_os("PATH"),
            cache: cache.join("rollcall").join(format!("{:08x}", modules >> 32)),
        })
    }

    /// The directory of built programs.
    pub(super) fn built(&self) -> PathBuf {
        self.cache.join("bin")
    }

    /// Finds the executable with this name. An executable outside the cache is accepted with any version.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        let path = self.path.iter().flat_map(env::split_paths);
        let folders = self.assets.iter().cloned().chain(path).chain([self.built()]);
        folders.map(|folder| folder.join(name)).find(|file| is_executable(file))
    }

    /// Finds all three programs, or returns the missing ones.
    pub(super) fn find_all(&self) -> Result<Binaries, Vec<Tool>> {
        let found = TOOLS.map(|tool| self.find(tool.name));
        if let [Some(etcd), Some(apiserver), Some(controller_manager)] = found {
            return Ok(Binaries { etcd, apiserver, controller_manager });
        }
        let missing = TOOLS.iter().zip(found).filter(|(_, path)| path.is_none());
        Err(missing.map(|(tool, _)| *tool).collect())
    }
}

/// Whether the path is a file with any execute permission.
fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Creates a directory for this test, with executables of these names in `a` (assets), `b` (`PATH`) and the cache.
    fn places(test: &str, a: &[&str], b: &[&str], cache: &[&str]) -> SearchPaths {
        let root = env::temp_dir().join(format!("rollcall-places-{}-{test}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let places = SearchPaths {
            assets: Some(root.join("a")),
            path: Some(env::join_paths([root.join("none"), root.join("b")]).unwrap()),
            cache: root.join("cache"),
        };
        for (folder, names) in [(root.join("a"), a), (root.join("b"), b), (places.built(), cache)] {
            fs::create_dir_all(&folder).unwrap();
            for name in names {
                fs::write(folder.join(name), "").unwrap();
                let mode = fs::Permissions::from_mode(0o755);
                fs::set_permissions(folder.join(name), mode).unwrap();
            }
        }
        places
    }

    #[test]
    fn each_program_is_found_in_assets_then_path_then_cache() {
        let all = ["etcd", "kube-apiserver", "kube-controller-manager"];
        let places = places("order", &all[..1], &all[..2], &all);
        let binaries = places.find_all().unwrap();
        assert!(binaries.etcd.ends_with("a/etcd"));
        assert!(binaries.apiserver.ends_with("b/kube-apiserver"));
        assert!(binaries.controller_manager.ends_with("cache/bin/kube-controller-manager"));
    }

    #[test]
    fn missing_programs_are_returned() {
        let places = places("missing", &[], &["kube-apiserver"], &[]);
        let missing = places.find_all().unwrap_err();
        assert_eq!(missing, [TOOLS[0], TOOLS[2]]);
    }

    #[test]
    fn file_without_execute_permission_is_not_found() {
        let places = places("mode", &["etcd"], &[], &[]);
        let file = places.assets.as_ref().unwrap().join("etcd");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(places.find("etcd"), None);
    }
}
