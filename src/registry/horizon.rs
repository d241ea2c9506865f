//! The horizon: the moment up to which this replica knows everything that anybody witnessed.
//!
//! A replica writes a self-beat (an annotation on its own `ServiceInstance`) and waits until the
//! instance watch brings it back. A watch delivers in resourceVersion order, so every beat that
//! was stored before that self-beat has been seen by then: the horizon is where the value was
//! first sent. Whatever stands between (an API server that is away, slow or read-only, a dead
//! watch, a frozen process) makes the horizon stand still, and nobody is judged.
//!
//! Owns: which self-beats are under way, when the next one is wanted, and how far the horizon has
//! come. Does not own: writing them (`witness`) and judging behind it (`catalog`).

use std::{collections::VecDeque, time::Duration};

use crate::registry::lease::{Moment, Now, millis};

/// A sign of life when nothing is due.
const PERIOD: Duration = Duration::from_secs(5);

/// Past this age the horizon is called stale.
pub const STALE_AFTER: Duration = Duration::from_secs(15);

/// A self-beat that is not back after this long is sent again, when something waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shortest distance of two self-beats.
const SPACING: Duration = Duration::from_millis(200);

/// What one self-beat costs, and the most that can be saved up: two a second, three at once.
const COST: Duration = Duration::from_millis(500);
const SAVINGS: Duration = Duration::from_millis(1500);

/// An outage shorter than this is not given back: it is within what one write may take.
const OUTAGE: Duration = Duration::from_secs(2);

/// Self-beats remembered until they are seen: two minutes at the fastest pace. An older one that
/// turns up later moves nothing, which is safe.
const MAX_PENDING: usize = 256;

/// A self-beat that was sent and not yet seen back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pending {
    value: String,
    sent: Moment,
}

/// How far this replica has seen.
#[derive(Debug)]
pub struct Horizon {
    moment: Moment,
    boot: String,
    sequence: u64,
    pending: VecDeque<Pending>,
    in_flight: bool,
    last_sent: Option<Moment>,
    /// When the oldest self-beat was sent that the present outage has kept from coming back.
    waiting_since: Option<Moment>,
    /// Whether a write failed since then: only then is it an outage, and not just a slow watch.
    failed: bool,
    credit: Duration,
    credited: Moment,
}

impl Horizon {
    /// Nothing seen yet. `boot` tells this process's self-beats from those of an earlier one.
    #[must_use]
    pub fn new(boot: &str) -> Self {
        Self {
            moment: Moment::default(),
            boot: boot.to_owned(),
            sequence: 0,
            pending: VecDeque::new(),
            in_flight: false,
            last_sent: None,
            waiting_since: None,
            failed: false,
            credit: SAVINGS,
            credited: Moment::default(),
        }
    }

    /// Behind this moment everything is known.
    #[must_use]
    pub fn moment(&self) -> Moment {
        self.moment
    }

    /// The value of a self-beat to send now, if one is wanted: `due` is the earliest deadline
    /// that waits for the horizon to pass it. `shown` writes wall time for people.
    pub fn wanted(
        &mut self,
        now: Now,
        due: Option<Moment>,
        shown: impl Fn(Now) -> String,
    ) -> Option<String> {
        self.save_up(now.moment);
        if self.in_flight || !self.is_time(now.moment, due) || self.credit < COST {
            return None;
        }
        self.credit -= COST;
        self.sequence += 1;
        let value = format!("{} {}/{}", shown(now), self.boot, self.sequence);
        self.pending.push_back(Pending { value: value.clone(), sent: now.moment });
        if self.pending.len() > MAX_PENDING {
            self.pending.pop_front();
        }
        self.in_flight = true;
        self.last_sent = Some(now.moment);
        self.waiting_since.get_or_insert(now.moment);
        Some(value)
    }

    /// When a self-beat is wanted next though nothing is due.
    #[must_use]
    pub fn next(&self) -> Moment {
        self.last_sent.map_or_else(Moment::default, |sent| sent.after(PERIOD))
    }

    /// The write of a self-beat was answered, or given up. A failed one may still come back.
    pub fn written(&mut self, ok: bool) {
        self.in_flight = false;
        self.failed |= !ok;
    }

    /// The instance watch brought this value of the own heartbeat annotation. Answers how long an
    /// outage was that this ended.
    pub fn seen(&mut self, value: &str, now: Moment) -> Option<Duration> {
        let at = self.pending.iter().position(|pending| pending.value == value)?;
        let sent = self.pending.get(at)?.sent;
        self.pending.drain(..=at);
        self.moment = self.moment.max(sent);
        let waited = self.waiting_since.map_or(Duration::ZERO, |since| now.since(since));
        let outage = self.failed && waited > OUTAGE;
        self.waiting_since = self.pending.front().map(|pending| pending.sent);
        self.failed = false;
        outage.then_some(waited)
    }

    fn is_time(&self, now: Moment, due: Option<Moment>) -> bool {
        let Some(last) = self.last_sent else { return true };
        let quiet = now.since(last);
        match due {
            Some(due) if last > due => quiet >= PATIENCE,
            Some(_) => quiet >= SPACING,
            None => quiet >= PERIOD,
        }
    }

    fn save_up(&mut self, now: Moment) {
        let earned = Duration::from_millis(millis(now.since(self.credited)));
        self.credit = SAVINGS.min(self.credit + earned);
        self.credited = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { moment: Moment(ms), ..Now::default() }
    }

    fn send(horizon: &mut Horizon, ms: u64, due: Option<u64>) -> Option<String> {
        horizon.wanted(at(ms), due.map(Moment), |_| "t".into())
    }

    #[test]
    fn the_horizon_is_where_the_seen_value_was_first_sent() {
        let mut horizon = Horizon::new("b");
        let value = send(&mut horizon, 1000, None).unwrap();
        horizon.written(true);
        assert_eq!(horizon.moment(), Moment(0), "sent is not seen");
        horizon.seen(&value, Moment(1700));
        assert_eq!(horizon.moment(), Moment(1000));
    }

    #[test]
    fn an_older_attempt_that_lands_late_is_not_credited_a_newer_time() {
        let mut horizon = Horizon::new("b");
        let old = send(&mut horizon, 1000, None).unwrap();
        horizon.written(false);
        send(&mut horizon, 6000, None).unwrap();
        horizon.seen(&old, Moment(6500));
        assert_eq!(horizon.moment(), Moment(1000));
    }

    #[test]
    fn another_boots_value_moves_nothing() {
        let mut horizon = Horizon::new("b");
        let _ = send(&mut horizon, 1000, None);
        horizon.seen("t a/1", Moment(1100));
        assert_eq!(horizon.moment(), Moment(0));
    }

    #[test]
    fn when_something_is_due_self_beats_follow_at_their_pace() {
        let mut horizon = Horizon::new("b");
        let mut sent = 0;
        for ms in (10_000..20_000).step_by(50) {
            if send(&mut horizon, ms, Some(ms - 1)).is_some() {
                sent += 1;
                horizon.written(true);
            }
        }
        assert!((20..=23).contains(&sent), "two a second and a burst of three, not {sent}");
    }

    #[test]
    fn an_outage_is_told_once_with_its_length_and_a_slow_watch_is_none() {
        let mut horizon = Horizon::new("b");
        let slow = send(&mut horizon, 1000, None).unwrap();
        horizon.written(true);
        assert_eq!(horizon.seen(&slow, Moment(5900)), None);
        send(&mut horizon, 6000, None).unwrap();
        horizon.written(false);
        let value = send(&mut horizon, 60_000, None).unwrap();
        horizon.written(true);
        assert_eq!(horizon.seen(&value, Moment(60_010)), Some(Duration::from_millis(54_010)));
        let value = send(&mut horizon, 66_000, None).unwrap();
        horizon.written(true);
        assert_eq!(horizon.seen(&value, Moment(66_010)), None);
    }
}
