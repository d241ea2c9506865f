//! The processes that are measured: `rollcall dev`, and the bare servers beside it.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::load;

/// A registry with a control plane of its own.
pub struct Dev {
    child: Child,
    pub dir: PathBuf,
    facts: serde_json::Value,
}

impl Dev {
    /// Starts `rollcall dev` on free ports, and waits until it is ready.
    pub fn start() -> Self {
        let dir =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cost-{}", std::process::id()));
        let [http, dns, admin] = [load::free_port(), load::free_port(), load::free_port()];
        let child = Command::new(env!("CARGO_BIN_EXE_rollcall"))
            .args(["dev", "--no-samples", "--state-dir"])
            .arg(&dir)
            .args(["--http-listen", &http, "--dns-listen", &dns, "--admin-listen", &admin])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let ready = dir.join("dev.json");
        load::eventually(Duration::from_secs(1800), || ready.exists().then_some(()));
        let facts = serde_json::from_slice(&std::fs::read(ready).unwrap()).unwrap();
        Self { child, dir, facts }
    }

    fn replica(&self, what: &str) -> &serde_json::Value {
        &self.facts["replicas"][0][what]
    }

    pub fn replica_pid(&self) -> u32 {
        self.replica("pid").as_u64().unwrap() as u32
    }

    pub fn http(&self) -> SocketAddr {
        self.replica("http").as_str().unwrap().parse().unwrap()
    }

    pub fn dns(&self) -> SocketAddr {
        self.replica("dns").as_str().unwrap().parse().unwrap()
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.facts["kubeconfig"].as_str().unwrap().into()
    }

    /// `kubectl apply`.
    pub fn apply(&self, yaml: &str) {
        let mut kubectl = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(["apply", "--server-side", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("kubectl is needed");
        kubectl.stdin.take().unwrap().write_all(yaml.as_bytes()).unwrap();
        assert!(kubectl.wait().unwrap().success());
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// This benchmark again, as one of the bare servers.
pub struct Bare {
    child: Child,
    pub pid: u32,
    pub address: SocketAddr,
}

impl Bare {
    /// Starts it; it answers `size` octets to whatever comes. It ends with its standard input.
    pub fn start(kind: &str, size: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([kind, &size.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        let pid = child.id();
        Self { child, pid, address: line.trim().parse().unwrap() }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU (user and system) in µs that a process spends per unit of `work`, which answers how many
/// units it did.
pub fn cpu_per(pid: u32, work: impl FnOnce() -> usize) -> f64 {
    let before = cpu(pid);
    let units = work();
    (cpu(pid) - before) * 1e6 / units as f64
}

/// CPU seconds of a process so far, in steps of 10 ms.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<_> = after.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / rustix::param::clock_ticks_per_second() as f64
}

/// A line of /proc/PID/status, in MiB.
pub fn memory(pid: u32, what: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
