//! `rollcall dev` as a child process, and the CPU time of its processes.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use super::ask::eventually;

/// A running `rollcall dev`, with its own control plane.
pub struct Dev {
    child: Child,
    pub dir: PathBuf,
    /// The content of `dev.json`: processes and addresses.
    pub facts: Value,
}

impl Dev {
    /// Starts `rollcall dev` with this many replicas on free ports, and waits until all are ready.
    pub fn start(replicas: usize) -> Self {
        let dir =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{}", std::process::id()));
        let mut child = Command::new(env!("CARGO_BIN_EXE_rollcall"))
            // All load comes from one address at full speed, so rate limits are off.
            .envs([("ROLLCALL_HTTP_CALLER_RATE", "0"), ("ROLLCALL_HTTP_NAMESPACE_RATE", "0")])
            .args(["dev", "--no-samples", "--replicas", &replicas.to_string(), "--state-dir"])
            .arg(&dir)
            .args(["--http-listen", "127.0.0.1:0", "--dns-listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let ready = dir.join("dev.json");
        // The very first start has to build the control plane.
        eventually(Duration::from_secs(1800), || {
            assert!(child.try_wait().unwrap().is_none(), "rollcall dev ended");
            ready.exists().then_some(())
        });
        let facts = serde_json::from_slice(&std::fs::read(ready).unwrap()).unwrap();
        Self { child, dir, facts }
    }

    /// A member of the entry of one replica in `dev.json`.
    pub fn replica(&self, index: usize, member: &str) -> &Value {
        &self.facts["replicas"][index][member]
    }

    /// The kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.facts["kubeconfig"].as_str().unwrap().into()
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

/// The CPU seconds (user and system) of a process so far, in steps of 10 ms.
pub fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<_> = after.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / rustix::param::clock_ticks_per_second() as f64
}
