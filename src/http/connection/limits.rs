//! How long a client may read nothing of what it is sent, in ticks of 5 s (`ticker`), and how much counts as progress.

/// For an ordinary response: 30 to 35 s.
pub(super) const STALLED_TICKS: u32 = 6;

/// For a watch: 10 to 15 s. More events will follow, and the client can reconnect.
pub(super) const STALLED_WATCH_TICKS: u32 = 2;

/// A response that had to wait has made progress when the client has taken this many bytes, or all that is left of it.
/// Without this bound a client that reads one byte now and then would hold a large response for ever.
pub(super) const PROGRESS_BYTES: usize = 4 * 1024;
