//! The naive solution: each heartbeat is a patch of an annotation.

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
    propagation::wall,
};

/// The number of concurrent patches.
const CONCURRENT: usize = 16;

/// The share of the API server's maximum rate that is used: more patches would only queue up.
const SHARE: f64 = 0.6;

/// How long the maximum rate is measured.
const MEASURED_FOR: Duration = Duration::from_secs(3);

/// The rate of patches.
#[derive(Clone, Copy, Default)]
pub struct Pace {
    /// The answered patches a second when as many as possible were sent.
    pub max: f64,
    /// The number of patches to send in a second.
    pub rate: f64,
    /// The answered patches a second at that rate.
    pub attained: f64,
    /// The number of instances whose heartbeats are patches. The batch load sends those of the others.
    pub instances: usize,
}

/// Measures how many patches a second the API server answers under the current load.
pub fn measure_pace(fleet: &Fleet) -> Pace {
    let survivors = fleet.run.survivors();
    let patched = patch(fleet, &survivors, f64::INFINITY, MEASURED_FOR);
    let max = patched as f64 / MEASURED_FOR.as_secs_f64();
    let interval = fleet.run.interval().as_secs_f64();
    let instances = survivors.len().min((max * SHARE * interval) as usize);
    Pace { max, rate: instances as f64 / interval, attained: 0.0, instances }
}

/// Sends patches at this pace in place of the batch load. Returns the number of answered patches.
pub fn run(fleet: &Fleet, pace: Pace, span: Duration) -> usize {
    let instances = &fleet.run.survivors()[..pace.instances];
    patch(fleet, instances, pace.rate, span)
}

fn patch(fleet: &Fleet, instances: &[usize], rate: f64, span: Duration) -> usize {
    let (next, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (began, instances): (_, Arc<[usize]>) = (Instant::now(), instances.into());
    let worker = || {
        let (next, done, instances) = (next.clone(), done.clone(), instances.clone());
        let client = fleet.client.clone();
        async move {
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let at = began + Duration::from_secs_f64(turn as f64 / rate);
                if began.elapsed().max(at - began) >= span {
                    return;
                }
                tokio::time::sleep_until(at.into()).await;
                send_patch(&client, instances[turn % instances.len()]).await;
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    fleet.runtime.block_on(futures::future::join_all((0..CONCURRENT).map(|_| worker())));
    done.load(Ordering::Relaxed)
}

async fn send_patch(client: &Client, i: usize) {
    let path = format!(
        "/apis/rollcall.dev/v1alpha1/namespaces/{NAMESPACE}/serviceinstances/{}?fieldManager=bench",
        name(i)
    );
    let now = jiff::Timestamp::from_millisecond(wall()).unwrap();
    let body =
        format!("{{\"metadata\":{{\"annotations\":{{\"rollcall.dev/heartbeat\":\"{now}\"}}}}}}");
    let request = hyper::Request::patch(path)
        .header("content-type", "application/merge-patch+json")
        .body(body.into_bytes())
        .unwrap();
    client.request_text(request).await.unwrap();
}
