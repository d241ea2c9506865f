//! The clauses of the protocol that can be taken out, one by one.
//!
//! For the simulation and the model alone: each clause is there because without it a promise is broken
//! (docs/protocol.md), and they prove that by taking it out and being broken. The program always
//! keeps all of them.

/// Which clauses are kept; by default all.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Beats are moved by the upper bound of the clocks' difference, the horizon by the lower one;
    /// else both by the upper one.
    pub two_bounds: bool,
    /// How many milliseconds a bound loses a second.
    pub ageing: u64,
    /// A changed boot counts as gone.
    pub changed_boot_is_gone: bool,
    /// Floors add as a maximum; else a beat is extended once.
    pub floors_add_up: bool,
    /// Nobody answers 200 whose ledger is not known to the others.
    pub fence: bool,
    /// The fence counts from the stamp; else from when the own ledger was seen back.
    pub fence_by_stamp: bool,
    /// After the fence beats are answered only behind a self-beat that was sent after it.
    pub fence_waits_for_instances: bool,
    /// A self-beat counts from the first sending of its value; else from the latest attempt.
    pub first_sending: bool,
    /// A late beat is a revival, whatever floors there are.
    pub late_beat_is_revival: bool,
    /// Missing segments are a gap.
    pub missing_is_gap: bool,
    /// A replica that fell silent holds deadlines.
    pub silent_holds: bool,
    /// Own ledgers hold the horizon.
    pub own_ledger_holds: bool,
    /// Objects are evicted only when all live replicas have seen them expired.
    pub evictions_acknowledged: bool,
    /// A replica that others wait for answers at once.
    pub ask: bool,
    /// A service is not emptied at a stroke.
    pub guard: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            two_bounds: true,
            ageing: 1,
            changed_boot_is_gone: true,
            floors_add_up: true,
            fence: true,
            fence_by_stamp: true,
            fence_waits_for_instances: true,
            first_sending: true,
            late_beat_is_revival: true,
            missing_is_gap: true,
            silent_holds: true,
            own_ledger_holds: true,
            evictions_acknowledged: true,
            ask: true,
            guard: true,
        }
    }
}
