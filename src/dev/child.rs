//! A process that was started here: its signals, its end, its log.
//!
//! Owns one running child. Dropping the handle kills it. Does not own the starting
//! ([`super::launch`]).

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
pub use rustix::process::Signal;
use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long a process that was sent SIGKILL may take to be gone.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// A running child process, or one that has ended. Dropped, it is killed with its process group.
pub struct Child {
    name: String,
    log: PathBuf,
    life: Arc<Life>,
    ended: watch::Receiver<Option<String>>,
}

/// Whether the pid is still ours to send signals to.
struct Life {
    pid: Pid,
    alive: Mutex<bool>,
}

impl Child {
    /// Takes over a process that leads its own group.
    pub(super) fn adopt(mut child: process::Child, name: String, log: PathBuf) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        let life = Arc::new(Life { pid, alive: Mutex::new(true) });
        let (sender, ended) = watch::channel(None);
        let watched = Arc::clone(&life);
        // On failure the thread's closure is dropped with the process handle, which would leave it running.
        let started = thread::Builder::new().name("reaper".to_owned()).spawn(move || {
            watched.until_ended();
            let end = child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
            sender.send_replace(Some(end));
        });
        let child = Self { name, log, life, ended };
        started.map(|_| child)
    }

    /// What people call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.life.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends it a signal; false when it has ended.
    pub fn signal(&self, signal: Signal) -> bool {
        let alive = self.life.alive.lock();
        *alive && kill_process(self.life.pid, signal).is_ok()
    }

    /// Kills it and every process of its group.
    pub fn kill(&self) {
        let alive = self.life.alive.lock();
        if *alive {
            let _ = kill_process_group(self.life.pid, Signal::KILL);
        }
    }

    /// How it ended (`exit status: 1`), if it has.
    #[must_use]
    pub fn has_ended(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    /// Waits, without a limit, until it has ended; says how.
    pub async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        // The reaper always says how before it goes; the other case cannot be told from it.
        let end = ended.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        end.unwrap_or_else(|| "it ended".to_owned())
    }

    /// Asks it to end with SIGTERM and, when it has not within `grace`, kills it.
    pub async fn stop(&self, grace: Duration) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT); // a stopped process would not see the request
        if timeout(grace, self.ended()).await.is_err() {
            self.kill();
            let _ = timeout(AFTER_KILL, self.ended()).await;
        }
    }

    /// Where its output goes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What a person needs when it ended and should not have: how, and the end of its log.
    #[must_use]
    pub fn obituary(&self, end: &str) -> String {
        format!(
            "{} ended ({end}). The last lines of {}:\n{}",
            self.name,
            self.log.display(),
            tail(&self.log, 15)
        )
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid())
    }
}

impl Life {
    /// Blocks until the process has ended, without reaping it: its pid cannot be somebody else's
    /// before `alive` is false, so no signal can reach a stranger.
    fn until_ended(&self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(waitid(WaitId::Pid(self.pid), options), Err(rustix::io::Errno::INTR)) {}
        *self.alive.lock() = false;
    }
}

/// The last `lines` lines of a text file, each indented; says so when there is nothing.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> String {
    let last = last_lines(path, lines);
    if last.is_empty() {
        return "  (nothing)".to_owned();
    }
    last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// The last line of a text file, if there is any.
pub(super) fn last_line(path: &Path) -> Option<String> {
    last_lines(path, 1).pop()
}

fn last_lines(path: &Path, lines: usize) -> Vec<String> {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut last: Vec<String> = text.lines().rev().take(lines).map(str::to_owned).collect();
    last.reverse();
    last
}
