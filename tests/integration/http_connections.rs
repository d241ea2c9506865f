//! HTTP/1.1 connections: keep-alive, chunked bodies, incomplete requests, and the shutdown of the server.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{Rollcall, http, namespace};

const BOUND: Duration = Duration::from_secs(60);

async fn connect(to: SocketAddr) -> TcpStream {
    TcpStream::connect(to).await.unwrap()
}

/// Reads until the text has come `times` times, or the connection ends.
async fn read_until(stream: &mut TcpStream, text: &str, times: usize) -> String {
    let mut got = Vec::new();
    let reading = async {
        loop {
            let so_far = String::from_utf8_lossy(&got).into_owned();
            if so_far.matches(text).count() >= times
                || stream.read_buf(&mut got).await.unwrap() == 0
            {
                return so_far;
            }
        }
    };
    timeout(BOUND, reading).await.unwrap()
}

#[tokio::test]
async fn connection_is_kept_alive_and_accepts_pipelined_requests() {
    let home = namespace("http-alive").await;
    let rollcall = Rollcall::start(&home).await;
    let path = format!("/v1/namespaces/{}/services/orders", home.name);
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut stream = connect(rollcall.http).await;
    for _ in 0..3 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let got = read_until(&mut stream, "\"instances\":[]}", 1).await;
        assert!(got.starts_with("HTTP/1.1 200"), "{got}");
    }
    stream.write_all(request.repeat(5).as_bytes()).await.unwrap();
    let got = read_until(&mut stream, "\"instances\":[]}", 5).await;
    assert_eq!(got.matches("HTTP/1.1 200").count(), 5, "{got}");
}

#[tokio::test]
async fn chunked_body_is_read_and_bounded() {
    let home = namespace("http-chunked").await;
    let rollcall = Rollcall::start(&home).await;
    let head = format!(
        "PUT /v1/namespaces/{}/instances/a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
        home.name
    );
    let (one, two) = (r#"{"service": "orders", "addre"#, r#"sses": ["10.0.0.7"]}"#);
    let body = format!("{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n", one.len(), two.len());
    let got = http::exchange(rollcall.http, format!("{head}{body}").as_bytes()).await.unwrap();
    assert_eq!(got.status, 201);

    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    let body = format!("{}0\r\n\r\n", chunk.repeat(4));
    let got = http::exchange(rollcall.http, format!("{head}{body}").as_bytes()).await.unwrap();
    assert_eq!(got.status, 413);
}

#[tokio::test]
async fn incomplete_head_is_dropped_and_an_idle_connection_is_kept() {
    let home = namespace("http-slow").await;
    let rollcall = Rollcall::start(&home).await;
    let mut idle = connect(rollcall.http).await;
    let mut slow = connect(rollcall.http).await;
    slow.write_all(b"GET /v1/cluster HTTP/1.1\r\nhost: a\r\n").await.unwrap();
    let got = read_until(&mut slow, "HTTP/1.1", 1).await;
    assert!(got.is_empty(), "{got}");
    idle.write_all(b"GET /v1/cluster HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let got = read_until(&mut idle, "replicas", 1).await;
    assert!(got.starts_with("HTTP/1.1 200"), "{got}");
}

#[tokio::test]
async fn idle_connection_does_not_delay_the_shutdown() {
    let home = namespace("http-drain").await;
    let rollcall = Rollcall::start(&home).await;
    let mut idle = connect(rollcall.http).await;
    idle.write_all(b"GET /v1/cluster HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    read_until(&mut idle, "replicas", 1).await;
    let ended = rollcall.terminate().await;
    assert_eq!(ended, "exit status: 0");
    assert!(!rollcall.log().contains("did not end within the drain"), "{}", rollcall.log());
}
