//! A child process: its signals, its end and its log.
//!
//! Owns: one running process, which is killed when its handle is dropped. Does not own: starting it
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

/// How long a process can take to end after SIGKILL.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// A child process that runs or has ended. Dropping it kills its process group.
pub struct Child {
    name: String,
    log: PathBuf,
    process: Arc<ProcessState>,
    ended: watch::Receiver<Option<String>>,
}

/// The pid, and whether it still belongs to the child, so that signals reach no other process.
struct ProcessState {
    pid: Pid,
    running: Mutex<bool>,
}

impl Child {
    /// Takes over a process that is the leader of its own process group.
    pub(super) fn adopt(mut child: process::Child, name: String, log: PathBuf) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        let process = Arc::new(ProcessState { pid, running: Mutex::new(true) });
        let (sender, ended) = watch::channel(None);
        let watched = Arc::clone(&process);
        // If the thread cannot start, its closure drops the process handle without killing the process. Dropping
        // `child` kills it.
        let started = thread::Builder::new().name("reaper".to_owned()).spawn(move || {
            watched.wait_until_ended();
            let end = child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
            sender.send_replace(Some(end));
        });
        let child = Self { name, log, process, ended };
        started.map(|_| child)
    }

    /// Its name in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends a signal. Returns false if the process has ended.
    pub fn signal(&self, signal: Signal) -> bool {
        let running = self.process.running.lock();
        *running && kill_process(self.process.pid, signal).is_ok()
    }

    /// Kills every process of its group.
    pub fn kill(&self) {
        let running = self.process.running.lock();
        if *running {
            let _ = kill_process_group(self.process.pid, Signal::KILL);
        }
    }

    /// How it ended (for example `exit status: 1`), or `None` while it runs.
    #[must_use]
    pub fn has_ended(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    /// Waits, without a deadline, until it has ended. Returns how.
    pub async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        // The reaper thread always sends the result before it ends.
        let end = ended.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        end.unwrap_or_else(|| "it ended".to_owned())
    }

    /// Sends SIGTERM, and kills the process if it has not ended within `grace`.
    pub async fn stop(&self, grace: Duration) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT); // a stopped process handles SIGTERM only after SIGCONT
        if timeout(grace, self.ended()).await.is_err() {
            self.kill();
            let _ = timeout(AFTER_KILL, self.ended()).await;
        }
    }

    /// The file of its output.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// A message about an unexpected end: how the process ended, and the end of its log.
    #[must_use]
    pub fn exit_report(&self, end: &str) -> String {
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

impl ProcessState {
    /// Blocks until the process has ended, without reaping it. The kernel cannot reuse its pid before `running` is
    /// false, so no signal can reach another process.
    fn wait_until_ended(&self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(waitid(WaitId::Pid(self.pid), options), Err(rustix::io::Errno::INTR)) {}
        *self.running.lock() = false;
    }
}

/// The last `lines` lines of a text file, indented, or `(nothing)` if it is empty.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> String {
    let last = last_lines(path, lines);
    if last.is_empty() {
        return "  (nothing)".to_owned();
    }
    last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// The last line of a text file, if it has one.
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
