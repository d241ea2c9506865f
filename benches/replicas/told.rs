//! From a beat at one replica to the others knowing of it.

use std::{
    collections::VecDeque,
    sync::mpsc::{Receiver, TryRecvError, channel},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    connection::Connection,
    crowd::beat,
    figures::Times,
    fleet::{Fleet, NAMESPACE, name},
};

/// Between two looks for the oldest beat that is not told yet: all later ones are not, either.
const EVERY: Duration = Duration::from_millis(5);

/// How long it may take.
const BOUND: Duration = Duration::from_secs(30);

/// Clocks are shown to the millisecond, and beats of one instance are a second apart.
const TOLERANCE_MS: i64 = 100;

struct Beat {
    instance: usize,
    /// Milliseconds since 1970 when it was sent.
    wall: i64,
    answered: Instant,
}

/// Beats for each victim at the first replica, in turn, for so long, and looks when the others show it.
pub fn run(fleet: &Fleet, span: Duration) -> Times {
    let run = fleet.run;
    let cycles = (span.as_secs_f64() / run.interval().as_secs_f64()).ceil().max(1.0) as usize;
    std::thread::scope(|scope| {
        let mut others = Vec::new();
        let mut senders = Vec::new();
        for replica in &fleet.replicas[1..] {
            let (sender, beats) = channel();
            senders.push(sender);
            let door = Connection::to(replica.http);
            others.push(scope.spawn(move || observe(door, &beats)));
        }
        let mut door = Connection::to(fleet.replicas[0].http);
        // Apart from the beats before.
        std::thread::sleep(run.interval().mul_f64(0.3));
        let began = Instant::now();
        for turn in 0..cycles * run.victims {
            let at = began + run.interval().mul_f64(turn as f64 / run.victims as f64);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            let (instance, wall) = (run.victim(turn % run.victims), wall());
            let Some((_, answered)) = beat(&mut door, instance) else { continue };
            for sender in &senders {
                sender.send(Beat { instance, wall, answered }).unwrap();
            }
        }
        drop(senders);
        let mut all = Times::default();
        others.into_iter().for_each(|other| all.append(other.join().unwrap()));
        all
    })
}

fn observe(mut door: Connection, beats: &Receiver<Beat>) -> Times {
    let mut times = Times::default();
    let mut waiting: VecDeque<Beat> = VecDeque::new();
    loop {
        let more = loop {
            match beats.try_recv() {
                Ok(beat) => waiting.push_back(beat),
                Err(end) => break end == TryRecvError::Empty,
            }
        };
        while let Some(oldest) = waiting.front() {
            match shown(&mut door, oldest).as_deref() {
                None => break,
                Some("ledger") => times.push(oldest.answered.elapsed()),
                // It was stored: a revival.
                Some(_) => {}
            }
            waiting.pop_front();
        }
        match waiting.front() {
            None if !more => return times,
            oldest => assert!(oldest.is_none_or(|it| it.answered.elapsed() < BOUND), "not told"),
        }
        std::thread::sleep(EVERY);
    }
}

/// By which way a replica knows of this beat, if it does.
fn shown(door: &mut Connection, beat: &Beat) -> Option<String> {
    let path = format!("/v1/namespaces/{NAMESPACE}/instances/{}", name(beat.instance));
    let said = door.json(&path)?;
    let last = &said["lastHeartbeat"];
    let at: jiff::Timestamp = last["at"].as_str()?.parse().ok()?;
    let is_it = at.as_millisecond() >= beat.wall - TOLERANCE_MS;
    is_it.then(|| last["source"].as_str().unwrap_or_default().to_owned())
}

/// Milliseconds since 1970.
pub fn wall() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    since.as_millis() as i64
}
