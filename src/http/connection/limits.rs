//! How long a client may go without reading data that is waiting for it, in ticks of 5 s (`ticker`), and how many bytes
//! count as progress.

/// For an ordinary response: 30 to 35 s.
pub(super) const STALLED_TICKS: u32 = 6;

/// For a watch: 10 to 15 s. More events will follow, and the client can reconnect.
pub(super) const STALLED_WATCH_TICKS: u32 = 2;

/// A response that had to wait makes progress when the client has taken this many bytes, or all that is left of the
/// response. Without this bound, a client that occasionally reads one byte could hold a large response forever.
pub(super) const PROGRESS_BYTES: usize = 4 * 1024;
