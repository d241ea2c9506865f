//! The one race: a beat and the verdict on its instance, on real threads. A beat that was counted
//! is never followed by a verdict within its lease, and one that was not is told so.

use std::{
    hint,
    sync::{
        Arc, Barrier,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use rollcall_core::{
    directory::{Directory, Heartbeat},
    fact::{Duty, Fact, SelfBeat},
};
use rollcall_model::{
    instance::{Instance, InstanceKey},
    lease::Moment,
};

use crate::rig::{Rig, instance};

const ROUNDS: u64 = 4_000;

/// Who goes first: in some rounds one of them for certain, in most whoever is faster.
#[derive(Clone, Copy, PartialEq)]
enum First {
    Beat,
    Verdict,
    Either,
}

fn first(round: u64) -> First {
    match round % 16 {
        0 => First::Beat,
        1 => First::Verdict,
        _ => First::Either,
    }
}

/// Beats at the very end of leases, each within it by a hair, on a thread of its own.
fn door(
    directory: &Directory,
    gate: &Barrier,
    rounds: &Receiver<(u64, u64)>,
    answers: &Sender<bool>,
) {
    for (round, at) in rounds {
        if first(round) != First::Beat {
            gate.wait();
        }
        if first(round) == First::Verdict {
            gate.wait();
        }
        // Sooner or later, so that the two meet at every point.
        (0..round % 97 * 16).for_each(|_| hint::spin_loop());
        let beat = directory.heartbeat("shop", "a", None, None, Moment(at));
        answers.send(matches!(beat, Heartbeat::Renewed(_))).unwrap();
        if first(round) == First::Beat {
            gate.wait();
        }
    }
}

#[test]
fn a_beat_is_either_counted_before_the_verdict_or_told_that_it_came_too_late() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    let gate = Arc::new(Barrier::new(2));
    let ((send, rounds), (answer, answers)) = (channel(), channel());
    let (directory, other) = (rig.directory.clone(), gate.clone());
    let beating = thread::spawn(move || door(&directory, &other, &rounds, &answer));
    let mut counted = 0;
    for round in 0..ROUNDS {
        rig.annotate("a");
        let slot = rig.directory.slot("shop", "a").unwrap();
        let end = slot.lease_end(rig.record("a").lease.duration);
        // Everything is ready for the verdict but the call that gives it.
        rig.pass((end.0 - rig.time) as f64 / 1000.0);
        rig.time += 300;
        let seen = self_beat(&mut rig);
        rig.apply(Fact::Upserted(seen));
        send.send((round, end.0)).unwrap();
        gate.wait();
        rig.catalog.settle(rig.now(), 64);
        if first(round) == First::Verdict {
            gate.wait();
        }
        let was_counted = answers.recv().unwrap();
        assert_ne!(was_counted, slot.is_expired(), "counted: {was_counted}");
        assert_eq!(rig.view().members[0].phase.is_discoverable(), was_counted);
        match first(round) {
            First::Beat => assert!(was_counted),
            First::Verdict => assert!(!was_counted),
            First::Either => counted += u64::from(was_counted),
        }
        rig.apply(Fact::SelfBeatWritten { answer: Ok(rig.version) });
    }
    drop(send);
    beating.join().unwrap();
    println!("where either could be first, {counted} beats of {} were", ROUNDS / 16 * 14);
}

/// Asks the catalog for a self-beat, and keeps it from being seen.
fn self_beat(rig: &mut Rig) -> Arc<Instance> {
    loop {
        let now = rig.now();
        let duties = rig.catalog.settle(now, 64);
        let value = duties.into_iter().find_map(|duty| match duty {
            Duty::SelfBeat(SelfBeat { value, .. }) => Some(value),
            _ => None,
        });
        if let Some(value) = value {
            rig.version += 1;
            let mut own = instance("r0");
            own.key = InstanceKey::new("rollcall-system", "r0");
            own.service = "rollcall".into();
            own.resource_version = rig.version;
            own.heartbeat = Some(value.into());
            return Arc::new(own);
        }
        rig.time += 50;
    }
}
