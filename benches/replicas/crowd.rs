//! Everybody who beats: the crowd in batches, and those who beat alone.
//!
//! Each instance beats every third of its lease, each time at the next replica, and at another one when
//! that does not answer.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::Value;

use crate::{
    connection::Connection,
    fleet::{Fleet, NAMESPACE, name},
};

/// Batches, and single beats, under way at once, at most.
const THREADS: usize = 4;

/// What became of the beats of the crowd.
#[derive(Clone, Copy, Default)]
pub struct Account {
    pub renewed: u64,
    /// Answered as 202: nothing is promised.
    pub recorded: u64,
    /// Not taken, or not answered by anybody.
    pub lost: u64,
    /// By how much a batch was sent too late, at worst.
    pub late: Duration,
}

/// Threads that beat for the crowd until they are told to stop: one batch that has to wait keeps no other
/// waiting.
pub struct Crowd {
    stop: Arc<AtomicBool>,
    account: Arc<Mutex<Account>>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    pub fn start(fleet: &Fleet) -> Self {
        let (stop, account) = (Arc::new(AtomicBool::new(false)), Arc::default());
        // The number is none of the multiples of 3: everybody goes to the next replica each time.
        let turns = if fleet.run.lease < 10 { 50 } else { 100 };
        let (began, next) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
        let beater = || Beater {
            doors: connections(&fleet.doors()),
            roll: fleet.roll.clone(),
            turns,
            pause: fleet.run.interval() / turns as u32,
            account: Arc::clone(&account),
        };
        let thread = |mut beater: Beater| {
            let (stop, next) = (stop.clone(), next.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    beater.turn(began, next.fetch_add(1, Ordering::Relaxed));
                }
            })
        };
        let threads = (0..THREADS).map(|_| thread(beater())).collect();
        Self { stop, account, threads }
    }

    /// What became of the beats since this was asked last.
    pub fn account(&self) -> Account {
        std::mem::take(&mut *self.account.lock())
    }

    pub fn end(self) -> Account {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        *self.account.lock()
    }
}

struct Beater {
    doors: Vec<Connection>,
    roll: Arc<Vec<AtomicBool>>,
    /// In how many batches everybody beats, and the time between two.
    turns: usize,
    pause: Duration,
    account: Arc<Mutex<Account>>,
}

impl Beater {
    fn turn(&mut self, began: Instant, turn: usize) {
        let at = began + self.pause * turn as u32;
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        self.note(|account| account.late = account.late.max(at.elapsed()));
        let all = (turn % self.turns..self.roll.len()).step_by(self.turns);
        let who: Vec<_> = all.filter(|i| self.roll[*i].load(Ordering::Relaxed)).collect();
        self.beat(turn, who.into_iter());
    }

    fn beat(&mut self, turn: usize, who: impl Iterator<Item = usize>) {
        let each = |i| format!("{{\"namespace\":\"{NAMESPACE}\",\"name\":\"{}\"}}", name(i));
        let who: Vec<String> = who.map(each).collect();
        if who.is_empty() {
            return;
        }
        let body = format!("{{\"instances\":[{}]}}", who.join(","));
        let count = self.doors.len();
        for door in (turn..turn + count).map(|at| at % count) {
            let Ok((200, said)) = self.doors[door].ask("POST /v1/heartbeats", &body) else {
                continue;
            };
            let said: Value = serde_json::from_slice(said).unwrap();
            let counted = |what: &str| said[what].as_u64().unwrap_or_default();
            let (renewed, recorded) = (counted("renewed"), counted("recorded"));
            self.note(|account| {
                account.renewed += renewed;
                account.recorded += recorded;
                account.lost += (who.len() as u64).saturating_sub(renewed + recorded);
            });
            return;
        }
        self.note(|account| account.lost += who.len() as u64);
    }

    fn note(&self, change: impl FnOnce(&mut Account)) {
        change(&mut self.account.lock());
    }
}

fn connections(doors: &[SocketAddr]) -> Vec<Connection> {
    doors.iter().copied().map(Connection::to).collect()
}

/// One beat of one instance: when it was sent, and when it was answered 200.
pub fn beat(door: &mut Connection, i: usize) -> Option<(Instant, Instant)> {
    let call = format!("PUT /v1/namespaces/{NAMESPACE}/instances/{}/heartbeat", name(i));
    let sent = Instant::now();
    let (status, _) = door.ask(&call, "").ok()?;
    (status == 200).then(|| (sent, Instant::now()))
}

/// Threads that beat for each of the victims by itself, once every replica knows it.
pub struct Singles {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<(usize, Instant)>>>,
}

impl Singles {
    pub fn start(fleet: &Fleet) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (run, began, next) = (fleet.run, Instant::now(), Arc::new(AtomicUsize::new(0)));
        let thread = |mut doors: Vec<Connection>| {
            let (stop, next, known) = (stop.clone(), next.clone(), fleet.known.clone());
            std::thread::spawn(move || {
                let mut sent = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    let at = began + run.interval() * turn as u32 / run.victims as u32;
                    std::thread::sleep(at.saturating_duration_since(Instant::now()));
                    let victim = turn % run.victims;
                    if run.victim(victim) >= known.load(Ordering::Relaxed) {
                        continue;
                    }
                    // Each time at the next replica.
                    let door = (turn + turn / run.victims) % doors.len();
                    let beaten = beat(&mut doors[door], run.victim(victim));
                    sent.extend(beaten.map(|(sent, _)| (victim, sent)));
                }
                sent
            })
        };
        let threads = (0..THREADS).map(|_| thread(connections(&fleet.doors()))).collect();
        Self { stop, threads }
    }

    /// When the last beat of each that was answered 200 was sent.
    pub fn end(self, fleet: &Fleet) -> Vec<Option<Instant>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut lasts = vec![None; fleet.run.victims];
        for (victim, sent) in self.threads.into_iter().flat_map(|it| it.join().unwrap()) {
            lasts[victim] = lasts[victim].max(Some(sent));
        }
        lasts
    }
}
