//! The baselines: a bare hyper server and a bare UDP loop that send constant bytes.

use std::{convert::Infallible, net::UdpSocket};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::TcpListener;

/// Answers every request with `size` bytes, head and body.
pub fn http(size: usize) {
    // The head as hyper writes it for this response.
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 123\r\n\
        date: Mon, 02 Jan 2006 15:04:05 GMT\r\n\r\n";
    let body = Bytes::from(vec![b'x'; size.saturating_sub(head.len())]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let body = body.clone();
            tokio::spawn(async move {
                let answer = service_fn(move |_: Request<Incoming>| {
                    let answer = Response::builder()
                        .header("content-type", "application/json")
                        .body(Full::new(body.clone()));
                    async move { Ok::<_, Infallible>(answer.unwrap()) }
                });
                let http = auto::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    });
}

/// Answers every datagram with `size` bytes.
pub fn udp(size: usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    println!("{}", socket.local_addr().unwrap());
    let answer = vec![0; size];
    let mut buffer = [0; 4096];
    loop {
        let (_, from) = socket.recv_from(&mut buffer).unwrap();
        socket.send_to(&answer, from).unwrap();
    }
}
