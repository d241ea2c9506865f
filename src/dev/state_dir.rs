//! The folder in which one `rollcall dev` keeps its state.
//!
//! Owns its making, the lock that keeps a second one out, and the removal of temporary ones, also of
//! those that an earlier one left because it was killed.

use std::env;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process;

use thiserror::Error;

/// What temporary folders are called, before the process id.
const PREFIX: &str = "rollcall-dev-";

/// There is no folder for the state.
#[derive(Debug, Error)]
pub(super) enum StateDirError {
    /// The folder could not be made or used.
    #[error("cannot use the state folder {path}: {source}; name another with --state-dir", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("another `rollcall dev` is using {path}; stop it, or name another folder with --state-dir", path = path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
}

/// A folder that is ours while this lives. A temporary one is removed at the end.
#[derive(Debug)]
pub(super) struct StateDir {
    path: PathBuf,
    temporary: bool,
    /// Held by the kernel for as long as this process lives, however it ends.
    _lock: File,
}

impl StateDir {
    /// The named folder, made if absent; or a temporary one, after the left-overs of dead processes
    /// were removed.
    ///
    /// # Errors
    /// When it cannot be made, or another process has it.
    pub(super) fn open(named: Option<&Path>) -> Result<Self, StateDirError> {
        let path = named.map_or_else(temporary, Path::to_owned);
        let failed = |source| StateDirError::Folder { path: path.clone(), source };
        if named.is_none() {
            remove_left_overs();
        }
        // A temporary folder must be new: what is there already may be somebody else's.
        DirBuilder::new().mode(0o700).recursive(named.is_some()).create(&path).map_err(failed)?;
        let path = fs::canonicalize(&path).map_err(failed)?;
        let lock = File::create(path.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, temporary: named.is_none(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateDirError::InUse { path }),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Where it is; absolute.
    #[must_use]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is removed at the end.
    #[must_use]
    pub(super) const fn is_temporary(&self) -> bool {
        self.temporary
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        if self.temporary {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn temporary() -> PathBuf {
    env::temp_dir().join(format!("{PREFIX}{}", process::id()))
}

/// Removes the temporary folders of processes that are dead. Best effort: those of other people cannot
/// be removed and do no harm.
fn remove_left_overs() {
    let Ok(entries) = fs::read_dir(env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if pid.is_some_and(|pid| is_left_over(pid, &entry.path())) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A process in another container may share the folder but not the process ids: the lock tells.
/// The id alone tells for a folder so new that it is not locked yet.
fn is_left_over(pid: u32, path: &Path) -> bool {
    let dead = pid == process::id() || !Path::new("/proc").join(pid.to_string()).exists();
    let unlocked = File::open(path.join("lock")).map_or(true, |lock| lock.try_lock().is_ok());
    dead && unlocked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_folder_has_one_user_at_a_time_and_stays() {
        let path = env::temp_dir().join(format!("rollcall-state-{}", process::id()));
        let first = StateDir::open(Some(&path)).unwrap();
        let error = StateDir::open(Some(&path)).unwrap_err();
        assert!(matches!(error, StateDirError::InUse { .. }), "{error}");
        drop(first);
        StateDir::open(Some(&path)).unwrap();
        assert!(path.exists());
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_temporary_folder_is_removed_at_the_end_and_so_are_left_overs() {
        // No process has this id: the kernel's maximum is 4194304.
        let left_over = env::temp_dir().join(format!("{PREFIX}99999999"));
        fs::create_dir_all(left_over.join("etcd")).unwrap();
        let dir = StateDir::open(None).unwrap();
        assert!(!left_over.exists());
        let path = dir.path().to_owned();
        assert!(path.exists());
        drop(dir);
        assert!(!path.exists());
    }
}
