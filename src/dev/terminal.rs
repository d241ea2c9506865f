//! Progress messages on the terminal. Does not own: the text that `rollcall dev` prints once everything is ready
//! (`banner`).

use std::io::Write as _;

/// Prints a line on standard error. It bypasses the output capture of tests, because a first build takes minutes and
/// its progress must be visible.
pub(super) fn print_progress(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "rollcall dev: {line}");
}
