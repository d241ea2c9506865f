//! Bodies that are small to send and large to hold, and more of them than there is room for.

use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::wire::{Sent, json, talk};
use super::{peak, registered};
use crate::support::http::{call, parse};
use crate::support::{Rollcall, eventually, namespace};

/// As large as a batch may be.
const BATCH: usize = 4 * 1024 * 1024;

/// How many of them are held at once, in 48 MiB.
const HELD: usize = 12;

const BOUND: Duration = Duration::from_secs(60);

/// As often as it fits into a batch.
fn filled(item: &str) -> String {
    let times = (BATCH - 100) / (item.len() + 1);
    format!(r#"{{"instances":[{}]}}"#, vec![item; times].join(","))
}

#[tokio::test]
async fn what_is_small_to_send_is_small_to_hold() {
    let ns = namespace("hostile-memory").await;
    let rollcall = Rollcall::start(&ns).await;
    let registration = |field: &str, item: &str| {
        let long = format!("{{\"{field}\":[{}]}}", vec![item; 1_300].join(","));
        format!(r#"{{"instances":[{}]}}"#, vec![long.as_str(); 900].join(","))
    };
    let keys: Vec<String> = (0..400).map(|at| format!("\"{at}\":\"\"")).collect();
    let labels = format!("{{\"labels\":{{{0}}},\"attributes\":{{{0}}}}}", keys.join(","));
    let labels = format!(r#"{{"instances":[{}]}}"#, vec![labels.as_str(); 450].join(","));
    let all = [
        ("/v1/instances", filled("{}"), 422),
        ("/v1/instances", filled(r#"{"ports":[{},{}]}"#), 422),
        ("/v1/heartbeats", filled(r#"{"namespace":"","name":""}"#), 422),
        ("/v1/instances", registration("addresses", "\"\""), 200),
        ("/v1/instances", registration("ports", "{}"), 200),
        ("/v1/instances", registration("tags", "\"\""), 200),
        ("/v1/instances", labels, 200),
    ];
    let before = peak(rollcall.pid());
    for (path, body, status) in &all {
        assert!(body.len() <= BATCH, "{path}: {}", body.len());
        let request = json("POST", path, body);
        let ask = async |_| talk(rollcall.http, &[Sent::Bytes(request.clone())]).await.answer();
        let answers: Vec<_> = stream::iter(0..4).map(ask).buffer_unordered(4).collect().await;
        for answer in answers {
            let answer = answer.expect("an answer");
            assert_eq!(answer.status, *status, "{path}: {}", answer.json());
            assert!(answer.body.len() < 4 * 1024 * 1024, "{path}: {}", answer.body.len());
        }
        let now = peak(rollcall.pid());
        println!("{path} {}…: {before} → {now} MiB", &body[..40]);
        assert!(now < before + 150, "{path}: {before} MiB before, {now} MiB now");
    }
    assert_eq!(registered(&rollcall, &ns).await, [""; 0]);
}

/// Sends a batch but for its last octet.
async fn held(rollcall: &Rollcall) -> TcpStream {
    let mut stream = TcpStream::connect(rollcall.http).await.unwrap();
    let head = format!(
        "POST /v1/heartbeats HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {BATCH}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b' '; BATCH - 1]).await.unwrap();
    stream
}

async fn limited(rollcall: &Rollcall) -> f64 {
    let text = call(rollcall.admin, "GET", "/metrics", None).await.body;
    let text = String::from_utf8(text).unwrap();
    let name = "rollcall_http_limited_total{by=\"body\"} ";
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
}

#[tokio::test]
async fn more_bodies_than_there_is_room_for_are_refused_and_single_calls_go_on() {
    let ns = namespace("hostile-room").await;
    let rollcall = Rollcall::start(&ns).await;
    let before = peak(rollcall.pid());
    assert_eq!(limited(&rollcall).await, 0.0);
    let mut open = Vec::new();
    for _ in 0..HELD {
        open.push(held(&rollcall).await);
    }
    let empty = json("POST", "/v1/heartbeats", r#"{"instances": []}"#);
    // The last octets are on their way still.
    let refused = eventually("there is no room", BOUND, async || {
        let answer = talk(rollcall.http, &[Sent::Bytes(empty.clone())]).await.answer()?;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert_eq!(refused.json()["type"], "tag:rollcall.dev,2026:overloaded");
    assert!(refused.json()["detail"].to_string().contains("memory"));
    assert_ne!(refused.header("retry-after"), "");
    assert!(limited(&rollcall).await >= 1.0);
    // Whoever is about to send much is told as well, though it has to be read past.
    let large = json("POST", "/v1/heartbeats", vec![b' '; 900 * 1024]);
    let refused = talk(rollcall.http, &[Sent::Bytes(large)]).await.answer().unwrap();
    assert_eq!(refused.status, 503);
    let path = format!("/v1/namespaces/{}/instances/a", ns.name);
    let body = json!({"service": "orders", "addresses": ["10.0.0.7"]});
    assert_eq!(call(rollcall.http, "PUT", &path, Some(body)).await.status, 201);
    let now = peak(rollcall.pid());
    assert!(now < before + 100, "{before} MiB before, {now} MiB while they are held");
    // Who does not send the rest is told so after 10 s, and what he held is free.
    for mut stream in open {
        let mut came = Vec::new();
        let _ = timeout(BOUND, stream.read_to_end(&mut came)).await.expect("it ends");
        assert_eq!(parse(&came).map(|answer| answer.status), Some(408));
    }
    let answer = talk(rollcall.http, &[Sent::Bytes(empty)]).await.answer().unwrap();
    assert_eq!(answer.status, 200);
}
