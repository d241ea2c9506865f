//! The time from a heartbeat sent to one replica until the others know it.

use std::{
    collections::VecDeque,
    sync::mpsc::{Receiver, TryRecvError, channel},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    connection::Connection,
    figures::Times,
    fleet::{Fleet, NAMESPACE, name},
    load::send_heartbeat,
};

/// The interval between two checks for the oldest heartbeat that is not known yet. Replicas learn of heartbeats in
/// order, so later ones need no check.
const CHECK_EVERY: Duration = Duration::from_millis(5);

/// The longest time until a heartbeat is known.
const BOUND: Duration = Duration::from_secs(30);

/// Times in responses have a resolution of a millisecond, and heartbeats of one instance are a second apart.
const TOLERANCE_MS: i64 = 100;

struct SentHeartbeat {
    instance: usize,
    /// When it was sent, in milliseconds since 1970.
    wall: i64,
    answered: Instant,
}

/// Sends heartbeats of each victim in turn to the first replica, and measures when the others report them.
pub fn run(fleet: &Fleet, span: Duration) -> Times {
    let run = fleet.run;
    let cycles = (span.as_secs_f64() / run.interval().as_secs_f64()).ceil().max(1.0) as usize;
    std::thread::scope(|scope| {
        let mut others = Vec::new();
        let mut senders = Vec::new();
        for replica in &fleet.replicas[1..] {
            let (sender, beats) = channel();
            senders.push(sender);
            let connection = Connection::to(replica.http);
            others.push(scope.spawn(move || observe(connection, &beats)));
        }
        let mut first = Connection::to(fleet.replicas[0].http);
        // Waits, so that this heartbeat is not confused with an earlier one.
        std::thread::sleep(run.interval().mul_f64(0.3));
        let began = Instant::now();
        for turn in 0..cycles * run.victims {
            let at = began + run.interval().mul_f64(turn as f64 / run.victims as f64);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            let (instance, wall) = (run.victim(turn % run.victims), wall());
            let Some((_, answered)) = send_heartbeat(&mut first, instance) else { continue };
            for sender in &senders {
                sender.send(SentHeartbeat { instance, wall, answered }).unwrap();
            }
        }
        drop(senders);
        let mut all = Times::default();
        others.into_iter().for_each(|other| all.append(other.join().unwrap()));
        all
    })
}

fn observe(mut replica: Connection, beats: &Receiver<SentHeartbeat>) -> Times {
    let mut times = Times::default();
    let mut waiting: VecDeque<SentHeartbeat> = VecDeque::new();
    loop {
        let more = loop {
            match beats.try_recv() {
                Ok(beat) => waiting.push_back(beat),
                Err(end) => break end == TryRecvError::Empty,
            }
        };
        while let Some(oldest) = waiting.front() {
            match source_of(&mut replica, oldest).as_deref() {
                None => break,
                Some("ledger") => times.push(oldest.answered.elapsed()),
                // This was a revival, which is stored in Kubernetes.
                Some(_) => {}
            }
            waiting.pop_front();
        }
        match waiting.front() {
            None if !more => return times,
            oldest => assert!(
                oldest.is_none_or(|it| it.answered.elapsed() < BOUND),
                "the replica does not know the heartbeat after {BOUND:?}"
            ),
        }
        std::thread::sleep(CHECK_EVERY);
    }
}

/// How this heartbeat reached the replica; `None` if the replica does not know it.
fn source_of(replica: &mut Connection, beat: &SentHeartbeat) -> Option<String> {
    let path = format!("/v1/namespaces/{NAMESPACE}/instances/{}", name(beat.instance));
    let instance = replica.json(&path)?;
    let last = &instance["lastHeartbeat"];
    let at: jiff::Timestamp = last["at"].as_str()?.parse().ok()?;
    let is_known = at.as_millisecond() >= beat.wall - TOLERANCE_MS;
    is_known.then(|| last["source"].as_str().unwrap_or_default().to_owned())
}

/// The current time in milliseconds since 1970.
pub fn wall() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    since.as_millis() as i64
}
