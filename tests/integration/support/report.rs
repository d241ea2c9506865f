//! The report of a run: the promises to clients, the answers of the replicas, and where the two disagree.
//!
//! It reports no false violation. A promise begins when its answer has arrived, and its lease is counted from before its
//! request was sent. A missing instance counts only if it was promised from before the query was sent until after the
//! answer arrived, and without a break since that replica last returned it: a heartbeat after a break can be a revival,
//! which the other replicas observe a moment later.

use std::collections::BTreeMap;
use std::time::Duration;

/// How long an expired instance can stay in the answers beyond its lease, while the API server is quick.
const GRACE: Duration = Duration::from_secs(2);

/// The API server is quick if it answers within this, from the client's stop to the end of its instance's grace.
const QUICK: Duration = Duration::from_millis(150);

/// The time since the start of the load.
pub type Offset = Duration;

/// A heartbeat or registration that was answered with success.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    pub sent: Offset,
    pub answered: Offset,
    pub lease: Duration,
    /// False for a request that may have shortened the lease and whose answer promises nothing.
    pub promised: bool,
}

/// What a client sent, and how it was answered.
#[derive(Clone, Debug, Default)]
pub struct ClientLog {
    pub beats: Vec<Beat>,
    /// Answers that the instance does not exist: when the request was sent, and when the answer was received.
    pub denied: Vec<(Offset, Offset)>,
    /// When the client stopped sending.
    pub stopped: Option<Offset>,
    /// How much later than usual the instance may leave the answers in this scenario.
    pub delay: Duration,
    /// The number of requests that were answered 202.
    pub recorded: usize,
    /// The number of refused requests by status; the status is 0 when no answer came.
    pub failed: BTreeMap<u16, usize>,
}

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// DNS of a replica.
    Dns(usize),
    /// HTTP of a replica.
    Http(usize),
    /// The API server itself.
    Api,
}

/// An answer: the discoverable instances, a bit each.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    pub source: Source,
    pub asked: Offset,
    pub answered: Offset,
    pub discoverable: u128,
}

impl Observation {
    fn took(&self) -> Duration {
        self.answered - self.asked
    }
}

/// The result of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RunReport {
    /// Answers that lack an instance whose heartbeat was answered 200 less than a lease ago.
    pub false_expiries: usize,
    /// Instances in an answer more than a lease and 2 s after their last heartbeat, while the API server was quick.
    pub late_expiries: usize,
    /// Running clients whose instance is missing at the end.
    pub lost_registrations: usize,
    /// Live instances whose object was deleted, or which a replica did not know.
    pub deleted_live: usize,
    /// The longest time without a usable answer from the DNS of any replica.
    pub longest_dns_gap: Duration,
    /// The longest time that an expired instance was in an answer beyond its lease.
    pub longest_after_lease: Duration,
    /// The longest time that the API server took to answer.
    pub longest_api_call: Duration,
    /// The number of writes of all replicas, by resource.
    pub api_writes: Vec<(String, usize)>,
    /// Heartbeats answered 200.
    pub promised: usize,
    /// Heartbeats answered 202.
    pub recorded: usize,
    /// The number of refused requests by status; the status is 0 when no answer came.
    pub failed: BTreeMap<u16, usize>,
    /// The first few violations.
    pub findings: Vec<String>,
}

/// The spans in which an instance was promised to be discoverable without a break.
struct Promises(Vec<(Offset, Offset)>);

impl Promises {
    fn from_log(log: &ClientLog) -> Self {
        let mut spans: Vec<(Offset, Offset)> = Vec::new();
        for beat in &log.beats {
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

    fn cover(&self, from: Offset, until: Offset) -> bool {
        self.0.iter().any(|(begin, end)| *begin <= from && until < *end)
    }
}

/// Evaluates the logs of the clients and the observations, which are in the order of answers of each source.
pub fn evaluate(logs: &[ClientLog], observations: &[Observation]) -> RunReport {
    let mut report = RunReport::default();
    let api: Vec<_> =
        observations.iter().filter(|observation| observation.source == Source::Api).collect();
    report.longest_api_call =
        api.iter().map(|observation| observation.took()).max().unwrap_or_default();
    let slow: Vec<_> = api.into_iter().filter(|observation| observation.took() > QUICK).collect();
    report.longest_dns_gap = longest_dns_gap(observations);
    for (index, log) in logs.iter().enumerate() {
        let promises = Promises::from_log(log);
        let (mut last_returned, mut returned) = (BTreeMap::new(), BTreeMap::new());
        for observation in observations {
            if observation.discoverable & (1 << index) != 0 {
                last_returned.insert(observation.source, observation.asked);
                returned.insert(observation.source, observation.asked);
            } else if report.check_missing(
                index,
                &promises,
                observation,
                returned.get(&observation.source).copied(),
            ) {
                // Count each disappearance once.
                returned.remove(&observation.source);
            }
        }
        for (asked, answered) in &log.denied {
            if promises.cover(*asked, *answered) {
                report.deleted_live += 1;
                report.record_finding(format!("a{index} was answered as missing at {asked:?}"));
            }
        }
        if let Some(stopped) = log.stopped {
            report.check_late_expiry((index, stopped), log, &last_returned, &slow);
        }
        report.promised += log.beats.iter().filter(|beat| beat.promised).count();
        report.recorded += log.recorded;
        for (status, count) in &log.failed {
            *report.failed.entry(*status).or_default() += count;
        }
    }
    report
}

impl RunReport {
    /// Records a violation; only the first few are kept.
    pub fn record_finding(&mut self, finding: String) {
        if self.findings.len() < 20 {
            self.findings.push(finding);
        }
    }

    /// Whether there was no violation.
    pub fn is_clean(&self) -> bool {
        let violations =
            [self.false_expiries, self.late_expiries, self.lost_registrations, self.deleted_live];
        violations == [0; 4]
    }

    /// The report as one line of a table: scenario | seconds | false expiries | lost | deleted while live | late expiries | longest time
    /// beyond a lease | longest gap in DNS answers | heartbeats answered 200 | 202 | refused, by status | slowest API call |
    /// writes per second | writes by resource.
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
            self.deleted_live,
            self.late_expiries,
            seconds(self.longest_after_lease),
            seconds(self.longest_dns_gap),
            self.promised,
            self.recorded,
            seconds(self.longest_api_call),
            all as f64 / span.as_secs_f64(),
        )
    }

    /// Records a violation if the answer lacks an instance that was promised; returns whether it did.
    fn check_missing(
        &mut self,
        index: usize,
        promises: &Promises,
        observation: &Observation,
        last: Option<Offset>,
    ) -> bool {
        let Observation { source, asked, answered, .. } = *observation;
        let Some(last) = last.filter(|last| promises.cover(*last, answered)) else { return false };
        let count =
            if source == Source::Api { &mut self.deleted_live } else { &mut self.false_expiries };
        *count += 1;
        self.record_finding(format!("{source:?} did not return a{index} at {asked:?}..{answered:?}, and last at {last:?}; promised {:?}", promises.0));
        true
    }

    fn check_late_expiry(
        &mut self,
        (index, stopped): (usize, Offset),
        log: &ClientLog,
        last: &BTreeMap<Source, Offset>,
        slow: &[&Observation],
    ) {
        let lease = log.beats.last().map_or(Duration::ZERO, |beat| beat.lease);
        let bound = stopped + lease + GRACE + log.delay;
        let was_quick = !slow.iter().any(|call| call.answered > stopped && call.asked < bound);
        for (source, discoverable) in last.iter().filter(|(source, _)| **source != Source::Api) {
            let after = discoverable.saturating_sub(stopped + lease);
            self.longest_after_lease = self.longest_after_lease.max(after);
            if *discoverable > bound && was_quick {
                self.late_expiries += 1;
                self.record_finding(format!(
                    "{source:?} returned a{index}, without heartbeats since {stopped:?}, at {discoverable:?}"
                ));
            }
        }
    }
}

fn longest_dns_gap(observations: &[Observation]) -> Duration {
    let mut times: Vec<Offset> = observations
        .iter()
        .filter(|observation| matches!(observation.source, Source::Dns(_)))
        .map(|observation| observation.answered)
        .collect();
    times.sort_unstable();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(f64) -> Duration = Duration::from_secs_f64;

    fn log(beats: &[(f64, f64)]) -> ClientLog {
        let beat = |(sent, answered): &(f64, f64)| Beat {
            sent: S(*sent),
            answered: S(*answered),
            lease: S(3.0),
            promised: true,
        };
        ClientLog { beats: beats.iter().map(beat).collect(), ..ClientLog::default() }
    }

    fn observation(at: f64, discoverable: bool) -> Observation {
        let (asked, answered) = (S(at), S(at + 0.1));
        Observation {
            source: Source::Dns(0),
            asked,
            answered,
            discoverable: u128::from(discoverable),
        }
    }

    fn false_expiries(beats: &[(f64, f64)], answers: &[(f64, bool)]) -> usize {
        let observations: Vec<_> =
            answers.iter().map(|(at, discoverable)| observation(*at, *discoverable)).collect();
        evaluate(&[log(beats)], &observations).false_expiries
    }

    #[test]
    fn only_broken_promises_are_false_expiries() {
        let beats = [(0.0, 0.1), (1.0, 1.1), (2.0, 2.1)];
        assert_eq!(false_expiries(&beats, &[(1.0, true), (4.8, false)]), 1);
        assert_eq!(
            false_expiries(&beats, &[(1.0, true), (4.95, false)]),
            0,
            "the lease may have ended"
        );
        assert_eq!(
            false_expiries(&beats, &[(4.0, false)]),
            0,
            "the instance was in no answer before"
        );
        // The second heartbeat came too late, or may have come too late: it was a revival.
        let late = [(0.0, 0.1), (2.9, 3.1)];
        assert_eq!(false_expiries(&late, &[(1.0, true), (3.5, false)]), 0);
        assert_eq!(false_expiries(&late, &[(3.2, true), (3.5, false)]), 1);
    }

    #[test]
    fn late_expiries_count_unless_the_api_server_was_slow() {
        let expired = ClientLog { stopped: Some(S(2.5)), ..log(&[(2.0, 2.1)]) };
        let late = |api: (f64, f64), log: &ClientLog| {
            let api = Observation {
                source: Source::Api,
                asked: S(api.0),
                answered: S(api.1),
                discoverable: 1,
            };
            evaluate(
                std::slice::from_ref(log),
                &[api, observation(7.0, true), observation(7.6, true)],
            )
            .late_expiries
        };
        assert_eq!(late((1.0, 2.0), &expired), 1, "slow before it stopped");
        assert_eq!(late((3.0, 3.1), &expired), 1, "quick");
        assert_eq!(late((3.0, 3.2), &expired), 0, "slow");
        assert_eq!(late((1.0, 2.0), &ClientLog { delay: S(0.2), ..expired.clone() }), 0, "allowed");
        assert_eq!(late((1.0, 2.0), &ClientLog { stopped: Some(S(2.7)), ..expired }), 0, "in time");
    }
}
