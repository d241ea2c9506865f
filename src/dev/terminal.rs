//! Progress for the person at the terminal. Does not own: what `rollcall dev` prints once all is started (`banner`).

use std::io::Write as _;

/// Tells the person at the terminal, on standard error. Also from within a test, whose own output is
/// captured: a first build takes minutes and must be seen.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "rollcall dev: {line}");
}
