//! Starts processes that end together with this one, even if this one is killed with SIGKILL.
//!
//! Owns: starting a program. One thread, which runs as long as this process, starts `rollcall exec-with-parent`. That
//! command asks the kernel for a SIGKILL when its parent ends, and then executes the program. Does not own: the running
//! process ([`super::child`]).

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::child::Child;

/// Capacity of the queue to the starting thread. Each caller waits for its reply, so the queue holds at most one
/// request per concurrent caller, and there are only a few. Further callers wait.
const QUEUE: usize = 16;

/// A program could not be started.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// The log file could not be opened.
    #[error("cannot write the log {path}: {source}", path = path.display())]
    Log {
        /// The log file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The operating system refused to create a process or a thread.
    #[error("cannot start {name}: {source}")]
    Spawn {
        /// The program.
        name: String,
        /// The cause.
        source: io::Error,
    },
    /// The starting thread has ended, which happens only while this process ends.
    #[error("cannot start {name}: this process is ending")]
    Ending {
        /// The program.
        name: String,
    },
}

/// A program to start.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its name in messages.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its working directory.
    pub dir: PathBuf,
    /// The file to which its standard output and standard error are appended.
    pub log: PathBuf,
    /// Variables to set (`Some`) or remove (`None`) in its environment.
    pub env: Vec<(&'static str, Option<&'static str>)>,
}

/// The arguments of the hidden subcommand `exec-with-parent`.
#[derive(Debug, Clone, clap::Args)]
pub struct ExecWithParent {
    /// Process id of the parent; the program is killed when the parent ends.
    pub parent: i32,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub command: Vec<OsString>,
}

/// Starts programs through the `rollcall` executable.
#[derive(Debug, Clone)]
pub struct Launcher {
    rollcall: PathBuf,
}

/// A command for the starting thread, and the channel on which the thread returns the process.
struct Request {
    command: Command,
    reply: oneshot::Sender<io::Result<process::Child>>,
}

impl Launcher {
    /// Creates a launcher that uses the `rollcall` executable at this path.
    #[must_use]
    pub const fn new(rollcall: PathBuf) -> Self {
        Self { rollcall }
    }

    /// Starts `program` in its own process group, so that Ctrl-C in a terminal does not reach it.
    ///
    /// # Errors
    /// When its log cannot be opened, or the system refuses to create a process. If the program cannot be executed,
    /// this function succeeds, and the process ends at once with the reason in its log.
    pub async fn start(&self, program: &Program) -> Result<Child, LaunchError> {
        let spawn = |source| LaunchError::Spawn { name: program.name.clone(), source };
        let ending = || LaunchError::Ending { name: program.name.clone() };
        let command = self.command(program)?;
        let starter = starter().map_err(spawn)?;
        let (reply, answer) = oneshot::channel();
        // Neither await has a deadline: the thread only forks, and runs as long as this process.
        starter.send(Request { command, reply }).await.map_err(|_| ending())?;
        let process = answer.await.map_err(|_| ending())?.map_err(spawn)?;
        Child::adopt(process, program.name.clone(), program.log.clone()).map_err(spawn)
    }

    fn command(&self, program: &Program) -> Result<Command, LaunchError> {
        let log = |source| LaunchError::Log { path: program.log.clone(), source };
        let out = open_log(&program.log).map_err(log)?;
        let err = out.try_clone().map_err(log)?;
        let mut command = Command::new(&self.rollcall);
        command
            .arg("exec-with-parent")
            .arg(process::id().to_string())
            .arg(&program.path)
            .args(&program.args)
            .current_dir(&program.dir)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        for (name, value) in &program.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Ok(command)
    }
}

/// Executes the program in place of this process, with a kill signal when the parent ends. Returns only on failure.
#[must_use]
pub fn exec_with_parent(args: &ExecWithParent) -> io::Error {
    let Some((program, rest)) = args.command.split_first() else {
        return io::Error::other("no program is given");
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // If the parent ended before the line above, the kernel will never send the signal.
    if getppid().is_none_or(|parent| parent.as_raw_nonzero().get() != args.parent) {
        return io::Error::other(format!("the parent process {} has ended", args.parent));
    }
    let error = Command::new(program).args(rest).exec();
    io::Error::new(error.kind(), format!("{}: {error}", Path::new(program).display()))
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// The channel to the one thread that starts processes. The kernel sends the parent-death signal when the *thread* that
/// forked ends, so this thread must run as long as the process.
fn starter() -> io::Result<mpsc::Sender<Request>> {
    static STARTER: OnceLock<Result<mpsc::Sender<Request>, io::ErrorKind>> = OnceLock::new();
    STARTER
        .get_or_init(|| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            thread::Builder::new()
                .name("starter".to_owned())
                .spawn(move || start_processes(receiver))
                .map(|_| sender)
                .map_err(|error| error.kind())
        })
        .clone()
        .map_err(io::Error::from)
}

fn start_processes(mut requests: mpsc::Receiver<Request>) {
    while let Some(Request { mut command, reply }) = requests.blocking_recv() {
        let Err(unwanted) = reply.send(command.spawn()) else { continue };
        // The caller no longer waits for this process.
        if let Ok(mut process) = unwanted {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
