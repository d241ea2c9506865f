//! The horizon of the instance watch: the moment up to which this replica knows every stored heartbeat.
//!
//! A replica writes a self-beat (an annotation on its own `ServiceInstance`) and waits until the instance
//! watch delivers it. A watch delivers in resourceVersion order, so by then every heartbeat that was
//! stored before the self-beat has arrived: the horizon is the moment at which the value was first sent.
//! Any failure in between (an API server that does not answer, is slow or is read-only, a broken watch, a
//! process that was stopped) stalls the horizon, and no lease is judged.
//!
//! Owns: which self-beats are under way, when the next one is due, and the horizon that follows from them.
//! Does not own: writing self-beats (`heartbeat` in the server), and judging leases (`catalog`).

use std::{collections::VecDeque, marker::PhantomData, sync::Arc, time::Duration};

use rollcall_model::lease::{Moment, Now};

use crate::{
    pacer::{PERIOD, Pacer, REPEAT_AFTER},
    report::{Cause, Standstill},
    rules::{AllRules, Rules},
};

/// A horizon older than this is stale.
pub const STALE_AFTER: Duration = Duration::from_secs(15);

/// A write that takes longer than this was delayed, and heartbeats of clients were probably delayed, too.
const DELAYED_AFTER: Duration = Duration::from_secs(1);

/// Maximum number of self-beats that are remembered until the watch delivers them: two minutes at the
/// fastest pace. An older one that arrives later does not move the horizon, which is safe.
const MAX_PENDING: usize = 256;

/// A self-beat that was sent and that the watch has not delivered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pending {
    value: String,
    sent: Moment,
}

/// The horizon of the instance watch, and the self-beats that move it.
#[derive(Debug)]
pub struct Horizon<R: Rules = AllRules> {
    moment: Moment,
    boot: String,
    rules: PhantomData<R>,
    sequence: u64,
    pending: VecDeque<Pending>,
    in_flight: bool,
    pacer: Pacer,
    /// The last moment at which the API server is known to have accepted writes: when the last delivered
    /// self-beat was sent, or, before any was delivered, when the first one was sent.
    accepted_until: Option<Moment>,
    /// Whether a write has failed or was delayed since then. Otherwise the watch was only slow, and there
    /// was no outage.
    failed: bool,
    /// When the oldest self-beat was sent that the watch has not delivered.
    undelivered_since: Option<Moment>,
    refused: Option<Arc<str>>,
}

impl<R: Rules> Horizon<R> {
    /// A horizon at 0. `boot` distinguishes the self-beats of this process from those of an earlier one.
    #[must_use]
    pub fn new(boot: &str) -> Self {
        Self {
            moment: Moment::default(),
            boot: boot.to_owned(),
            rules: PhantomData,
            sequence: 0,
            pending: VecDeque::new(),
            in_flight: false,
            pacer: Pacer::default(),
            accepted_until: None,
            failed: false,
            undelivered_since: None,
            refused: None,
        }
    }

    /// The moment up to which everything is known.
    #[must_use]
    pub fn moment(&self) -> Moment {
        self.moment
    }

    /// The value of the self-beat to send now, if one is due. `due` is the latest deadline that waits for the
    /// horizon.
    pub fn next_self_beat(&mut self, now: Now, due: Option<Moment>) -> Option<String> {
        let since_last =
            self.pacer.since_last(now.moment).is_none_or(|since_last| since_last >= PERIOD);
        let wanted = !self.in_flight && (since_last || self.pacer.is_due(due, now.moment));
        if !wanted || !self.pacer.try_charge(now.moment) {
            return None;
        }
        self.sequence += 1;
        let value = format!("{} {}/{}", now.wall, self.boot, self.sequence);
        self.pending.push_back(Pending { value: value.clone(), sent: now.moment });
        if self.pending.len() > MAX_PENDING {
            self.pending.pop_front();
        }
        self.in_flight = true;
        self.accepted_until.get_or_insert(now.moment);
        self.undelivered_since.get_or_insert(now.moment);
        Some(value)
    }

    /// When the next self-beat is sent if no deadline waits for the horizon.
    #[must_use]
    pub fn next(&self) -> Moment {
        self.pacer.last().map_or_else(Moment::default, |sent| sent.after(PERIOD))
    }

    /// The write of a self-beat was answered or abandoned. A write without an answer may still have been
    /// stored. If the watch has already delivered its value, only the answer was lost, and that is not a
    /// failure.
    pub fn written(&mut self, failure: Option<Arc<str>>, now: Moment) {
        self.in_flight = false;
        self.failed |= (failure.is_some() || self.is_delayed(now)) && !self.pending.is_empty();
        self.refused = failure.filter(|_| !self.pending.is_empty());
    }

    /// The instance watch delivered this value of the replica's own heartbeat annotation. If that ends an
    /// outage, returns the longest time that the outage may have lasted: it can have begun at any time
    /// after the last success, and a client that sends heartbeats more often than this replica may have
    /// lost more of them than failed here.
    pub fn observe(&mut self, value: &str, now: Moment) -> Option<Duration> {
        let at = self.pending.iter().position(|pending| pending.value == value)?;
        let sent = self.pending.get(at)?.sent;
        let sent = if R::FIRST_SENDING { sent } else { self.pacer.last()? };
        self.pending.drain(..=at);
        self.undelivered_since = self.pending.front().map(|pending| pending.sent);
        self.refused = self.refused.take().filter(|_| self.undelivered_since.is_some());
        self.moment = self.moment.max(sent);
        let outage = std::mem::take(&mut self.failed) || (self.in_flight && self.is_delayed(now));
        let lost =
            self.accepted_until.replace(sent).map_or(Duration::ZERO, |known| now.since(known));
        outage.then_some(lost)
    }

    /// Why the horizon does not move, once a self-beat takes longer than usual. `interrupted` is the error of
    /// the watch, if there is one.
    #[must_use]
    pub fn standstill(&self, now: Moment, interrupted: &Option<Arc<str>>) -> Option<Standstill> {
        let since = self.undelivered_since?;
        let cause = match &self.refused {
            Some(reason) => Cause::Unwritten(reason.clone()),
            None if now.since(since) <= REPEAT_AFTER => return None,
            None => Cause::NotBack(interrupted.clone()),
        };
        Some(Standstill { since, cause })
    }

    fn is_delayed(&self, now: Moment) -> bool {
        self.pacer.since_last(now).is_some_and(|since_last| since_last > DELAYED_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { moment: Moment(ms), ..Now::default() }
    }

    fn send(horizon: &mut Horizon, ms: u64, due: Option<u64>) -> Option<String> {
        horizon.next_self_beat(at(ms), due.map(Moment))
    }

    #[test]
    fn horizon_is_the_moment_at_which_the_self_beat_was_first_sent() {
        let mut horizon = Horizon::<AllRules>::new("b");
        let value = send(&mut horizon, 1000, None).unwrap();
        horizon.written(None, Moment(1050));
        assert_eq!(horizon.moment(), Moment(0), "a self-beat that was only sent moves nothing");
        horizon.observe(&value, Moment(1700));
        assert_eq!(horizon.moment(), Moment(1000));
    }

    #[test]
    fn late_self_beat_counts_from_its_own_first_sending() {
        let mut horizon = Horizon::<AllRules>::new("b");
        let old = send(&mut horizon, 1000, None).unwrap();
        horizon.written(Some("away".into()), Moment(3000));
        send(&mut horizon, 6000, None).unwrap();
        horizon.observe(&old, Moment(6500));
        assert_eq!(horizon.moment(), Moment(1000));
    }

    #[test]
    fn self_beat_of_another_boot_does_not_move_the_horizon() {
        let mut horizon = Horizon::<AllRules>::new("b");
        let _ = send(&mut horizon, 1000, None);
        horizon.observe("t a/1", Moment(1100));
        assert_eq!(horizon.moment(), Moment(0));
    }

    #[test]
    fn due_deadline_sends_self_beats_at_the_allowed_pace() {
        let mut horizon = Horizon::<AllRules>::new("b");
        let mut sent = 0;
        for ms in (10_000..20_000).step_by(50) {
            if send(&mut horizon, ms, Some(ms - 1)).is_some() {
                sent += 1;
                horizon.written(None, Moment(ms));
            }
        }
        assert!(
            (20..=23).contains(&sent),
            "expected two a second and a burst of three, sent {sent}"
        );
    }

    /// Sends a self-beat at `sent` that is answered at `answered`; returns its value.
    fn write(horizon: &mut Horizon, sent: u64, answered: u64, ok: bool) -> String {
        let value = send(horizon, sent, None).unwrap();
        horizon.written((!ok).then(|| "away".into()), Moment(answered));
        value
    }

    #[test]
    fn outage_is_reported_once_since_the_last_success_and_slow_watch_is_not_an_outage() {
        let mut horizon = Horizon::<AllRules>::new("b");
        let slow = write(&mut horizon, 1000, 1010, true);
        assert_eq!(horizon.observe(&slow, Moment(5900)), None);
        write(&mut horizon, 6000, 8000, false);
        let value = write(&mut horizon, 60_000, 60_005, true);
        assert_eq!(horizon.observe(&value, Moment(60_010)), Some(Duration::from_millis(59_010)));
        let value = write(&mut horizon, 66_000, 66_005, true);
        assert_eq!(horizon.observe(&value, Moment(66_010)), None);
    }

    #[test]
    fn delayed_write_is_an_outage_whether_answer_or_watch_comes_first() {
        let mut horizon = Horizon::<AllRules>::new("b");
        let value = write(&mut horizon, 1000, 2500, true);
        assert_eq!(horizon.observe(&value, Moment(2510)), Some(Duration::from_millis(1510)));
        let value = send(&mut horizon, 7000, None).unwrap();
        assert_eq!(horizon.observe(&value, Moment(8500)), Some(Duration::from_millis(7500)));
        horizon.written(None, Moment(8510));
        let value = write(&mut horizon, 13_000, 13_010, true);
        assert_eq!(horizon.observe(&value, Moment(13_020)), None);
    }

    #[test]
    fn lost_answer_to_a_delivered_self_beat_is_not_an_outage() {
        let mut horizon = Horizon::<AllRules>::new("b");
        let value = send(&mut horizon, 1000, None).unwrap();
        assert_eq!(horizon.observe(&value, Moment(1010)), None);
        horizon.written(Some("away".into()), Moment(3000));
        let value = write(&mut horizon, 6000, 6005, true);
        assert_eq!(horizon.observe(&value, Moment(6010)), None);
    }

    #[test]
    fn writes_failing_since_the_start_are_an_outage_since_the_start() {
        let mut horizon = Horizon::<AllRules>::new("b");
        write(&mut horizon, 1000, 3000, false);
        let value = write(&mut horizon, 9000, 9005, true);
        assert_eq!(horizon.observe(&value, Moment(9010)), Some(Duration::from_millis(8010)));
    }

    #[test]
    fn standstill_names_its_cause_and_the_first_missing_self_beat() {
        let stands = |horizon: &Horizon, ms| {
            let standstill = horizon.standstill(Moment(ms), &None);
            standstill.map(|it| (it.since.0, it.cause))
        };
        let mut horizon = Horizon::<AllRules>::new("b");
        let value = write(&mut horizon, 1000, 1010, true);
        assert_eq!(stands(&horizon, 1500), None, "the self-beat is on its way");
        horizon.observe(&value, Moment(1600));
        assert_eq!(stands(&horizon, 5900), None, "no self-beat is under way");
        write(&mut horizon, 6000, 6010, true);
        assert_eq!(stands(&horizon, 7500), Some((6000, Cause::NotBack(None))));
        write(&mut horizon, 11_000, 11_005, false);
        let unwritten = |since| Some((since, Cause::Unwritten("away".into())));
        assert_eq!(stands(&horizon, 11_010), unwritten(6000));
        let value = write(&mut horizon, 16_000, 16_005, true);
        write(&mut horizon, 21_000, 21_005, false);
        horizon.observe(&value, Moment(21_006));
        assert_eq!(stands(&horizon, 21_010), unwritten(21_000));
        let value = write(&mut horizon, 26_000, 26_005, true);
        horizon.observe(&value, Moment(26_010));
        assert_eq!(stands(&horizon, 30_000), None);
    }
}
