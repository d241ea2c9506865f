//! Request bodies that could need much memory, and more large bodies than the memory limit allows.

use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::wire::{ClientStep, json, run_steps};
use super::{peak_memory, registered_services};
use crate::support::http::{call, parse};
use crate::support::{Rollcall, eventually, namespace};

/// The largest batch.
const MAX_BATCH: usize = 4 * 1024 * 1024;

/// How many batches fit into the limit of 48 MiB.
const MAX_CONCURRENT: usize = 12;

const BOUND: Duration = Duration::from_secs(60);

/// A batch that repeats an item as often as it fits.
fn filled_batch(item: &str) -> String {
    let times = (MAX_BATCH - 100) / (item.len() + 1);
    format!(r#"{{"instances":[{}]}}"#, vec![item; times].join(","))
}

#[tokio::test]
async fn memory_of_a_body_is_proportional_to_its_size() {
    let ns = namespace("hostile-memory").await;
    let rollcall = Rollcall::start(&ns).await;
    let registration = |field: &str, item: &str| {
        let long = format!("{{\"{field}\":[{}]}}", vec![item; 1_300].join(","));
        format!(r#"{{"instances":[{}]}}"#, vec![long.as_str(); 900].join(","))
    };
    let keys: Vec<String> = (0..400).map(|at| format!("\"{at}\":\"\"")).collect();
    let labels = format!("{{\"labels\":{{{0}}},\"attributes\":{{{0}}}}}", keys.join(","));
    let labels = format!(r#"{{"instances":[{}]}}"#, vec![labels.as_str(); 450].join(","));
    let requests = [
        ("/v1/instances", filled_batch("{}"), 422),
        ("/v1/instances", filled_batch(r#"{"ports":[{},{}]}"#), 422),
        ("/v1/heartbeats", filled_batch(r#"{"namespace":"","name":""}"#), 422),
        ("/v1/instances", registration("addresses", "\"\""), 200),
        ("/v1/instances", registration("ports", "{}"), 200),
        ("/v1/instances", registration("tags", "\"\""), 200),
        ("/v1/instances", labels, 200),
    ];
    let before = peak_memory(rollcall.pid());
    for (path, body, status) in &requests {
        assert!(body.len() <= MAX_BATCH, "{path}: {}", body.len());
        let request = json("POST", path, body);
        let send = async |_| {
            run_steps(rollcall.http, &[ClientStep::Bytes(request.clone())]).await.answer()
        };
        let answers: Vec<_> = stream::iter(0..4).map(send).buffer_unordered(4).collect().await;
        for answer in answers {
            let answer = answer.expect("an answer");
            assert_eq!(answer.status, *status, "{path}: {}", answer.json());
            assert!(answer.body.len() < 4 * 1024 * 1024, "{path}: {}", answer.body.len());
        }
        let now = peak_memory(rollcall.pid());
        println!("{path} {}…: {before} → {now} MiB", &body[..40]);
        assert!(now < before + 150, "{path}: {before} MiB before, {now} MiB now");
    }
    assert_eq!(registered_services(&rollcall, &ns).await, [""; 0]);
}

/// Sends a batch without its last byte.
async fn send_incomplete_batch(rollcall: &Rollcall) -> TcpStream {
    let mut stream = TcpStream::connect(rollcall.http).await.unwrap();
    let head = format!(
        "POST /v1/heartbeats HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {MAX_BATCH}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b' '; MAX_BATCH - 1]).await.unwrap();
    stream
}

async fn limited_bodies(rollcall: &Rollcall) -> f64 {
    let text = call(rollcall.admin, "GET", "/metrics", None).await.body;
    let text = String::from_utf8(text).unwrap();
    let name = "rollcall_http_limited_total{by=\"body\"} ";
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
}

#[tokio::test]
async fn batches_above_the_memory_limit_are_refused_and_single_requests_succeed() {
    let ns = namespace("hostile-room").await;
    let rollcall = Rollcall::start(&ns).await;
    let before = peak_memory(rollcall.pid());
    assert_eq!(limited_bodies(&rollcall).await, 0.0);
    let mut open = Vec::new();
    for _ in 0..MAX_CONCURRENT {
        open.push(send_incomplete_batch(&rollcall).await);
    }
    let empty = json("POST", "/v1/heartbeats", r#"{"instances": []}"#);
    // The last bytes may still be on their way.
    let refused = eventually("the memory limit is reached", BOUND, async || {
        let answer =
            run_steps(rollcall.http, &[ClientStep::Bytes(empty.clone())]).await.answer()?;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert_eq!(refused.json()["type"], "tag:rollcall.dev,2026:overloaded");
    assert!(refused.json()["detail"].to_string().contains("memory"));
    assert_ne!(refused.header("retry-after"), "");
    assert!(limited_bodies(&rollcall).await >= 1.0);
    // A request with a large body gets the same answer, although the server has to read past the body.
    let large = json("POST", "/v1/heartbeats", vec![b' '; 900 * 1024]);
    let refused = run_steps(rollcall.http, &[ClientStep::Bytes(large)]).await.answer().unwrap();
    assert_eq!(refused.status, 503);
    let path = format!("/v1/namespaces/{}/instances/a", ns.name);
    let body = json!({"service": "orders", "addresses": ["10.0.0.7"]});
    assert_eq!(call(rollcall.http, "PUT", &path, Some(body)).await.status, 201);
    let now = peak_memory(rollcall.pid());
    assert!(
        now < before + 100,
        "{before} MiB before, {now} MiB with {MAX_CONCURRENT} open batches"
    );
    // A client that does not send the rest gets 408 after 10 s, and its memory is released.
    for mut stream in open {
        let mut received = Vec::new();
        let _ =
            timeout(BOUND, stream.read_to_end(&mut received)).await.expect("the connection ends");
        assert_eq!(parse(&received).map(|answer| answer.status), Some(408));
    }
    let answer = run_steps(rollcall.http, &[ClientStep::Bytes(empty)]).await.answer().unwrap();
    assert_eq!(answer.status, 200);
}
