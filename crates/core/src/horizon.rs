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

use std::{collections::VecDeque, marker::PhantomData, sync::Arc, time::Duration};

use rollcall_model::lease::{Moment, Now};

use crate::{
    pacer::{PATIENCE, PERIOD, Pacer},
    report::{Cause, Standstill},
    rules::{AllRules, Rules},
};

/// Past this age the horizon is called stale.
pub const STALE_AFTER: Duration = Duration::from_secs(15);

/// A write that takes longer than this was held up, as others' beats will have been.
const HELD_UP: Duration = Duration::from_secs(1);

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
pub struct Horizon<R: Rules = AllRules> {
    moment: Moment,
    boot: String,
    rules: PhantomData<R>,
    sequence: u64,
    pending: VecDeque<Pending>,
    in_flight: bool,
    pacer: Pacer,
    /// Until when the API server is known to have taken writes: the sending of the self-beat seen
    /// last, or of the first of all.
    known: Option<Moment>,
    /// Whether a write failed or was held up since then: only then is it an outage, and not just a
    /// slow watch.
    failed: bool,
    /// The sending of the first self-beat after the one that was seen last.
    unseen: Option<Moment>,
    /// Why the last write failed, if it did.
    refused: Option<Arc<str>>,
}

impl<R: Rules> Horizon<R> {
    /// Nothing seen yet. `boot` tells this process's self-beats from those of an earlier one.
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
            known: None,
            failed: false,
            unseen: None,
            refused: None,
        }
    }

    /// Behind this moment everything is known.
    #[must_use]
    pub fn moment(&self) -> Moment {
        self.moment
    }

    /// The value of a self-beat to send now, if one is wanted: `due` is the earliest deadline
    /// that waits for the horizon to pass it.
    pub fn wanted(&mut self, now: Now, due: Option<Moment>) -> Option<String> {
        let quiet = self.pacer.quiet(now.moment).is_none_or(|quiet| quiet >= PERIOD);
        let wanted = !self.in_flight && (quiet || self.pacer.is_due(due, now.moment));
        if !wanted || !self.pacer.pay(now.moment) {
            return None;
        }
        self.sequence += 1;
        let value = format!("{} {}/{}", now.wall, self.boot, self.sequence);
        self.pending.push_back(Pending { value: value.clone(), sent: now.moment });
        if self.pending.len() > MAX_PENDING {
            self.pending.pop_front();
        }
        self.in_flight = true;
        self.known.get_or_insert(now.moment);
        self.unseen.get_or_insert(now.moment);
        Some(value)
    }

    /// When a self-beat is wanted next though nothing is due.
    #[must_use]
    pub fn next(&self) -> Moment {
        self.pacer.last().map_or_else(Moment::default, |sent| sent.after(PERIOD))
    }

    /// The write of a self-beat was answered, or given up. A failed one may still come back; one
    /// that is back already has not failed, only its answer was lost.
    pub fn written(&mut self, failure: Option<Arc<str>>, now: Moment) {
        self.in_flight = false;
        self.failed |= (failure.is_some() || self.is_held_up(now)) && !self.pending.is_empty();
        self.refused = failure.filter(|_| !self.pending.is_empty());
    }

    /// The instance watch brought this value of the own heartbeat annotation. Answers how long an
    /// outage may have been that this ended: it began at some time after the last success, and
    /// whoever beats more often than this replica has missed more than what failed here.
    pub fn seen(&mut self, value: &str, now: Moment) -> Option<Duration> {
        let at = self.pending.iter().position(|pending| pending.value == value)?;
        let sent = self.pending.get(at)?.sent;
        let sent = if R::FIRST_SENDING { sent } else { self.pacer.last()? };
        self.pending.drain(..=at);
        self.unseen = self.pending.front().map(|pending| pending.sent);
        self.refused = self.refused.take().filter(|_| self.unseen.is_some());
        self.moment = self.moment.max(sent);
        let outage = std::mem::take(&mut self.failed) || (self.in_flight && self.is_held_up(now));
        let lost = self.known.replace(sent).map_or(Duration::ZERO, |known| now.since(known));
        outage.then_some(lost)
    }

    /// What holds the horizon back, once it is more than the ordinary way of a self-beat.
    /// `interrupted` is what the watch says.
    #[must_use]
    pub fn standstill(&self, now: Moment, interrupted: &Option<Arc<str>>) -> Option<Standstill> {
        let since = self.unseen?;
        let cause = match &self.refused {
            Some(reason) => Cause::Unwritten(reason.clone()),
            None if now.since(since) <= PATIENCE => return None,
            None => Cause::NotBack(interrupted.clone()),
        };
        Some(Standstill { since, cause })
    }

    fn is_held_up(&self, now: Moment) -> bool {
        self.pacer.quiet(now).is_some_and(|quiet| quiet > HELD_UP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { moment: Moment(ms), ..Now::default() }
    }

    fn send(horizon: &mut Horizon, ms: u64, due: Option<u64>) -> Option<String> {
        horizon.wanted(at(ms), due.map(Moment))
    }

    #[test]
    fn the_horizon_is_where_the_seen_value_was_first_sent() {
        let mut horizon = Horizon::<AllRules>::new("b");
        let value = send(&mut horizon, 1000, None).unwrap();
        horizon.written(None, Moment(1050));
        assert_eq!(horizon.moment(), Moment(0), "sent is not seen");
        horizon.seen(&value, Moment(1700));
        assert_eq!(horizon.moment(), Moment(1000));
    }

    #[test]
    fn an_older_attempt_that_lands_late_is_not_credited_a_newer_time() {
        let mut horizon = Horizon::<AllRules>::new("b");
        let old = send(&mut horizon, 1000, None).unwrap();
        horizon.written(Some("away".into()), Moment(3000));
        send(&mut horizon, 6000, None).unwrap();
        horizon.seen(&old, Moment(6500));
        assert_eq!(horizon.moment(), Moment(1000));
    }

    #[test]
    fn another_boots_value_moves_nothing() {
        let mut horizon = Horizon::<AllRules>::new("b");
        let _ = send(&mut horizon, 1000, None);
        horizon.seen("t a/1", Moment(1100));
        assert_eq!(horizon.moment(), Moment(0));
    }

    #[test]
    fn when_something_is_due_self_beats_follow_at_their_pace() {
        let mut horizon = Horizon::<AllRules>::new("b");
        let mut sent = 0;
        for ms in (10_000..20_000).step_by(50) {
            if send(&mut horizon, ms, Some(ms - 1)).is_some() {
                sent += 1;
                horizon.written(None, Moment(ms));
            }
        }
        assert!((20..=23).contains(&sent), "two a second and a burst of three, not {sent}");
    }

    /// Sends at `sent`, is answered at `answered`; the value.
    fn write(horizon: &mut Horizon, sent: u64, answered: u64, ok: bool) -> String {
        let value = send(horizon, sent, None).unwrap();
        horizon.written((!ok).then(|| "away".into()), Moment(answered));
        value
    }

    #[test]
    fn an_outage_is_told_once_from_the_last_success_on_and_a_slow_watch_is_none() {
        let mut horizon = Horizon::<AllRules>::new("b");
        let slow = write(&mut horizon, 1000, 1010, true);
        assert_eq!(horizon.seen(&slow, Moment(5900)), None);
        write(&mut horizon, 6000, 8000, false);
        let value = write(&mut horizon, 60_000, 60_005, true);
        assert_eq!(horizon.seen(&value, Moment(60_010)), Some(Duration::from_millis(59_010)));
        let value = write(&mut horizon, 66_000, 66_005, true);
        assert_eq!(horizon.seen(&value, Moment(66_010)), None);
    }

    #[test]
    fn a_write_that_was_held_up_is_an_outage_whichever_way_it_is_known_first() {
        let mut horizon = Horizon::<AllRules>::new("b");
        let value = write(&mut horizon, 1000, 2500, true);
        assert_eq!(horizon.seen(&value, Moment(2510)), Some(Duration::from_millis(1510)));
        let value = send(&mut horizon, 7000, None).unwrap();
        assert_eq!(horizon.seen(&value, Moment(8500)), Some(Duration::from_millis(7500)));
        horizon.written(None, Moment(8510));
        let value = write(&mut horizon, 13_000, 13_010, true);
        assert_eq!(horizon.seen(&value, Moment(13_020)), None);
    }

    #[test]
    fn an_answer_lost_after_the_self_beat_was_seen_is_no_outage() {
        let mut horizon = Horizon::<AllRules>::new("b");
        let value = send(&mut horizon, 1000, None).unwrap();
        assert_eq!(horizon.seen(&value, Moment(1010)), None);
        horizon.written(Some("away".into()), Moment(3000));
        let value = write(&mut horizon, 6000, 6005, true);
        assert_eq!(horizon.seen(&value, Moment(6010)), None);
    }

    #[test]
    fn writes_that_fail_from_the_start_are_an_outage_since_the_start() {
        let mut horizon = Horizon::<AllRules>::new("b");
        write(&mut horizon, 1000, 3000, false);
        let value = write(&mut horizon, 9000, 9005, true);
        assert_eq!(horizon.seen(&value, Moment(9010)), Some(Duration::from_millis(8010)));
    }

    #[test]
    fn a_standstill_names_its_cause_and_the_first_self_beat_that_did_not_come_back() {
        let stands = |horizon: &Horizon, ms| {
            let standstill = horizon.standstill(Moment(ms), &None);
            standstill.map(|it| (it.since.0, it.cause))
        };
        let mut horizon = Horizon::<AllRules>::new("b");
        let value = write(&mut horizon, 1000, 1010, true);
        assert_eq!(stands(&horizon, 1500), None, "it is on its way");
        horizon.seen(&value, Moment(1600));
        assert_eq!(stands(&horizon, 5900), None, "nothing is under way");
        write(&mut horizon, 6000, 6010, true);
        assert_eq!(stands(&horizon, 7500), Some((6000, Cause::NotBack(None))));
        write(&mut horizon, 11_000, 11_005, false);
        let unwritten = |since| Some((since, Cause::Unwritten("away".into())));
        assert_eq!(stands(&horizon, 11_010), unwritten(6000));
        let value = write(&mut horizon, 16_000, 16_005, true);
        write(&mut horizon, 21_000, 21_005, false);
        horizon.seen(&value, Moment(21_006));
        assert_eq!(stands(&horizon, 21_010), unwritten(21_000));
        let value = write(&mut horizon, 26_000, 26_005, true);
        horizon.seen(&value, Moment(26_010));
        assert_eq!(stands(&horizon, 30_000), None);
    }
}
