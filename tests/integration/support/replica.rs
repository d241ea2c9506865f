//! The real `rollcall serve`, as a process that ends with its test.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rollcall::dev::child::{Signal, tail};
use rollcall::dev::launch::Program;
use rollcall::dev::{Child, ports, replicas};

use super::control_plane::{launcher, state_dir};
use super::http::call;
use super::{Namespace, eventually};

/// A running replica that watches one namespace. Dropping it kills it, and prints the end of its log when the test
/// panics.
pub struct Rollcall {
    /// Its identity, `--identity`.
    pub identity: String,
    /// Its HTTP address.
    pub http: SocketAddr,
    /// Its DNS address, for UDP and TCP.
    pub dns: SocketAddr,
    /// The address of `/readyz` and `/metrics`.
    pub admin: SocketAddr,
    program: Program,
    child: Child,
}

impl Rollcall {
    /// Starts the replica `rollcall-0` and waits until it is ready.
    pub async fn start(namespace: &Namespace) -> Self {
        Self::start_with(namespace, "rollcall-0", &[]).await
    }

    /// Starts a replica with this identity and additional flags, which override those that are set here.
    pub async fn start_with(namespace: &Namespace, identity: &str, flags: &[&str]) -> Self {
        let rollcall = Self::launch(namespace, identity, flags).await;
        rollcall.until_ready().await;
        rollcall
    }

    /// Starts a replica without waiting until it is ready.
    pub async fn launch(namespace: &Namespace, identity: &str, flags: &[&str]) -> Self {
        Self::launch_with_env(namespace, identity, flags, &[]).await
    }

    /// Starts a replica with environment variables, without waiting until it is ready.
    pub async fn launch_with_env(
        namespace: &Namespace,
        identity: &str,
        flags: &[&str],
        variables: &[(&'static str, &str)],
    ) -> Self {
        let [http, dns, admin] = [(); 3].map(|()| ports::free().unwrap());
        let mut args: Vec<OsString> = vec!["serve".into()];
        let kubeconfig = namespace.rollcall_kubeconfig.to_str().unwrap();
        let name = namespace.name.as_str();
        let (http_listen, dns_listen, admin_listen) =
            (http.to_string(), dns.to_string(), admin.to_string());
        let defaults = [
            ["--kubeconfig", kubeconfig],
            ["--http-listen", http_listen.as_str()],
            ["--dns-listen", dns_listen.as_str()],
            ["--admin-listen", admin_listen.as_str()],
            ["--identity", identity],
            ["--own-namespace", name],
            ["--watch-namespace", name],
            ["--auth", "none"],
            ["--linger-seconds", "0"],
        ];
        let defaults = defaults.iter().filter(|[flag, _]| !flags.contains(flag)).flatten();
        args.extend(defaults.chain(flags).map(Into::into));
        let dir = state_dir("rollcall");
        // A program needs static values, so these are leaked for the rest of the test run.
        let leaked =
            |(name, value): &(&'static str, &str)| (*name, Some(&*value.to_string().leak()));
        let mut env = replicas::environment();
        env.extend(variables.iter().map(leaked));
        let program = Program {
            name: format!("rollcall serve ({identity} in {name})"),
            path: PathBuf::from(env!("CARGO_BIN_EXE_rollcall")),
            args,
            log: dir.join(format!("{name}-{identity}.log")),
            dir,
            env,
        };
        let child = launcher().start(&program).await.unwrap();
        Self { identity: identity.to_owned(), http, dns, admin, program, child }
    }

    /// The value of a series of its metrics; `None` before the series exists.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let answer = call(self.admin, "GET", "/metrics", None).await;
        let text = String::from_utf8(answer.body).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    /// Waits until `/readyz` answers 200.
    pub async fn until_ready(&self) {
        eventually("rollcall is ready", Duration::from_secs(60), async || {
            if let Some(end) = self.child.has_ended() {
                panic!("{}", self.child.exit_report(&end));
            }
            (replicas::status(self.admin, "/readyz").await == Some(200)).then_some(())
        })
        .await;
    }

    /// Restarts it on the same addresses, and waits until it is ready. Kills it first if it still runs.
    pub async fn restart(&mut self) {
        self.relaunch().await;
        self.until_ready().await;
    }

    /// Restarts it with another executable.
    pub async fn restart_as(&mut self, executable: &Path) {
        self.program.path = executable.to_owned();
        self.restart().await;
    }

    /// Restarts it without waiting until it is ready.
    pub async fn relaunch(&mut self) {
        self.kill().await;
        self.child = launcher().start(&self.program).await.unwrap();
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Sends SIGKILL, and waits until it has ended.
    pub async fn kill(&self) {
        self.child.kill();
        self.child.ended().await;
    }

    /// Sends SIGSTOP: the process is stalled.
    pub fn stall(&self) {
        assert!(self.child.signal(Signal::STOP), "rollcall has ended");
    }

    /// Sends SIGCONT: the process runs again.
    pub fn resume(&self) {
        assert!(self.child.signal(Signal::CONT), "rollcall has ended");
    }

    /// Sends SIGTERM without waiting.
    pub fn signal_term(&self) {
        assert!(self.child.signal(Signal::TERM), "rollcall has ended");
    }

    /// Sends SIGTERM like Kubernetes, waits until the process has ended, and returns its exit status
    /// (`exit status: 0`).
    pub async fn terminate(&self) -> String {
        self.child.signal(Signal::TERM);
        self.until_ended().await
    }

    /// Waits until the process has ended after a SIGTERM, and returns its exit status.
    pub async fn until_ended(&self) -> String {
        let bound = Duration::from_secs(30);
        eventually("rollcall ends on SIGTERM", bound, async || self.child.has_ended()).await
    }

    /// `http://host:port` and `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// Its whole log.
    pub fn whole_log(&self) -> String {
        std::fs::read_to_string(self.child.log()).unwrap()
    }

    /// The last lines of its log.
    pub fn log(&self) -> String {
        tail(self.child.log(), 40)
    }
}

impl Drop for Rollcall {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the last lines of the log of {}:\n{}", self.program.name, self.log());
        }
    }
}
