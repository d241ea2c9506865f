//! A server on a wildcard address answers from the address that was queried, because clients drop answers from another
//! one.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use rollcall::dev::ports;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::ZONE;
use crate::support::{Rollcall, dns, namespace};

/// Queries with a connected socket, which receives only from the address that it is connected to.
async fn ask(from: &str, to: SocketAddr) {
    let socket = UdpSocket::bind((from, 0)).await.unwrap();
    socket.connect(to).await.unwrap();
    socket.send(&dns::query(ZONE, RecordType::SOA)).await.unwrap();
    let mut buffer = [0; 512];
    let received = timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await;
    let received = received.unwrap_or_else(|_| panic!("{from} got no answer from {to}"));
    let answer = Message::from_vec(&buffer[..received.unwrap()]).unwrap();
    assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::NoError, 1));
}

#[tokio::test]
async fn answers_come_from_the_queried_address() {
    let ns = namespace("sources").await;
    for (identity, host) in [("v4", "0.0.0.0"), ("both", "[::]")] {
        let port = ports::free().unwrap().port();
        let listen = format!("{host}:{port}");
        let _rollcall = Rollcall::start_with(&ns, identity, &["--dns-listen", &listen]).await;
        for ip in [[127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 0, 3]] {
            for from in ["127.0.0.1", "127.0.0.9"] {
                ask(from, (ip, port).into()).await;
            }
        }
        if identity == "both" {
            ask("::1", format!("[::1]:{port}").parse().unwrap()).await;
        }
    }
}
