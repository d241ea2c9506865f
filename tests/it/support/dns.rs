//! A small DNS client over UDP.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Asks once; none when nothing came within two seconds.
pub async fn ask(to: SocketAddr, name: &str, kind: RecordType) -> Option<Message> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut query = Message::new(fastrand::u16(..), MessageType::Query, OpCode::Query);
    let name = Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).unwrap();
    query.add_query(Query::query(name, kind));
    socket.send_to(&query.to_vec().unwrap(), to).await.unwrap();
    let mut buffer = [0; 4096];
    let came = timeout(Duration::from_secs(2), socket.recv(&mut buffer)).await.ok()?.ok()?;
    Message::from_vec(&buffer[..came]).ok()
}

/// The addresses at a name, sorted; none when there was no answer or an error that does not say
/// that there are none.
pub async fn addresses(to: SocketAddr, name: &str) -> Option<Vec<IpAddr>> {
    let answer = ask(to, name, RecordType::A).await?;
    let code = answer.metadata.response_code;
    if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return None;
    }
    let ips = answer.answers.iter().filter_map(|record| match record.data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        _ => None,
    });
    let mut ips: Vec<_> = ips.collect();
    ips.sort_unstable();
    Some(ips)
}
