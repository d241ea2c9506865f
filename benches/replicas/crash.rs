//! From a crash to being gone from every answer of every replica.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use crate::{
    Run,
    eyes::{self, Look},
    figures::Times,
    fleet::Fleet,
};

/// What came of it.
#[derive(Default)]
pub struct Gone {
    /// Past the end of the lease of the last beat, until the last door of the last replica has dropped it.
    pub late: Times,
    /// Whom some door did not offer although the lease was still running.
    pub early: usize,
    /// Who beats, and was not in some answer.
    pub wronged: usize,
    /// Who was still there at the end.
    pub left: usize,
}

/// When a door first left out each of the victims, and how often it left out somebody else.
struct Diary {
    gone: Vec<Option<Instant>>,
    wronged: usize,
}

/// Waits until a second before the first lease ends: whoever is left out before is still left out then.
pub fn wait(fleet: &Fleet, lasts: &[Option<Instant>]) {
    let first = lasts.iter().flatten().min().copied().unwrap_or_else(Instant::now);
    let from = first + Duration::from_secs(fleet.run.lease - 1);
    std::thread::sleep(from.saturating_duration_since(Instant::now()));
}

/// Watches the victims, who beat no more, leave.
pub fn run(fleet: &Fleet, lasts: &[Option<Instant>]) -> Gone {
    let (run, lease) = (fleet.run, Duration::from_secs(fleet.run.lease));
    let (stop, missing) = (AtomicBool::new(false), AtomicUsize::new(2 * fleet.replicas.len()));
    let diaries: Vec<Diary> = std::thread::scope(|scope| {
        let mut doors = Vec::new();
        for replica in &fleet.replicas {
            let (stop, missing) = (&stop, &missing);
            doors.push(scope.spawn(move || {
                diary(run, missing, |see| eyes::dns(replica.dns, run.services(), stop, see))
            }));
            doors.push(scope.spawn(move || {
                diary(run, missing, |see| eyes::http(replica.http, run.services(), stop, see))
            }));
        }
        let bound = Instant::now() + 2 * lease + Duration::from_secs(30);
        while missing.load(Ordering::Relaxed) > 0 && Instant::now() < bound {
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        doors.into_iter().map(|door| door.join().unwrap()).collect()
    });
    account(&diaries, lasts, lease)
}

/// Keeps the diary of one door; counts `missing` down when all victims are gone there.
fn diary(
    run: Run,
    missing: &AtomicUsize,
    looking: impl FnOnce(&mut dyn FnMut(&Look<'_>)),
) -> Diary {
    let mut diary = Diary { gone: vec![None; run.victims], wronged: 0 };
    let mut there = run.victims;
    looking(&mut |look| {
        let Some(discoverable) = look.discoverable else { return };
        for i in run.members(look.service).filter(|i| !discoverable.contains(i)) {
            let Some(victim) = run.victim_of(i) else {
                diary.wronged += 1;
                continue;
            };
            if diary.gone[victim].is_none() {
                diary.gone[victim] = Some(look.at);
                there -= 1;
                missing.fetch_sub(usize::from(there == 0), Ordering::Relaxed);
            }
        }
    });
    diary
}

fn account(diaries: &[Diary], lasts: &[Option<Instant>], lease: Duration) -> Gone {
    let mut account =
        Gone { wronged: diaries.iter().map(|it| it.wronged).sum(), ..Gone::default() };
    for (victim, sent) in lasts.iter().enumerate() {
        let Some(end) = sent.map(|sent| sent + lease) else { continue };
        let gone = diaries.iter().map(|diary| diary.gone[victim]);
        account.early += usize::from(gone.clone().flatten().any(|at| at < end));
        match gone.collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max()) {
            Some(last) => account.late.push(last.saturating_duration_since(end)),
            None => account.left += 1,
        }
    }
    account
}
