//! How long a client may take nothing of what it is sent, in ticks of 5 s (`rounds`), and what counts as taking something.

/// A client that takes nothing of its answer for 30 to 35 s.
pub(super) const STUCK_TICKS: u32 = 6;

/// One that takes nothing of a stream for 10 to 15 s: there is more to come, and it can come back.
pub(super) const STUCK_STREAM_TICKS: u32 = 2;

/// So much has to be taken of an answer that had to wait, unless it is all of it, to have moved: a client that takes an octet
/// now and then would hold a large answer for ever.
pub(super) const MOVED: usize = 4 * 1024;
