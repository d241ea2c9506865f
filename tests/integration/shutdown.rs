//! Shutdown: the steps are in order, end within the time that Kubernetes allows, and lose no answered heartbeat.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::rr::RecordType;
use rollcall_api::{Phase, ServiceInstance};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::lease_lifecycle::until_discoverable;
use crate::support::http::{call, try_call};
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Rollcall, dns, eventually, namespace};

const BOUND: Duration = Duration::from_secs(60);

#[tokio::test]
async fn dns_outlasts_http_and_a_second_signal_ends_the_process_at_once() {
    let ns = namespace("linger").await;
    let rollcall = Rollcall::start_with(&ns, "rollcall-0", &["--linger-seconds", "60"]).await;
    let path = format!("/v1/namespaces/{}/instances/a", ns.name);
    let body = json!({"service": "a", "addresses": ["10.0.0.1"]});
    assert_eq!(call(rollcall.http, "PUT", &path, Some(body)).await.status, 201);
    rollcall.signal_term();
    eventually("only DNS is answered", BOUND, async || {
        rollcall.log().contains("everything but DNS has stopped").then_some(())
    })
    .await;
    assert!(try_call(rollcall.http, "GET", "/v1/cluster", None).await.is_err());
    let ready = call(rollcall.admin, "GET", "/readyz", None).await;
    assert_eq!((ready.status, &*ready.body), (503, &b"stopping\n"[..]));
    assert_eq!(call(rollcall.admin, "GET", "/livez", None).await.status, 200);
    assert_eq!(call(rollcall.admin, "GET", "/startupz", None).await.status, 200);
    let name = format!("a.{}.svc.rollcall.internal", ns.name);
    let answer = dns::ask(rollcall.dns, &name, RecordType::A).await.unwrap();
    assert_eq!(answer.answers.len(), 1, "{answer:?}");
    let gone = format!("rollcall-0.rollcall.{}.svc.rollcall.internal", ns.name);
    // The watch can be a moment behind.
    eventually("the replica's own instance has left the answers", BOUND, async || {
        (dns::addresses(rollcall.dns, &gone).await == Some(vec![])).then_some(())
    })
    .await;
    // The shutdown does not wait for the rest of the minute.
    assert_eq!(rollcall.terminate().await, "exit status: 1");
    assert!(rollcall.log().contains("a second signal to stop"), "{}", rollcall.log());
}

#[tokio::test]
async fn instances_do_not_expire_while_http_is_closed_at_shutdown() {
    let ns = namespace("closing").await;
    let rollcall = Rollcall::start_with(&ns, "rollcall-0", &["--linger-seconds", "5"]).await;
    let path = format!("/v1/namespaces/{}/instances/a", ns.name);
    let lease = json!({"durationSeconds": 2, "evictAfterSeconds": 0});
    let body = json!({"service": "a", "addresses": ["10.0.0.1"], "lease": lease});
    assert_eq!(call(rollcall.http, "PUT", &path, Some(body)).await.status, 201);
    // A body that never comes keeps HTTP open until its limit.
    let mut slow = TcpStream::connect(rollcall.http).await.unwrap();
    let head = format!(
        "PUT {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n"
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(call(rollcall.http, "PUT", &format!("{path}/heartbeat"), None).await.status, 200);
    rollcall.signal_term();
    let name = format!("a.{}.svc.rollcall.internal", ns.name);
    let mut asked = 0;
    while let Some(addresses) = dns::addresses(rollcall.dns, &name).await {
        assert_eq!(addresses.len(), 1, "the instance expired while no heartbeat could be received");
        asked += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // DNS answered for longer than the lease.
    assert!(asked > 100, "{asked}");
    assert_eq!(rollcall.terminate().await, "exit status: 0");
    let stored = ns.api::<ServiceInstance>().get_status("a").await.unwrap();
    assert_ne!(stored.status.unwrap_or_default().phase, Some(Phase::Expired));
}

#[tokio::test]
async fn shutdown_with_a_stalled_api_server_fits_the_grace_period_of_a_pod() {
    let mut ns = namespace("stalled-end").await;
    let proxy = Proxy::install(&mut ns).await;
    let rollcall = Rollcall::start(&ns).await;
    proxy.set(Mode::Stall);
    // `terminate` allows the process 30 s, like Kubernetes.
    assert_eq!(rollcall.terminate().await, "exit status: 0");
}

/// Sends heartbeats for one instance, one after the other, until `stop`; returns how many were answered 200.
async fn send_heartbeats(
    rollcall: std::net::SocketAddr,
    path: String,
    stop: Arc<AtomicBool>,
) -> usize {
    let mut answered = 0;
    while !stop.load(Ordering::Relaxed) {
        match try_call(rollcall, "PUT", &path, None).await {
            Ok(answer) if answer.status == 200 => answered += 1,
            // Not running, not synced yet, or shutting down: a client asks again.
            Ok(answer) => assert!(matches!(answer.status, 202 | 503), "{:?}", answer.json()),
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    answered
}

#[tokio::test]
async fn restarts_under_load_lose_no_answered_heartbeat() {
    let ns = namespace("restarts").await;
    let mut rollcall = Rollcall::start(&ns).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for index in 0..20 {
        let path = format!("/v1/namespaces/{}/instances/a{index}", ns.name);
        let body = json!({
            "service": "a",
            "addresses": [format!("10.0.0.{index}")],
            "lease": {"durationSeconds": 3},
        });
        assert_eq!(call(rollcall.http, "PUT", &path, Some(body)).await.status, 201);
        let beats = send_heartbeats(rollcall.http, format!("{path}/heartbeat"), stop.clone());
        clients.push(tokio::spawn(beats));
    }
    let answers = Arc::new(AtomicUsize::new(0));
    let watcher = tokio::spawn({
        let (stop, answers, dns) = (stop.clone(), answers.clone(), rollcall.dns);
        let name = format!("a.{}.svc.rollcall.internal", ns.name);
        async move {
            while !stop.load(Ordering::Relaxed) {
                // No answer, or SERVFAIL, is not a false answer.
                if let Some(addresses) = dns::addresses(dns, &name).await {
                    assert_eq!(
                        addresses.len(),
                        20,
                        "an instance with heartbeats is not discoverable"
                    );
                    answers.fetch_add(1, Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    for _ in 0..4 {
        let before = answers.load(Ordering::Relaxed);
        eventually("DNS has answered 50 more queries", BOUND, async || {
            (answers.load(Ordering::Relaxed) > before + 50).then_some(())
        })
        .await;
        assert_eq!(rollcall.terminate().await, "exit status: 0");
        rollcall.restart().await;
    }
    // More than a lease has passed since the last start, so an instance whose heartbeat was lost would have expired.
    tokio::time::sleep(Duration::from_secs(5)).await;
    stop.store(true, Ordering::Relaxed);
    watcher.await.unwrap();
    for client in clients {
        assert!(client.await.unwrap() > 20);
    }
    until_discoverable(&rollcall, &ns, "a", false).await;
}
