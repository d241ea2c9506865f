//! The race between a heartbeat and the verdict on its instance, on real threads. A heartbeat that was counted is
//! never followed by a verdict within its lease, and a heartbeat that was not counted is answered as late.

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

/// Which thread goes first: a fixed one in some rounds, the faster one in most.
#[derive(Clone, Copy, PartialEq)]
enum GoesFirst {
    Beat,
    Verdict,
    Either,
}

fn goes_first(round: u64) -> GoesFirst {
    match round % 16 {
        0 => GoesFirst::Beat,
        1 => GoesFirst::Verdict,
        _ => GoesFirst::Either,
    }
}

/// Sends heartbeats on its own thread, each at the last millisecond of a lease.
fn send_heartbeats(
    directory: &Directory,
    barrier: &Barrier,
    rounds: &Receiver<(u64, u64)>,
    answers: &Sender<bool>,
) {
    for (round, at) in rounds {
        if goes_first(round) != GoesFirst::Beat {
            barrier.wait();
        }
        if goes_first(round) == GoesFirst::Verdict {
            barrier.wait();
        }
        // A varying delay, so that the heartbeat reaches every point of the verdict.
        (0..round % 97 * 16).for_each(|_| hint::spin_loop());
        let beat = directory.heartbeat("shop", "a", None, None, Moment(at));
        answers.send(matches!(beat, Heartbeat::Renewed(_))).unwrap();
        if goes_first(round) == GoesFirst::Beat {
            barrier.wait();
        }
    }
}

#[test]
fn heartbeat_is_counted_before_the_verdict_or_answered_as_late() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    let barrier = Arc::new(Barrier::new(2));
    let ((send, rounds), (answer, answers)) = (channel(), channel());
    let (directory, other) = (rig.directory.clone(), barrier.clone());
    let heartbeats = thread::spawn(move || send_heartbeats(&directory, &other, &rounds, &answer));
    let mut counted = 0;
    for round in 0..ROUNDS {
        rig.annotate("a");
        let slot = rig.directory.slot("shop", "a").unwrap();
        let end = slot.lease_end(rig.record("a").lease.duration);
        // Everything is prepared, so that the next call settles and gives the verdict.
        rig.advance((end.0 - rig.time) as f64 / 1000.0);
        rig.time += 300;
        let own = self_beat(&mut rig);
        rig.apply(Fact::Upserted(own));
        send.send((round, end.0)).unwrap();
        barrier.wait();
        rig.catalog.settle(rig.now(), 64);
        if goes_first(round) == GoesFirst::Verdict {
            barrier.wait();
        }
        let was_counted = answers.recv().unwrap();
        assert_ne!(was_counted, slot.is_expired(), "counted: {was_counted}");
        assert_eq!(rig.view().members[0].phase.is_discoverable(), was_counted);
        match goes_first(round) {
            GoesFirst::Beat => assert!(was_counted),
            GoesFirst::Verdict => assert!(!was_counted),
            GoesFirst::Either => counted += u64::from(was_counted),
        }
        rig.apply(Fact::SelfBeatWritten { answer: Ok(rig.version) });
    }
    drop(send);
    heartbeats.join().unwrap();
    println!("{counted} of {} heartbeats came before the verdict", ROUNDS / 16 * 14);
}

/// Asks the catalog for a self-beat, and returns it instead of letting the watch report it.
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
