//! The naive way: each beat is a patch of an annotation.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kube::Client;

use crate::{
    fleet::{Fleet, NAMESPACE, name},
    told::wall,
};

/// Patches under way at once.
const AT_ONCE: usize = 16;

/// Of what the API server can take; more of it would only queue up.
const SHARE: f64 = 0.6;

/// For how long it is pressed to find that out.
const PRESSED: Duration = Duration::from_secs(3);

/// How fast, and for how many.
#[derive(Clone, Copy, Default)]
pub struct Pace {
    /// Patches a second that were answered when as many as possible were sent.
    pub most: f64,
    /// Patches a second to send now.
    pub rate: f64,
    /// Those that were answered.
    pub attained: f64,
    /// Instances that this keeps alive; the crowd beats for the others.
    pub instances: usize,
}

/// Finds out how many patches a second the API server takes, beside everything else that runs.
pub fn pace(fleet: &Fleet) -> Pace {
    let everybody = fleet.run.crowd();
    let most = patch(fleet, &everybody, f64::INFINITY, PRESSED) as f64 / PRESSED.as_secs_f64();
    let interval = fleet.run.interval().as_secs_f64();
    let instances = everybody.len().min((most * SHARE * interval) as usize);
    Pace { most, rate: instances as f64 / interval, attained: 0.0, instances }
}

/// Patches at this pace for so long, in place of the crowd. Answers how many were answered.
pub fn run(fleet: &Fleet, pace: Pace, span: Duration) -> usize {
    let who = &fleet.run.crowd()[..pace.instances];
    patch(fleet, who, pace.rate, span)
}

fn patch(fleet: &Fleet, who: &[usize], rate: f64, span: Duration) -> usize {
    let (next, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (began, who): (_, Arc<[usize]>) = (Instant::now(), who.into());
    let worker = || {
        let (next, done, who) = (next.clone(), done.clone(), who.clone());
        let client = fleet.client.clone();
        async move {
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let at = began + Duration::from_secs_f64(turn as f64 / rate);
                if began.elapsed().max(at - began) >= span {
                    return;
                }
                tokio::time::sleep_until(at.into()).await;
                once(&client, who[turn % who.len()]).await;
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    fleet.runtime.block_on(futures::future::join_all((0..AT_ONCE).map(|_| worker())));
    done.load(Ordering::Relaxed)
}

async fn once(client: &Client, i: usize) {
    let path = format!(
        "/apis/rollcall.dev/v1alpha1/namespaces/{NAMESPACE}/serviceinstances/{}?fieldManager=bench",
        name(i)
    );
    let shown = jiff::Timestamp::from_millisecond(wall()).unwrap();
    let body =
        format!("{{\"metadata\":{{\"annotations\":{{\"rollcall.dev/heartbeat\":\"{shown}\"}}}}}}");
    let request = hyper::Request::patch(path)
        .header("content-type", "application/merge-patch+json")
        .body(body.into_bytes())
        .unwrap();
    client.request_text(request).await.unwrap();
}
