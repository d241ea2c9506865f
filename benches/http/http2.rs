//! Load over HTTP/2 with prior knowledge: a few connections, each with as many concurrent streams as a busy client has.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use hyper::http;
use tokio::net::TcpStream;

use crate::Request;

const CONNECTIONS: usize = 4;

/// The number of concurrent streams on each connection.
const STREAMS: usize = 8;

/// The number of requests that are sent one after another in place of each concurrent stream, in one round.
const REQUESTS: usize = 1_500;

/// Runs one round. Returns the number of responses.
pub fn run(address: SocketAddr, request: &Request) -> usize {
    run_each(address, request, REQUESTS)
}

/// Runs a round of `count` requests in total.
pub fn run_some(address: SocketAddr, request: &Request, count: usize) -> usize {
    run_each(address, request, count / (CONNECTIONS * STREAMS))
}

fn run_each(address: SocketAddr, request: &Request, each: usize) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (send, connection) = client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            for _ in 0..STREAMS {
                let (head, body) = (request.head(address), Bytes::from(request.body.clone()));
                clients.spawn(run_client(send.clone(), head, body, each));
            }
        }
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
    });
    each * CONNECTIONS * STREAMS
}

impl Request {
    fn head(&self, address: SocketAddr) -> http::request::Parts {
        let uri = format!("http://{address}{}", self.path);
        let mut head = http::Request::builder().method(self.method).uri(uri);
        if let Some(token) = &self.token {
            head = head.header("authorization", format!("Bearer {token}"));
        }
        if !self.body.is_empty() {
            head = head.header("content-type", "application/json");
        }
        head.body(()).unwrap().into_parts().0
    }
}

async fn run_client(
    send: SendRequest<Bytes>,
    head: http::request::Parts,
    body: Bytes,
    count: usize,
) {
    for _ in 0..count {
        let mut send = send.clone().ready().await.unwrap();
        let request = http::Request::from_parts(head.clone(), ());
        let (answer, mut stream) = send.send_request(request, body.is_empty()).unwrap();
        if !body.is_empty() {
            stream.send_data(body.clone(), true).unwrap();
        }
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body();
        while let Some(bytes) = body.data().await {
            let length = bytes.unwrap().len();
            body.flow_control().release_capacity(length).unwrap();
        }
    }
}
