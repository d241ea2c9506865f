//! Builds the programs of the control plane from pinned Go modules, once per machine.
//!
//! Owns: the cache directory, its lock, and the reported progress. Does not own: the search for programs (`binaries`).

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval};

use super::binaries::{Binaries, GO_MOD, GO_SUM, SearchPaths, Tool};
use super::child::{Child, last_line};
use super::launch::{LaunchError, Launcher, Program};
use super::terminal::print_progress;

/// The version that the built Kubernetes programs report, the same as in the module files.
const VERSION: &str = "v1.36.3";

/// Interval between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);

/// The programs could not be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// Programs are missing, and so is Go, which could build them.
    #[error(
        "cannot find {missing}, nor Go to build it with. Do one of the following, then try again:\n  \
         - install Go 1.26 or newer (https://go.dev/dl, or the package `golang`) so that `go` is in PATH; \
         the programs are then built once, in about 6 minutes\n  \
         - put etcd (3.6), kube-apiserver and kube-controller-manager (1.33 or newer) into a directory of PATH, \
         or into another directory, and set KUBEBUILDER_ASSETS to it"
    )]
    NoGo {
        /// The programs that are missing.
        missing: String,
    },
    /// The cache directory could not be used.
    #[error("cannot use the cache directory {path}: {source}", path = path.display())]
    Folder {
        /// The directory, or a file in it.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The Go compiler could not be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The Go compiler failed.
    #[error("cannot build {tool}: {exit_report}")]
    Go {
        /// The program that was being built.
        tool: &'static str,
        /// How the compiler ended, and the end of its log.
        exit_report: String,
    },
}

impl Binaries {
    /// Finds the three programs, and builds the missing ones into the cache, with progress on standard error. The first
    /// build takes about 6 minutes on 2 cores.
    ///
    /// # Errors
    /// When a program is missing and cannot be built; the message says what to install.
    pub async fn find_or_build(
        places: &SearchPaths,
        launcher: &Launcher,
    ) -> Result<Self, BuildError> {
        let missing = match places.find_all() {
            Ok(binaries) => return Ok(binaries),
            Err(missing) => missing,
        };
        build(places, launcher, &missing).await?;
        places.find_all().map_err(|missing| {
            let source =
                io::Error::other(format!("{} disappeared after the build", names(&missing)));
            BuildError::Folder { path: places.built(), source }
        })
    }
}

/// Builds the missing programs into the cache, unless another process has built them in the meantime.
async fn build(
    places: &SearchPaths,
    launcher: &Launcher,
    missing: &[Tool],
) -> Result<(), BuildError> {
    let go = places.find("go").ok_or_else(|| BuildError::NoGo { missing: names(missing) })?;
    let dirs = CacheDirs::make(&places.cache)?;
    let _lock = lock(&dirs.lock).await?;
    let missing: Vec<Tool> =
        missing.iter().filter(|tool| places.find(tool.name).is_none()).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    print_progress(&format!(
        "building {} from source into {}: once, about 6 minutes on 2 cores, or seconds if they are in Go's build cache",
        names(&missing),
        places.cache.display()
    ));
    dirs.clear()?;
    for (done, tool) in missing.iter().enumerate() {
        let step = format!("[{} of {}] {}", done + 1, missing.len(), tool.name);
        build_one(&dirs, launcher, go.clone(), *tool, &step).await?;
    }
    print_progress("all programs are built; later starts reuse them");
    Ok(())
}

fn names(tools: &[Tool]) -> String {
    tools.iter().map(|tool| tool.name).collect::<Vec<_>>().join(", ")
}

/// The paths in the cache directory.
struct CacheDirs {
    /// Locked by the process that builds.
    lock: PathBuf,
    /// The working directory: the module files, and programs before they are complete.
    source: PathBuf,
    /// The finished programs.
    bin: PathBuf,
}

impl CacheDirs {
    fn make(cache: &Path) -> Result<Self, BuildError> {
        let made =
            Self { lock: cache.join("lock"), source: cache.join("source"), bin: cache.join("bin") };
        fs::create_dir_all(&made.bin)
            .map_err(|source| BuildError::Folder { path: made.bin.clone(), source })?;
        Ok(made)
    }

    /// Empties the working directory except for the module files. The caller must hold the lock.
    fn clear(&self) -> Result<(), BuildError> {
        let clear = || {
            if self.source.exists() {
                fs::remove_dir_all(&self.source)?;
            }
            fs::create_dir_all(&self.source)?;
            fs::write(self.source.join("go.mod"), GO_MOD)?;
            fs::write(self.source.join("go.sum"), GO_SUM)
        };
        clear().map_err(|source| BuildError::Folder { path: self.source.clone(), source })
    }
}

/// Takes the lock. The wait has no deadline, because the kernel frees the lock when its holder ends.
async fn lock(path: &Path) -> Result<File, BuildError> {
    let failed = |source| BuildError::Folder { path: path.to_owned(), source };
    let file = File::create(path).map_err(failed)?;
    let mut ticks = ticks();
    let mut reported = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if !reported => {
                print_progress("waiting for another process that is building the control plane");
                reported = true;
            }
            Err(TryLockError::WouldBlock) => {}
        }
        ticks.tick().await;
    }
}

async fn build_one(
    dirs: &CacheDirs,
    launcher: &Launcher,
    go: PathBuf,
    tool: Tool,
    step: &str,
) -> Result<(), BuildError> {
    let made = dirs.source.join(tool.name);
    let flags = format!("-s -w -X k8s.io/component-base/version.gitVersion={VERSION}");
    let args = [
        "build",
        "-v",
        "-trimpath",
        "-buildvcs=false",
        "-ldflags",
        &flags,
        "-o",
        tool.name,
        tool.package,
    ];
    let program = Program {
        name: "go".to_owned(),
        path: go,
        args: args.iter().map(Into::into).collect(),
        dir: dirs.source.clone(),
        log: dirs.source.join(format!("{}.log", tool.name)),
        // Builds static executables from the pinned modules, whatever the user's Go settings are.
        env: vec![
            ("CGO_ENABLED", Some("0")),
            ("GOFLAGS", Some("-mod=readonly")),
            ("GOWORK", Some("off")),
            ("GOOS", None),
            ("GOARCH", None),
        ],
    };
    print_progress(step);
    let child = launcher.start(&program).await?;
    let end = watch_progress(&child, step).await;
    if !made.is_file() {
        return Err(BuildError::Go { tool: tool.name, exit_report: child.exit_report(&end) });
    }
    let target = dirs.bin.join(tool.name);
    fs::rename(&made, &target).map_err(|source| BuildError::Folder { path: target, source })
}

/// Prints the elapsed time and the last line of the output until the process ends. Returns how it ended. There is no
/// deadline, because a machine can be slow, and the user sees the progress and can press Ctrl-C.
async fn watch_progress(child: &Child, step: &str) -> String {
    let mut ticks = ticks();
    ticks.tick().await; // the first tick completes at once
    let mut seconds = 0;
    loop {
        tokio::select! {
            end = child.ended() => return end,
            _ = ticks.tick() => {
                seconds += PROGRESS.as_secs();
                let package = last_line(child.log()).unwrap_or_else(|| "in progress".to_owned());
                print_progress(&format!("{step}, {seconds} s: {package}"));
            }
        }
    }
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(PROGRESS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
