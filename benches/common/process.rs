//! The measured processes: the replica and the bare servers.

use std::{
    ffi::OsStr,
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use rustix::{
    process::Pid,
    thread::{CpuSet, sched_setaffinity},
};

use super::dev::{Dev, cpu};

/// The process id of the only replica.
pub fn replica_pid(dev: &Dev) -> u32 {
    dev.replica(0, "pid").as_u64().unwrap() as u32
}

/// The HTTP address of the only replica.
pub fn http(dev: &Dev) -> SocketAddr {
    dev.replica(0, "http").as_str().unwrap().parse().unwrap()
}

/// The DNS address of the only replica.
pub fn dns(dev: &Dev) -> SocketAddr {
    dev.replica(0, "dns").as_str().unwrap().parse().unwrap()
}

/// A child process of this executable that runs as one of the bare servers.
pub struct Bare {
    child: Child,
    pub pid: u32,
    pub address: SocketAddr,
}

impl Bare {
    /// Starts a server that sends `size` bytes each time. It is killed when this is dropped.
    pub fn start(kind: &str, size: usize, arguments: &[&OsStr]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([kind, &size.to_string()])
            .args(arguments)
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

/// The CPU time (user and system) in µs that a process spends per unit of `work`, which returns the number of units.
pub fn cpu_per(pid: u32, work: impl FnOnce() -> usize) -> f64 {
    let before = cpu(pid);
    let units = work();
    (cpu(pid) - before) * 1e6 / units as f64
}

/// Pins a process with all its threads to one core. Threads that it starts later inherit that.
pub fn pin(pid: u32, core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let thread: i32 = thread.unwrap().file_name().to_str().unwrap().parse().unwrap();
        // The thread may have ended since it was listed.
        let _ = sched_setaffinity(Pid::from_raw(thread), &set);
    }
}

/// A field of /proc/PID/status, in MiB.
pub fn memory(pid: u32, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
