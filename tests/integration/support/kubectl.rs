//! Runs the installed kubectl with every right.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::Namespace;

/// What kubectl printed, and its exit code.
#[derive(Debug)]
pub struct KubectlOutput {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl KubectlOutput {
    /// The output of a call that succeeded.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }
}

/// Runs kubectl in a namespace, with `input` as its standard input.
pub fn kubectl(ns: &Namespace, args: &[&str], input: &str) -> KubectlOutput {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(&ns.kubeconfig).args(["-n", &ns.name]).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the tests use kubectl: install it");
    let mut stdin = child.stdin.take().unwrap();
    // kubectl reads all of its input before it prints.
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    KubectlOutput {
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}
