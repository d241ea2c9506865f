//! A small DNS client.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long the client waits for a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Encodes a query with RD set, as a stub resolver does.
pub fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut query = Message::new(fastrand::u16(..), MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    let name = Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).unwrap();
    query.add_query(Query::query(name, kind));
    query.to_vec().unwrap()
}

/// Sends a query once over UDP; `None` when no response came within two seconds.
pub async fn ask(to: SocketAddr, name: &str, kind: RecordType) -> Option<Message> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&query(name, kind), to).await.unwrap();
    let mut buffer = [0; 4096];
    let length = timeout(RESPONSE_TIMEOUT, socket.recv(&mut buffer)).await.ok()?.ok()?;
    Message::from_vec(&buffer[..length]).ok()
}

/// Asks over UDP, and again over TCP when that response was truncated, as the resolver of an operating system does.
pub async fn ask_all(to: SocketAddr, name: &str, kind: RecordType) -> Option<Message> {
    let answer = ask(to, name, kind).await?;
    if !answer.metadata.truncation {
        return Some(answer);
    }
    let exchange = async {
        let mut stream = TcpStream::connect(to).await.ok()?;
        let bytes = query(name, kind);
        stream.write_u16(bytes.len().try_into().ok()?).await.ok()?;
        stream.write_all(&bytes).await.ok()?;
        let mut bytes = vec![0; stream.read_u16().await.ok()?.into()];
        stream.read_exact(&mut bytes).await.ok()?;
        Message::from_vec(&bytes).ok()
    };
    timeout(RESPONSE_TIMEOUT, exchange).await.ok()?
}

/// The records of an answer as lower-case text without TTLs, sorted.
pub fn rows(answer: &Message) -> Vec<String> {
    let row = |record: &Record| format!("{} {} {}", record.name, record.record_type(), record.data);
    let mut rows: Vec<_> =
        answer.answers.iter().map(|record| row(record).to_ascii_lowercase()).collect();
    rows.sort_unstable();
    rows
}

/// The addresses at a name, sorted; `None` without a response, or with an error other than NXDOMAIN.
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
