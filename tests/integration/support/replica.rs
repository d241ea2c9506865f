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

/// A running replica that watches one namespace. Dropped, it is killed; when the test panics, the end of its log
/// is shown.
pub struct Rollcall {
    /// Its name among the replicas.
    pub identity: String,
    /// Where it answers HTTP.
    pub http: SocketAddr,
    /// Where it answers DNS, over UDP and TCP.
    pub dns: SocketAddr,
    /// Where `/readyz` and `/metrics` are.
    pub admin: SocketAddr,
    program: Program,
    child: Child,
}

impl Rollcall {
    /// Starts the replica `rollcall-0` and waits until it is ready.
    pub async fn start(namespace: &Namespace) -> Self {
        Self::start_with(namespace, "rollcall-0", &[]).await
    }

    /// The same with an identity and further flags, which win over those set here.
    pub async fn start_with(namespace: &Namespace, identity: &str, flags: &[&str]) -> Self {
        let rollcall = Self::launch(namespace, identity, flags).await;
        rollcall.until_ready().await;
        rollcall
    }

    /// The same, without waiting for anything.
    pub async fn launch(namespace: &Namespace, identity: &str, flags: &[&str]) -> Self {
        Self::launch_in(namespace, identity, flags, &[]).await
    }

    /// The same, with variables in its environment.
    pub async fn launch_in(
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
        let own = [
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
        let own = own.iter().filter(|[flag, _]| !flags.contains(flag)).flatten();
        args.extend(own.chain(flags).map(Into::into));
        let dir = state_dir("rollcall");
        // The values live as long as the test run, which is as long as they are needed.
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

    /// A figure of its metrics; none before it was ever counted.
    pub async fn figure(&self, series: &str) -> Option<f64> {
        let answer = call(self.admin, "GET", "/metrics", None).await;
        let text = String::from_utf8(answer.body).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    /// Waits until `/readyz` says yes.
    pub async fn until_ready(&self) {
        eventually("rollcall is ready", Duration::from_secs(60), async || {
            if let Some(end) = self.child.has_ended() {
                panic!("{}", self.child.obituary(&end));
            }
            (replicas::status(self.admin, "/readyz").await == Some(200)).then_some(())
        })
        .await;
    }

    /// Starts it anew on the same addresses, after it was ended in whatever way, and waits until it is ready.
    pub async fn restart(&mut self) {
        self.relaunch().await;
        self.until_ready().await;
    }

    /// The same, as another executable.
    pub async fn becomes(&mut self, executable: &Path) {
        self.program.path = executable.to_owned();
        self.restart().await;
    }

    /// The same, without waiting for it to be ready.
    pub async fn relaunch(&mut self) {
        self.kill().await;
        self.child = launcher().start(&self.program).await.unwrap();
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill(&self) {
        self.child.kill();
        self.child.ended().await;
    }

    /// `kill -STOP`: it stands still.
    pub fn freeze(&self) {
        assert!(self.child.signal(Signal::STOP), "rollcall is gone");
    }

    /// `kill -CONT`: it goes on.
    pub fn thaw(&self) {
        assert!(self.child.signal(Signal::CONT), "rollcall is gone");
    }

    /// SIGTERM, and no waiting.
    pub fn signal_term(&self) {
        assert!(self.child.signal(Signal::TERM), "rollcall is gone");
    }

    /// SIGTERM, as Kubernetes does, and waits until it is gone; how it ended (`exit status: 0`).
    pub async fn terminate(&self) -> String {
        self.child.signal(Signal::TERM);
        self.until_ended().await
    }

    /// Waits until it is gone, after a SIGTERM; how it ended.
    pub async fn until_ended(&self) -> String {
        let bound = Duration::from_secs(30);
        eventually("rollcall ends on SIGTERM", bound, async || self.child.has_ended()).await
    }

    /// `http://host:port` and `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// All of its log.
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
            eprintln!("the end of the log of {}:\n{}", self.program.name, self.log());
        }
    }
}
