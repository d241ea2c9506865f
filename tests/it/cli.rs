//! The command line, run as people run it.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

#[test]
fn whoever_reads_no_more_than_the_beginning_of_what_is_printed_is_told_of_no_error() {
    for (command, first) in [("openapi", "{\n"), ("crds", "---\n")] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rollcall"))
            .arg(command)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // As `head -1` does.
        let mut line = String::new();
        BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, first);
        let ended = child.wait_with_output().unwrap();
        let errors = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.success() && errors.is_empty(), "{command}: {errors}");
    }
}
