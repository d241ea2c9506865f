//! A real etcd, kube-apiserver and kube-controller-manager on this machine, for `rollcall dev` and for the tests (cargo
//! feature `dev`; not in the image).
//!
//! Owns: finding or building the programs, starting them so that they end together with the process that started them,
//! and installing what rollcall needs. Does not own: rollcall itself; its replicas are processes of the same
//! executable.

mod args;
mod banner;
pub mod binaries;
mod build;
pub mod child;
pub mod control_plane;
pub mod credentials;
mod flags;
pub mod install;
pub mod launch;
pub mod manifests;
pub mod ports;
pub mod replicas;
mod run;
mod state_dir;
mod terminal;

pub use args::DevArgs;
pub use binaries::{Binaries, SearchPaths};
pub use child::Child;
pub use control_plane::ControlPlane;
pub use launch::{ExecWithParent, Launcher, exec_with_parent};
pub use run::run;
