//! What the probes of the admin port ask. Does not own: the port (`admin`), and who answers (`serve`).

/// What the probes ask.
pub trait Probes: Send + Sync + 'static {
    /// Whether queries could be answered at some time.
    fn is_started(&self) -> bool;

    /// Why queries should not come here now; none when they may.
    fn unready(&self) -> Option<String>;
}
