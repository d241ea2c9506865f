//! The command line: `serve`, `dev`, `crds`, `openapi`.

use std::{
    io::{ErrorKind, Write as _, stdout},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use rollcall_api::manifests;

use crate::config::ServeArgs;
#[cfg(feature = "dev")]
use crate::dev;
use crate::http::contract;
use crate::serve;
use crate::telemetry::logs::{self, Format};

/// A service registry for Kubernetes: heartbeats in, DNS and HTTP out.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one replica of the registry
    Serve(Box<ServeArgs>),
    /// Run a real Kubernetes control plane and the registry on this machine, to try rollcall out
    #[cfg(feature = "dev")]
    Dev(dev::DevArgs),
    /// Print the custom resource definitions, for `kubectl apply -f -`
    Crds {
        /// Write the definitions to files in this directory instead
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Print the OpenAPI 3.1 document of the HTTP API
    Openapi,
    /// Run a program that ends together with its parent process
    #[cfg(feature = "dev")]
    #[command(hide = true)]
    ExecWithParent(dev::launch::ExecWithParent),
}

/// Parses the command line and runs the command.
#[must_use]
pub fn run() -> ExitCode {
    let command = Cli::parse().command;
    let format = match &command {
        Command::Serve(args) => args.log_format,
        _ => Format::Text,
    };
    match execute(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logs::print_fatal(format, &format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(args) => runtime()?.block_on(serve::run(&args)),
        #[cfg(feature = "dev")]
        Command::Dev(args) => runtime()?.block_on(dev::run(args)),
        Command::Crds { out: None } => print(manifests::stream()?.as_bytes()),
        Command::Crds { out: Some(folder) } => Ok(manifests::write(&folder).map(|_| ())?),
        Command::Openapi => print(&contract()),
        #[cfg(feature = "dev")]
        Command::ExecWithParent(args) => Err(dev::launch::exec_with_parent(&args).into()),
    }
}

fn print(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // The reader has closed the pipe, as in `rollcall openapi | head`.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")
}
