//! The interface between the probes of the admin port and the replica. Does not own: the port (`admin`), and the
//! implementation (`serve`).

/// Answers the probes.
pub trait Probes: Send + Sync + 'static {
    /// Whether the replica has been able to answer queries at least once.
    fn is_started(&self) -> bool;

    /// Why the replica should not receive queries now; `None` when it is ready.
    fn unready(&self) -> Option<String>;
}
