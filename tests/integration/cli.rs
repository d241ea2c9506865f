//! The command line.

use std::process::{Command, Stdio};

#[test]
fn closed_output_pipe_is_not_an_error() {
    for command in ["openapi", "crds"] {
        let (reader, writer) = std::io::pipe().unwrap();
        // `head` closes its input in the same way when it has enough lines.
        drop(reader);
        let ended = Command::new(env!("CARGO_BIN_EXE_rollcall"))
            .arg(command)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let errors = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.success() && errors.is_empty(), "{command}: {errors}");
    }
}
