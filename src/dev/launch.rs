//! Starting processes that end with this one, whatever ends it, SIGKILL included.
//!
//! Owns the way a program is started: by one thread that lives as long as this process, through
//! `rollcall exec-with-parent`, which asks the kernel for a SIGKILL on the parent's death before it
//! becomes the program. Does not own what happens to it afterwards: that is [`super::child`].

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

/// Commands waiting for the starting thread. Each caller waits for its answer, so as many as there
/// are callers at once: a handful; beyond this the next one waits.
const QUEUE: usize = 16;

/// A program could not be started.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// The log file could not be opened.
    #[error("cannot write the log {path}: {source}", path = path.display())]
    Log {
        /// The log file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The operating system refused a process or a thread.
    #[error("cannot start {name}: {source}")]
    Spawn {
        /// What was to be started.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The starting thread is gone, which happens only while this process ends.
    #[error("cannot start {name}: this process is ending")]
    Ending {
        /// What was to be started.
        name: String,
    },
}

/// A program to start.
#[derive(Debug, Clone)]
pub struct Program {
    /// What people call it, in messages.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its working folder.
    pub dir: PathBuf,
    /// Where its output goes, standard error included; appended to.
    pub log: PathBuf,
    /// Variables to set, or to take away, in the environment it inherits.
    pub env: Vec<(&'static str, Option<&'static str>)>,
}

/// The arguments of the hidden subcommand `exec-with-parent`.
#[derive(Debug, Clone, clap::Args)]
pub struct ExecWithParent {
    /// Process id of the parent that the program must not outlive.
    pub parent: i32,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub command: Vec<OsString>,
}

/// Starts programs by means of the `rollcall` executable.
#[derive(Debug, Clone)]
pub struct Launcher {
    rollcall: PathBuf,
}

/// A command for the starting thread, and where its process goes.
struct Request {
    command: Command,
    reply: oneshot::Sender<io::Result<process::Child>>,
}

impl Launcher {
    /// A launcher that uses the `rollcall` executable at this path.
    #[must_use]
    pub const fn new(rollcall: PathBuf) -> Self {
        Self { rollcall }
    }

    /// Starts `program` in a process group of its own, so that a terminal's Ctrl-C does not reach it.
    ///
    /// # Errors
    /// When its log cannot be opened or the system refuses a process. A program that cannot be
    /// executed is no error here: its process ends at once and its log says why.
    pub async fn start(&self, program: &Program) -> Result<Child, LaunchError> {
        let spawn = |source| LaunchError::Spawn { name: program.name.clone(), source };
        let ending = || LaunchError::Ending { name: program.name.clone() };
        let command = self.command(program)?;
        let starter = starter().map_err(spawn)?;
        let (reply, answer) = oneshot::channel();
        // No deadline on either await: the thread only forks, and lives as long as we do.
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

/// Becomes the program, which then dies when the parent does. Returns only when that failed.
#[must_use]
pub fn exec_with_parent(args: &ExecWithParent) -> io::Error {
    let Some((program, rest)) = args.command.split_first() else {
        return io::Error::other("no program was named");
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // The parent may have died before the line above: then no signal will ever come.
    if getppid().is_none_or(|parent| parent.as_raw_nonzero().get() != args.parent) {
        return io::Error::other(format!("the parent, process {}, is gone", args.parent));
    }
    let error = Command::new(program).args(rest).exec();
    io::Error::new(error.kind(), format!("{}: {error}", Path::new(program).display()))
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// The one thread that starts processes. The kernel sends the death signal when the *thread* that
/// forked ends, so this one never ends before the process does.
fn starter() -> io::Result<mpsc::Sender<Request>> {
    static STARTER: OnceLock<Result<mpsc::Sender<Request>, io::ErrorKind>> = OnceLock::new();
    STARTER
        .get_or_init(|| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            thread::Builder::new()
                .name("starter".to_owned())
                .spawn(move || serve(receiver))
                .map(|_| sender)
                .map_err(|error| error.kind())
        })
        .clone()
        .map_err(io::Error::from)
}

fn serve(mut requests: mpsc::Receiver<Request>) {
    while let Some(Request { mut command, reply }) = requests.blocking_recv() {
        let Err(unwanted) = reply.send(command.spawn()) else { continue };
        // Whoever asked has gone away meanwhile.
        if let Ok(mut process) = unwanted {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
