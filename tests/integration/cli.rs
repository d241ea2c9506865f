//! The command line, run as people run it.

use std::process::{Command, Stdio};

#[test]
fn whoever_reads_no_more_than_the_beginning_of_what_is_printed_is_told_of_no_error() {
    for command in ["openapi", "crds"] {
        let (reader, writer) = std::io::pipe().unwrap();
        // As `head` does when it has seen enough.
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
