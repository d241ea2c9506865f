//! The memory and the start time with 10,000 instances.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use kube::Api;
use rollcall::dev::ports;
use rollcall_api::ServiceInstance;
use serde_json::json;

use crate::{
    common::{
        ask::{eventually, query},
        dev::Dev,
        kubernetes::{self, client, namespace},
        process::{dns, memory, replica_pid},
    },
    load,
};

/// The number of instances, in services of ten.
const INSTANCES: usize = 10_000;

/// Creates the instances, then starts a second process that watches only their namespace.
pub fn run(dev: &Dev) {
    let before = memory(replica_pid(dev), "VmRSS");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(create(dev));
    let last = query("s-999.size.svc.rollcall.internal", 1);
    load::wait_for_answer(dns(dev), &last, Duration::from_secs(60));
    wait_until_idle(replica_pid(dev));
    println!(
        "memory of a replica: {before:.1} MiB empty, {:.1} MiB with {INSTANCES} instances after their statuses were written (peak {:.1})",
        memory(replica_pid(dev), "VmRSS"),
        memory(replica_pid(dev), "VmHWM"),
    );
    start(dev);
}

async fn create(dev: &Dev) {
    let client = client(dev).await;
    namespace(&client, "size").await;
    let api: Api<ServiceInstance> = Api::namespaced(client, "size");
    let object = |i: usize| {
        json!({
            "apiVersion": "rollcall.dev/v1alpha1", "kind": "ServiceInstance",
            "metadata": {"name": format!("s-{}-{}", i / 10, i % 10), "labels": {"app": "bench"}},
            "spec": {
                "service": format!("s-{}", i / 10),
                "addresses": [format!("10.{}.{}.{}", i / 62_500, i / 250 % 250, i % 250 + 1)],
                "ports": [{"name": "http", "port": 8080}], "version": "2.3.1", "zone": "eu-1a",
                "attributes": {"team": "blue"},
                "lease": {"mode": "Heartbeat", "durationSeconds": 3600},
            },
        })
    };
    kubernetes::create(&api, (0..INSTANCES).map(object)).await;
}

/// Waits until the process is nearly idle, because all statuses are written.
fn wait_until_idle(pid: u32) {
    eventually(Duration::from_secs(600), || {
        let busy = crate::common::process::cpu_per(pid, || {
            std::thread::sleep(Duration::from_secs(3));
            1
        });
        (busy < 150_000.0).then_some(())
    });
}

fn start(dev: &Dev) {
    let [http, dns, admin] = [(); 3].map(|()| ports::free().unwrap().to_string());
    let began = Instant::now();
    let mut replica = Command::new(env!("CARGO_BIN_EXE_rollcall"))
        .args(["serve", "--auth", "none", "--identity", "bench", "--watch-namespace", "size"])
        .arg("--kubeconfig")
        .arg(dev.dir.join("rollcall.kubeconfig"))
        .args(["--http-listen", &http, "--dns-listen", &dns, "--admin-listen", &admin])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let query = query("s-999.size.svc.rollcall.internal", 1);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut buffer = [0; 1500];
    loop {
        let answered = socket.send_to(&query, &dns).and_then(|_| socket.recv(&mut buffer));
        if answered.is_ok() && buffer[7] > 0 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "not ready within 60 s");
        std::thread::sleep(Duration::from_millis(2));
    }
    let ready = began.elapsed();
    std::thread::sleep(Duration::from_secs(3));
    println!(
        "process start → first correct DNS answer, {INSTANCES} instances: {:.0} ms; memory then {:.1} MiB (peak {:.1})",
        ready.as_secs_f64() * 1e3,
        memory(replica.id(), "VmRSS"),
        memory(replica.id(), "VmHWM"),
    );
    let _ = replica.kill();
    let _ = replica.wait();
}
