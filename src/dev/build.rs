//! Building the programs of the control plane, once a machine, from pinned Go modules.
//!
//! Owns the cache folder, the lock on it and the progress that a person sees.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval};

use super::binaries::{Binaries, GO_MOD, GO_SUM, Places, Tool};
use super::child::{Child, last_line};
use super::launch::{LaunchError, Launcher, Program};
use super::terminal::say;

/// The version that the built Kubernetes programs report; that of the module files.
const VERSION: &str = "v1.36.3";

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);

/// The programs could not be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// There is no Go here, and so nothing to build with.
    #[error(
        "no {missing}, and no Go to build it with. Do one of these, then try again:\n  \
         - install Go 1.26 or newer (https://go.dev/dl, or a package `golang`) so that `go` is in PATH; \
         everything is then built once, in about 6 minutes;\n  \
         - or put etcd (3.6), kube-apiserver and kube-controller-manager (1.33 or newer) into PATH, \
         or into a folder and that folder into KUBEBUILDER_ASSETS"
    )]
    NoGo {
        /// The programs that are missing.
        missing: String,
    },
    /// The cache folder could not be used.
    #[error("cannot use the cache folder {path}: {source}", path = path.display())]
    Folder {
        /// The folder, or a file in it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// go could not be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// go failed.
    #[error("cannot build {tool}: {obituary}")]
    Go {
        /// What was built.
        tool: &'static str,
        /// How go ended, and its last words.
        obituary: String,
    },
}

impl Binaries {
    /// Finds the three programs, and builds into the cache what is missing, with progress on
    /// standard error. That takes about 6 minutes on 2 cores the first time.
    ///
    /// # Errors
    /// When something is missing and cannot be built; the message says what to install.
    pub async fn find_or_build(places: &Places, launcher: &Launcher) -> Result<Self, BuildError> {
        let missing = match places.find_all() {
            Ok(binaries) => return Ok(binaries),
            Err(missing) => missing,
        };
        build(places, launcher, &missing).await?;
        places.find_all().map_err(|missing| {
            let source = io::Error::other(format!("{} vanished", names(&missing)));
            BuildError::Folder { path: places.built(), source }
        })
    }
}

/// Builds `missing` into the cache, unless another process just did.
async fn build(places: &Places, launcher: &Launcher, missing: &[Tool]) -> Result<(), BuildError> {
    let go = places.find("go").ok_or_else(|| BuildError::NoGo { missing: names(missing) })?;
    let folders = Folders::make(&places.cache)?;
    let _lock = lock(&folders.lock).await?;
    let missing: Vec<Tool> =
        missing.iter().filter(|tool| places.find(tool.name).is_none()).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(&format!(
        "building {} from source into {}, once: about 6 minutes on 2 cores, seconds when go has them in its cache",
        names(&missing),
        places.cache.display()
    ));
    folders.clear()?;
    for (done, tool) in missing.iter().enumerate() {
        let step = format!("[{} of {}] {}", done + 1, missing.len(), tool.name);
        build_one(&folders, launcher, go.clone(), *tool, &step).await?;
    }
    say("built all; the next start needs none of this");
    Ok(())
}

fn names(tools: &[Tool]) -> String {
    tools.iter().map(|tool| tool.name).collect::<Vec<_>>().join(", ")
}

/// The parts of the cache folder.
struct Folders {
    /// Held by whoever builds.
    lock: PathBuf,
    /// The module files, and what go writes before it is complete.
    source: PathBuf,
    /// The finished programs.
    bin: PathBuf,
}

impl Folders {
    fn make(cache: &Path) -> Result<Self, BuildError> {
        let made =
            Self { lock: cache.join("lock"), source: cache.join("source"), bin: cache.join("bin") };
        fs::create_dir_all(&made.bin)
            .map_err(|source| BuildError::Folder { path: made.bin.clone(), source })?;
        Ok(made)
    }

    /// Leaves nothing in the working folder but the module files. Only under the lock.
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

/// Takes the lock, waiting without a limit: its holder's end, however it comes, frees it.
async fn lock(path: &Path) -> Result<File, BuildError> {
    let failed = |source| BuildError::Folder { path: path.to_owned(), source };
    let file = File::create(path).map_err(failed)?;
    let mut ticks = ticks();
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if !told => {
                say("another process is building the control plane; waiting for it");
                told = true;
            }
            Err(TryLockError::WouldBlock) => {}
        }
        ticks.tick().await;
    }
}

async fn build_one(
    folders: &Folders,
    launcher: &Launcher,
    go: PathBuf,
    tool: Tool,
    step: &str,
) -> Result<(), BuildError> {
    let made = folders.source.join(tool.name);
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
        dir: folders.source.clone(),
        log: folders.source.join(format!("{}.log", tool.name)),
        // Static, and from the pinned modules whatever this person's Go set-up says.
        env: vec![
            ("CGO_ENABLED", Some("0")),
            ("GOFLAGS", Some("-mod=readonly")),
            ("GOWORK", Some("off")),
            ("GOOS", None),
            ("GOARCH", None),
        ],
    };
    say(step);
    let child = launcher.start(&program).await?;
    let end = watch_progress(&child, step).await;
    if !made.is_file() {
        return Err(BuildError::Go { tool: tool.name, obituary: child.obituary(&end) });
    }
    let target = folders.bin.join(tool.name);
    fs::rename(&made, &target).map_err(|source| BuildError::Folder { path: target, source })
}

/// Shows how long it takes and the last line of its output until it ends; says how it ended. No
/// limit: a machine may be slow, and a person sees the progress and has Ctrl-C.
async fn watch_progress(child: &Child, step: &str) -> String {
    let mut ticks = ticks();
    ticks.tick().await; // the first is at once
    let mut seconds = 0;
    loop {
        tokio::select! {
            end = child.ended() => return end,
            _ = ticks.tick() => {
                seconds += PROGRESS.as_secs();
                let package = last_line(child.log()).unwrap_or_else(|| "still going".to_owned());
                say(&format!("{step}, {seconds} s: {package}"));
            }
        }
    }
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(PROGRESS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
