//! The state directory of `rollcall dev`.
//!
//! Owns: creating it, its lock against a second process, and the removal of temporary directories, including those of
//! processes that were killed. Does not own: the files in it.

use std::env;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process;

use thiserror::Error;

/// Prefix of temporary directories; the process id follows.
const PREFIX: &str = "rollcall-dev-";

/// The state directory cannot be used.
#[derive(Debug, Error)]
pub(super) enum StateDirError {
    /// The directory could not be created or opened.
    #[error(
        "cannot use the state directory {path}: {source}; give another one with --state-dir",
        path = path.display()
    )]
    Folder {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process has locked it.
    #[error(
        "another `rollcall dev` is using {path}; stop it, or give another directory with --state-dir",
        path = path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}

/// A locked state directory. A temporary one is removed on drop.
#[derive(Debug)]
pub(super) struct StateDir {
    path: PathBuf,
    temporary: bool,
    /// The kernel releases the lock when this process ends, however it ends.
    _lock: File,
}

impl StateDir {
    /// Opens the named directory, created if absent. Without a name, removes the leftovers of ended processes and
    /// creates a temporary directory.
    ///
    /// # Errors
    /// When it cannot be created, or another process uses it.
    pub(super) fn open(named: Option<&Path>) -> Result<Self, StateDirError> {
        let path = named.map_or_else(temporary, Path::to_owned);
        let failed = |source| StateDirError::Folder { path: path.clone(), source };
        if named.is_none() {
            remove_leftovers();
        }
        // A temporary directory must be new: an existing one may belong to another user.
        DirBuilder::new().mode(0o700).recursive(named.is_some()).create(&path).map_err(failed)?;
        let path = fs::canonicalize(&path).map_err(failed)?;
        let lock = File::create(path.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, temporary: named.is_none(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateDirError::InUse { path }),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Its absolute path.
    #[must_use]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is removed on drop.
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

/// Removes the temporary directories of processes that have ended. Directories of other users cannot be removed and do
/// no harm.
fn remove_leftovers() {
    let Ok(entries) = fs::read_dir(env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if pid.is_some_and(|pid| is_leftover(pid, &entry.path())) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Both checks are needed. A process in another container can share the directory but not the process ids, so the lock
/// must be free. A new directory may not be locked yet, so the process must have ended.
fn is_leftover(pid: u32, path: &Path) -> bool {
    let ended = pid == process::id() || !Path::new("/proc").join(pid.to_string()).exists();
    let unlocked = File::open(path.join("lock")).map_or(true, |lock| lock.try_lock().is_ok());
    ended && unlocked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_directory_has_one_user_at_a_time_and_is_kept() {
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
    fn temporary_directory_and_leftovers_are_removed() {
        // No process has this id, because the maximum of the kernel is 4194304.
        let leftover = env::temp_dir().join(format!("{PREFIX}99999999"));
        fs::create_dir_all(leftover.join("etcd")).unwrap();
        let dir = StateDir::open(None).unwrap();
        assert!(!leftover.exists());
        let path = dir.path().to_owned();
        assert!(path.exists());
        drop(dir);
        assert!(!path.exists());
    }
}
