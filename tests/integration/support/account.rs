//! The account of a run: what clients were promised, what was answered to those who asked, and where the
//! two do not fit.
//!
//! It cannot accuse falsely: a promise begins when its answer has come and is counted from before
//! its request was sent; an answer is held against it only if it was promised from before the
//! question was sent until after the answer had come, and since that replica had discoverable it last
//! without a break: a beat after a break may revive, and other replicas learn of that a moment later.

use std::collections::BTreeMap;
use std::time::Duration;

/// Beyond the lease, while all is well.
const GRACE: Duration = Duration::from_secs(2);

/// All is well while the API server answers within this, from a death until its bound.
const WELL: Duration = Duration::from_millis(150);

/// Since the start of the load.
pub type At = Duration;

/// A beat that was answered 200, or a registration.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    pub sent: At,
    pub answered: At,
    pub lease: Duration,
    /// False for one that may have shortened the lease, and has promised nothing.
    pub promised: bool,
}

/// What a client went through.
#[derive(Clone, Debug, Default)]
pub struct Diary {
    pub beats: Vec<Beat>,
    /// When it was told that there is no such instance: asked, answered.
    pub denied: Vec<(At, At)>,
    /// It has sent nothing after this.
    pub died: Option<At>,
    /// How much later than usual it may leave, for a reason that the scenario has.
    pub delay: Duration,
    /// How often it was answered 202.
    pub recorded: usize,
    /// How often it was refused, by status; 0 when no answer came.
    pub failed: BTreeMap<u16, usize>,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Door {
    /// DNS of a replica.
    Dns(usize),
    /// HTTP of a replica.
    Http(usize),
    /// The API server itself.
    Api,
}

/// An answer: whom it offers, a bit each.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub door: Door,
    pub asked: At,
    pub answered: At,
    pub discoverable: u128,
}

impl Seen {
    fn took(&self) -> Duration {
        self.answered - self.asked
    }
}

/// What came out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// An answer lacks somebody whose beat was answered 200 less than a lease ago.
    pub false_expiries: usize,
    /// Somebody who was dead for more than a lease and 2 s was discoverable while all was well.
    pub late_expiries: usize,
    /// A client that lives is not there in the end.
    pub lost_registrations: usize,
    /// The object of an instance, or a replica's knowledge of it, was gone while it lived.
    pub deleted_living: usize,
    /// The longest time in which no replica's DNS answered anything useful.
    pub longest_dns_gap: Duration,
    /// Beyond its lease, the longest that a dead one was discoverable.
    pub longest_after_lease: Duration,
    /// The longest that the API server took to answer.
    pub longest_api_call: Duration,
    /// The writes of all replicas, by what they wrote.
    pub api_writes: Vec<(String, usize)>,
    /// Beats answered 200.
    pub promised: usize,
    /// Beats answered 202.
    pub recorded: usize,
    /// Beats that were refused, by status; 0 when no answer came.
    pub failed: BTreeMap<u16, usize>,
    /// The first few things that went wrong.
    pub findings: Vec<String>,
}

/// Spans in which somebody was promised to be discoverable, without a break.
struct Promise(Vec<(At, At)>);

impl Promise {
    fn of(diary: &Diary) -> Self {
        let mut spans: Vec<(At, At)> = Vec::new();
        for beat in &diary.beats {
            let (from, until) = (beat.answered, beat.sent + beat.lease);
            match spans.last_mut() {
                Some(last) if !beat.promised => last.1 = last.1.min(until),
                _ if !beat.promised => {}
                // A shorter lease ends earlier promises too.
                Some(last) if from <= last.1 => last.1 = until.max(from),
                _ if from < until => spans.push((from, until)),
                _ => {}
            }
        }
        Self(spans)
    }

    fn holds(&self, from: At, until: At) -> bool {
        self.0.iter().any(|(begin, end)| *begin <= from && until < *end)
    }
}

/// Draws up the account of what clients wrote down and what was seen, in the order of answers of each door.
pub fn draw_up(diaries: &[Diary], seen: &[Seen]) -> Account {
    let mut account = Account::default();
    let api: Vec<_> = seen.iter().filter(|seen| seen.door == Door::Api).collect();
    account.longest_api_call = api.iter().map(|seen| seen.took()).max().unwrap_or_default();
    let slow: Vec<_> = api.into_iter().filter(|seen| seen.took() > WELL).collect();
    account.longest_dns_gap = longest_dns_gap(seen);
    for (index, diary) in diaries.iter().enumerate() {
        let promise = Promise::of(diary);
        let (mut last_offered, mut offers) = (BTreeMap::new(), BTreeMap::new());
        for seen in seen {
            if seen.discoverable & (1 << index) != 0 {
                last_offered.insert(seen.door, seen.asked);
                offers.insert(seen.door, seen.asked);
            } else if account.accuses(index, &promise, seen, offers.get(&seen.door).copied()) {
                // Once for each time that it vanished.
                offers.remove(&seen.door);
            }
        }
        for (asked, answered) in &diary.denied {
            if promise.holds(*asked, *answered) {
                account.deleted_living += 1;
                account.find(format!("a{index} was denied at {asked:?}"));
            }
        }
        if let Some(died) = diary.died {
            account.dead((index, died), diary, &last_offered, &slow);
        }
        account.promised += diary.beats.iter().filter(|beat| beat.promised).count();
        account.recorded += diary.recorded;
        for (status, count) in &diary.failed {
            *account.failed.entry(*status).or_default() += count;
        }
    }
    account
}

impl Account {
    /// Writes down what went wrong; the first few are enough to see why.
    pub fn find(&mut self, what: String) {
        if self.findings.len() < 20 {
            self.findings.push(what);
        }
    }

    /// Nothing went wrong.
    pub fn is_clean(&self) -> bool {
        let wrong =
            [self.false_expiries, self.late_expiries, self.lost_registrations, self.deleted_living];
        wrong == [0; 4]
    }

    /// It in one line of a table: scenario | seconds | false expiries | lost | deleted though alive | late expiries | the latest
    /// beyond its lease | longest gap in DNS answers | beats promised | recorded | refused, by status | slowest API call |
    /// writes a second | writes by what they wrote.
    pub fn line(&self, scenario: &str, span: Duration) -> String {
        let seconds = |span: Duration| format!("{:.2} s", span.as_secs_f64());
        let list = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join(", ");
        let refused =
            list(&mut self.failed.iter().map(|(status, count)| format!("{count} × {status}")));
        let all: usize = self.api_writes.iter().map(|(_, count)| count).sum();
        let writes =
            list(&mut self.api_writes.iter().map(|(what, count)| format!("{count} {what}")));
        format!(
            "| {scenario} | {:.0} | {} | {} | {} | {} | {} | {} | {} | {} | {refused} | {} | {:.1} | {writes} |",
            span.as_secs_f64(),
            self.false_expiries,
            self.lost_registrations,
            self.deleted_living,
            self.late_expiries,
            seconds(self.longest_after_lease),
            seconds(self.longest_dns_gap),
            self.promised,
            self.recorded,
            seconds(self.longest_api_call),
            all as f64 / span.as_secs_f64(),
        )
    }

    /// Whether the answer breaks a promise to somebody whom it does not offer.
    fn accuses(&mut self, index: usize, promise: &Promise, seen: &Seen, last: Option<At>) -> bool {
        let Seen { door, asked, answered, .. } = *seen;
        let Some(last) = last.filter(|last| promise.holds(*last, answered)) else { return false };
        let wrong =
            if door == Door::Api { &mut self.deleted_living } else { &mut self.false_expiries };
        *wrong += 1;
        self.find(format!("{door:?} did not offer a{index} at {asked:?}..{answered:?}, and last at {last:?}; promised {:?}", promise.0));
        true
    }

    fn dead(
        &mut self,
        (index, died): (usize, At),
        diary: &Diary,
        last: &BTreeMap<Door, At>,
        slow: &[&Seen],
    ) {
        let lease = diary.beats.last().map_or(Duration::ZERO, |beat| beat.lease);
        let bound = died + lease + GRACE + diary.delay;
        let was_well = !slow.iter().any(|call| call.answered > died && call.asked < bound);
        for (door, discoverable) in last.iter().filter(|(door, _)| **door != Door::Api) {
            let after = discoverable.saturating_sub(died + lease);
            self.longest_after_lease = self.longest_after_lease.max(after);
            if *discoverable > bound && was_well {
                self.late_expiries += 1;
                self.find(format!(
                    "{door:?} discoverable a{index}, dead since {died:?}, at {discoverable:?}"
                ));
            }
        }
    }
}

fn longest_dns_gap(seen: &[Seen]) -> Duration {
    let mut times: Vec<At> = seen
        .iter()
        .filter(|seen| matches!(seen.door, Door::Dns(_)))
        .map(|seen| seen.answered)
        .collect();
    times.sort_unstable();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(f64) -> Duration = Duration::from_secs_f64;

    fn diary(beats: &[(f64, f64)]) -> Diary {
        let beat = |(sent, answered): &(f64, f64)| Beat {
            sent: S(*sent),
            answered: S(*answered),
            lease: S(3.0),
            promised: true,
        };
        Diary { beats: beats.iter().map(beat).collect(), ..Diary::default() }
    }

    fn seen(at: f64, discoverable: bool) -> Seen {
        let (asked, answered) = (S(at), S(at + 0.1));
        Seen { door: Door::Dns(0), asked, answered, discoverable: u128::from(discoverable) }
    }

    fn false_expiries(beats: &[(f64, f64)], answers: &[(f64, bool)]) -> usize {
        let seen: Vec<_> =
            answers.iter().map(|(at, discoverable)| seen(*at, *discoverable)).collect();
        draw_up(&[diary(beats)], &seen).false_expiries
    }

    #[test]
    fn an_account_accuses_only_who_broke_a_promise() {
        let beats = [(0.0, 0.1), (1.0, 1.1), (2.0, 2.1)];
        assert_eq!(false_expiries(&beats, &[(1.0, true), (4.8, false)]), 1);
        assert_eq!(false_expiries(&beats, &[(1.0, true), (4.95, false)]), 0, "it may have ended");
        assert_eq!(false_expiries(&beats, &[(4.0, false)]), 0, "it was never seen there");
        // The second beat came too late, or may have: it was a revival.
        let late = [(0.0, 0.1), (2.9, 3.1)];
        assert_eq!(false_expiries(&late, &[(1.0, true), (3.5, false)]), 0);
        assert_eq!(false_expiries(&late, &[(3.2, true), (3.5, false)]), 1);
    }

    #[test]
    fn who_stays_too_long_is_late_unless_the_api_server_was_slow_meanwhile() {
        let dead = Diary { died: Some(S(2.5)), ..diary(&[(2.0, 2.1)]) };
        let late = |api: (f64, f64), diary: &Diary| {
            let api =
                Seen { door: Door::Api, asked: S(api.0), answered: S(api.1), discoverable: 1 };
            draw_up(std::slice::from_ref(diary), &[api, seen(7.0, true), seen(7.6, true)])
                .late_expiries
        };
        assert_eq!(late((1.0, 2.0), &dead), 1, "slow before it died");
        assert_eq!(late((3.0, 3.1), &dead), 1, "quick");
        assert_eq!(late((3.0, 3.2), &dead), 0, "slow");
        assert_eq!(late((1.0, 2.0), &Diary { delay: S(0.2), ..dead.clone() }), 0, "allowed");
        assert_eq!(late((1.0, 2.0), &Diary { died: Some(S(2.7)), ..dead }), 0, "in time");
    }
}
