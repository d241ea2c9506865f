//! Load by HTTP/2 with prior knowledge: a few connections, each with as many streams at once as a busy client has.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use hyper::http;
use tokio::net::TcpStream;

use crate::Request;

/// Connections.
const CONNECTIONS: usize = 4;

/// Streams at once on each.
const STREAMS: usize = 8;

/// Requests of each stream's place in one round.
const REQUESTS: usize = 1_500;

/// One round. Answers how many were answered.
pub fn run(address: SocketAddr, request: &Request) -> usize {
    run_each(address, request, REQUESTS)
}

/// The same with so many requests in all.
pub fn run_some(address: SocketAddr, request: &Request, count: usize) -> usize {
    run_each(address, request, count / (CONNECTIONS * STREAMS))
}

fn run_each(address: SocketAddr, request: &Request, each: usize) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (send, connection) = client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            for _ in 0..STREAMS {
                let (head, body) = (request.head(address), Bytes::from(request.body.clone()));
                asking.spawn(ask(send.clone(), head, body, each));
            }
        }
        while let Some(asked) = asking.join_next().await {
            asked.unwrap();
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

async fn ask(send: SendRequest<Bytes>, head: http::request::Parts, body: Bytes, count: usize) {
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
