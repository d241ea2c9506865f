//! The duration of a registration, compared with a bare create of the same object on the same API server.

use std::{
    io::Write as _,
    net::TcpStream,
    time::{Duration, Instant},
};

use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use rollcall_api::ServiceInstance;
use serde_json::{Value, json};

use crate::{
    Request, Server,
    common::{
        ask::exchange,
        compare::median,
        dev::Dev,
        kubernetes::{client, namespace},
    },
};

/// The number of measured requests of each kind.
const COUNT: usize = 400;

/// The number of requests of each kind that are sent first and not measured, because they open connections.
const WARM_UP: usize = 20;

/// Runs a bare create, a registration and a bare apply in turns.
pub fn run(dev: &Dev, open: Server) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut ours, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut applied, mut apply_ratios) = (Vec::new(), Vec::new());
    let mut connection = TcpStream::connect(open.address).unwrap();
    connection.set_nodelay(true).unwrap();
    runtime.block_on(async {
        let client = client(dev).await;
        namespace(&client, "register").await;
        let api: Api<ServiceInstance> = Api::namespaced(client, "register");
        for at in 0..COUNT + WARM_UP {
            let theirs = create(&api, at).await;
            let own = register(&mut connection, at);
            let apply = apply(&api, at).await;
            if at >= WARM_UP {
                ours.push(millis(own));
                bare.push(millis(theirs));
                ratios.push(millis(own) / millis(theirs));
                applied.push(millis(apply));
                apply_ratios.push(millis(own) / millis(apply));
            }
        }
    });
    println!(
        "register {:.2} ms   bare create {:.2} ms   (p50 of {COUNT})   ratio {:.2}; p99 {:.2} and {:.2} ms",
        median(&mut ours),
        median(&mut bare),
        median(&mut ratios),
        ours[COUNT * 99 / 100],
        bare[COUNT * 99 / 100],
    );
    println!(
        "bare server-side apply {:.2} ms   ratio {:.2}",
        median(&mut applied),
        median(&mut apply_ratios),
    );
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn facts(at: usize) -> Value {
    json!({
        "service": format!("r-{}", at / 10), "addresses": ["10.0.0.1"],
        "ports": [{"name": "http", "port": 8080}],
        "lease": {"mode": "Heartbeat", "durationSeconds": 300, "onExpiry": "Evict", "evictAfterSeconds": 60},
    })
}

async fn create(api: &Api<ServiceInstance>, at: usize) -> Duration {
    let object = json!({
        "apiVersion": "rollcall.dev/v1alpha1", "kind": "ServiceInstance",
        "metadata": {"name": format!("bare-{at}"), "annotations": {"rollcall.dev/heartbeat": "2026-01-02T03:04:05.678Z"}},
        "spec": facts(at),
    });
    let object = serde_json::from_value(object).unwrap();
    let sent = Instant::now();
    api.create(&PostParams::default(), &object).await.unwrap();
    sent.elapsed()
}

/// The request that a registration sends to the API server.
async fn apply(api: &Api<ServiceInstance>, at: usize) -> Duration {
    let name = format!("applied-{at}");
    let object = json!({
        "apiVersion": "rollcall.dev/v1alpha1", "kind": "ServiceInstance",
        "metadata": {"name": name, "annotations": {"rollcall.dev/heartbeat": "2026-01-02T03:04:05.678Z"}},
        "spec": facts(at),
    });
    let sent = Instant::now();
    api.patch(&name, &PatchParams::apply("bench").force(), &Patch::Apply(&object)).await.unwrap();
    sent.elapsed()
}

fn register(connection: &mut TcpStream, at: usize) -> Duration {
    let path = format!("/v1/namespaces/register/instances/ours-{at}");
    let request = Request { body: facts(at).to_string(), ..Request::new("PUT", path) };
    let sent = Instant::now();
    connection.write_all(&request.bytes()).unwrap();
    assert_eq!(exchange(connection, &mut Vec::new()).unwrap().status, 201);
    sent.elapsed()
}
