//! DNS over TCP according to RFC 7766 and RFC 9210: connections with many queries, slow and idle clients, and connection
//! limits.

use std::{
    io,
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        RecordType,
        rdata::opt::{EdnsCode, EdnsOption},
    },
};
use prometheus_client::registry::Registry;
use rollcall::config::DnsSettings;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_util::sync::CancellationToken;

use crate::dns_wire::{MANY, ORDERS, TIMEOUT, bind_to, query, settings, within};

/// The most queries on one connection, and further queries that stay unread; they are more than a read buffer holds.
const QUERIES: usize = 10_000;
const UNREAD: usize = 5_000;

struct TestServer {
    address: SocketAddr,
    stop: CancellationToken,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Serves the directory of `dns_wire` with changed settings.
fn serve(change: impl FnOnce(&mut DnsSettings)) -> TestServer {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut settings = settings();
    change(&mut settings);
    let server = bind_to(any, settings, &mut Registry::default()).unwrap();
    let (address, stop) = (server.addresses()[0], CancellationToken::new());
    tokio::spawn(server.serve(stop.clone()));
    TestServer { address, stop }
}

async fn connect(server: &TestServer) -> TcpStream {
    within(TcpStream::connect(server.address)).await.unwrap()
}

/// Connects from this local address.
async fn connect_from(ip: [u8; 4], server: &TestServer) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((ip, 0))).unwrap();
    within(socket.connect(server.address)).await.unwrap()
}

/// A query with its length prefix.
fn framed_query(id: u16, name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = query(name, kind, None);
    message.metadata.id = id;
    frame(&message.to_vec().unwrap())
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    within(stream.write_all(bytes)).await.unwrap();
}

/// The next message; `None` after an orderly end of the connection.
async fn next(stream: &mut TcpStream) -> io::Result<Option<Message>> {
    let length = match within(stream.read_u16()).await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; usize::from(length)];
    within(stream.read_exact(&mut bytes)).await?;
    Ok(Some(Message::from_vec(&bytes).unwrap()))
}

/// The ID and the number of answers of the next message.
async fn answer(stream: &mut TcpStream) -> (u16, usize) {
    let message = next(stream).await.unwrap().expect("the connection is open");
    (message.metadata.id, message.answers.len())
}

/// Whether the server has closed or reset the connection.
async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(next(stream).await, Ok(None) | Err(_))
}

async fn is_answered(stream: &mut TcpStream) -> bool {
    let sent = stream.write_all(&framed_query(1, ORDERS, RecordType::SRV)).await;
    sent.is_ok() && matches!(next(stream).await, Ok(Some(message)) if message.metadata.id == 1)
}

/// RFC 7766 §6.2.1.1: a client can send queries without waiting for answers.
#[tokio::test]
async fn pipelined_queries_are_all_answered() {
    let server = serve(|_| {});
    let mut stream = connect(&server).await;
    let kinds = [RecordType::SRV, RecordType::A];
    let all = (0..200).flat_map(|id| framed_query(id, ORDERS, kinds[usize::from(id % 2)]));
    send(&mut stream, &all.collect::<Vec<_>>()).await;
    for id in 0..200 {
        assert_eq!(answer(&mut stream).await, (id, if id % 2 == 0 { 2 } else { 0 }));
    }
}

/// RFC 7766 §8: length and message can arrive in pieces.
#[tokio::test]
async fn query_in_pieces_is_answered() {
    let server = serve(|_| {});
    let mut stream = connect(&server).await;
    stream.set_nodelay(true).unwrap();
    let bytes = framed_query(7, ORDERS, RecordType::SRV);
    for cut in [1, 2, 3, 14, bytes.len() - 1] {
        send(&mut stream, &bytes[..cut]).await;
        tokio::task::yield_now().await;
        send(&mut stream, &bytes[cut..]).await;
        assert_eq!(answer(&mut stream).await, (7, 2), "cut at {cut}");
    }
    for byte in bytes {
        send(&mut stream, &[byte]).await;
    }
    assert_eq!(answer(&mut stream).await, (7, 2), "byte by byte");
    // The end of one query and the beginning of the next in one piece.
    let two = [framed_query(8, ORDERS, RecordType::SRV), framed_query(9, ORDERS, RecordType::SRV)]
        .concat();
    for piece in two.chunks(two.len() / 2 + 5) {
        send(&mut stream, piece).await;
    }
    assert_eq!([answer(&mut stream).await.0, answer(&mut stream).await.0], [8, 9]);
}

/// RFC 7766 §6.2.4: a client that has shut down its side of the connection still gets its answers.
#[tokio::test]
async fn half_closed_connection_gets_all_answers() {
    let server = serve(|_| {});
    let mut stream = connect(&server).await;
    let all: Vec<_> = (0..50).flat_map(|id| framed_query(id, ORDERS, RecordType::SRV)).collect();
    send(&mut stream, &all).await;
    stream.shutdown().await.unwrap();
    for id in 0..50 {
        assert_eq!(answer(&mut stream).await, (id, 2));
    }
    assert!(matches!(next(&mut stream).await, Ok(None)));
}

/// RFC 5936 §4.1.1: a connection can have a transfer and other queries; answers keep their order.
#[tokio::test]
async fn transfer_and_other_answers_share_a_connection() {
    let server = serve(|settings| settings.transfer = vec!["127.0.0.0/8".parse().unwrap()]);
    let mut stream = connect(&server).await;
    let zone = "rollcall.internal.";
    let all = [
        framed_query(1, ORDERS, RecordType::SRV),
        framed_query(2, zone, RecordType::AXFR),
        framed_query(3, zone, RecordType::SOA),
    ];
    send(&mut stream, &all.concat()).await;
    assert_eq!(answer(&mut stream).await, (1, 2));
    let mut soas = 0;
    while soas < 2 {
        let message = next(&mut stream).await.unwrap().unwrap();
        assert_eq!(message.metadata.id, 2);
        soas += message.answers.iter().filter(|r| r.record_type() == RecordType::SOA).count();
    }
    assert_eq!(answer(&mut stream).await, (3, 1));
}

/// The output of `dig` for the zone.
fn dig(server: &TestServer, arguments: &[&str]) -> String {
    let port = server.address.port().to_string();
    let output = Command::new("dig")
        .args(["@127.0.0.1", "-p", &port, "+tries=1", "+time=10", "rollcall.internal"])
        .args(arguments)
        .output()
        .expect("these tests need `dig` (Debian: apt-get install dnsutils)");
    String::from_utf8(output.stdout).unwrap()
}

/// RFC 5936 and RFC 1995, tested with an independent client.
#[tokio::test(flavor = "multi_thread")]
async fn dig_transfers_the_zone_by_axfr_and_ixfr() {
    let server = serve(|settings| settings.transfer = vec!["127.0.0.0/8".parse().unwrap()]);
    let dig = |arguments: &[&str]| dig(&server, arguments);
    // For the 300 instances of `many`: A and SRV of the service, SRV of the port, A and SRV of each instance: 1,500
    // records.
    let whole = dig(&["AXFR"]);
    let size = whole.lines().find_map(|line| line.strip_prefix(";; XFR size: ")).expect(&whole);
    let records: usize = size.split(' ').next().unwrap().parse().unwrap();
    assert!(records > 1500, "{size}");
    let soa = dig(&["+short", "SOA"]);
    let serial: u32 = soa.split(' ').nth(2).unwrap().parse().unwrap();
    for (client_serial, all) in [(serial - 1, true), (serial, false), (serial + 1, false)] {
        let text = dig(&[&format!("IXFR={client_serial}")]);
        let size = text.lines().find_map(|line| line.strip_prefix(";; XFR size: ")).expect(&text);
        assert_eq!(size.starts_with("1 records"), !all, "IXFR={client_serial}: {size}");
    }
    let closed = serve(|settings| settings.transfer = vec!["192.0.2.0/24".parse().unwrap()]);
    assert!(self::dig(&closed, &["AXFR"]).contains("Transfer failed"));
}

/// RFC 7766 §6.2.3: the idle timeout counts from the last query, not from the start of the connection.
#[tokio::test]
async fn idle_connection_is_closed_and_active_one_is_not() {
    let idle = Duration::from_millis(1500);
    let server = serve(|settings| settings.idle = idle);
    let mut silent = connect(&server).await;
    let started = Instant::now();
    assert!(matches!(next(&mut silent).await, Ok(None)), "an orderly end");
    assert!(started.elapsed() >= idle, "{:?}", started.elapsed());
    // Longer than the idle timeout, with queries at a twentieth of it.
    let mut active = connect(&server).await;
    let started = Instant::now();
    while started.elapsed() < idle * 3 / 2 {
        assert!(is_answered(&mut active).await, "after {:?}", started.elapsed());
        tokio::time::sleep(idle / 20).await;
    }
    assert!(is_closed(&mut active).await);
}

/// RFC 7828 §3.3.2: the keepalive option has the idle timeout.
#[tokio::test]
async fn keepalive_option_has_the_idle_timeout() {
    let server = serve(|settings| settings.idle = Duration::from_millis(4_200));
    let mut stream = connect(&server).await;
    let mut message = query(ORDERS, RecordType::SRV, Some(1232));
    let keepalive = EdnsOption::Unknown(11, Vec::new());
    message.edns.as_mut().unwrap().options_mut().insert(keepalive);
    send(&mut stream, &frame(&message.to_vec().unwrap())).await;
    let answer = next(&mut stream).await.unwrap().unwrap();
    let option = answer.edns.unwrap().option(EdnsCode::Keepalive).cloned();
    assert_eq!(option, Some(EdnsOption::Unknown(11, vec![0, 42])));
}

/// RFC 9210 §4.2: a client that does not complete a query must not keep its connection.
#[tokio::test]
async fn incomplete_query_times_out_like_an_idle_connection() {
    let server = serve(|settings| settings.idle = Duration::from_millis(500));
    let bytes = framed_query(1, ORDERS, RecordType::SRV);
    for cut in [1, 2, 20, bytes.len() - 1] {
        let mut stream = connect(&server).await;
        send(&mut stream, &bytes[..cut]).await;
        assert!(matches!(next(&mut stream).await, Ok(None)), "cut at {cut}: an orderly end");
    }
}

/// RFC 9210 §4.2: a client that does not read its answers must not keep its connection.
#[tokio::test]
async fn client_that_does_not_read_loses_its_connection() {
    let server = serve(|settings| {
        (settings.connections, settings.idle) = (1, Duration::from_millis(500));
    });
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = within(socket.connect(server.address)).await.unwrap();
    // More answers of about 28,000 bytes than the buffers of the kernel hold.
    let all = framed_query(1, MANY, RecordType::SRV).repeat(2000);
    let sending = tokio::spawn(async move {
        let _ = stream.write_all(&all).await;
        stream
    });
    let stream = within(sending).await.unwrap();
    let second_client = async {
        while !is_answered(&mut connect(&server).await).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, second_client).await.unwrap();
    drop(stream);
}

/// RFC 7766 §6.2.3: a server may close a connection, but its answers must arrive. With a small receive window most
/// answers are still in the buffers of the server when it has answered the last query, and further queries are unread.
#[tokio::test(flavor = "multi_thread")]
async fn connection_closes_after_ten_thousand_queries_and_every_answer_arrives() {
    let server = serve(|_| {});
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = within(socket.connect(server.address)).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    // A header without a question, which is answered with a FORMERR of 12 bytes.
    let query = frame(&[0x12, 0x67, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let all = query.repeat(QUERIES + UNREAD);
    let writing = tokio::spawn(async move {
        let _ = write.write_all(&all).await;
        write
    });
    let mut bytes = Vec::new();
    let mut piece = [0; 1024];
    loop {
        match within(read.read(&mut piece)).await {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&piece[..length]),
            Err(error) => panic!("{error} after {} bytes", bytes.len()),
        }
    }
    assert_eq!(bytes.len(), QUERIES * 14);
    let codes: Vec<u8> = bytes.chunks(14).map(|message| message[5] & 0xf).collect();
    assert!(
        codes.iter().all(|code| *code == u8::try_from(u16::from(ResponseCode::FormErr)).unwrap())
    );
    drop(within(writing).await.unwrap());
    assert!(is_answered(&mut connect(&server).await).await, "a new connection is answered");
}

/// RFC 7766 §6.2.3: when the server stops while a client keeps sending queries, no answer is lost either.
#[tokio::test(flavor = "multi_thread")]
async fn stopping_server_ends_connections_between_two_answers() {
    let server = serve(|_| {});
    let (mut read, mut write) = connect(&server).await.into_split();
    let done = CancellationToken::new();
    let sending = tokio::spawn({
        let done = done.clone();
        let query = framed_query(3, ORDERS, RecordType::SRV);
        async move {
            // A few at a time, so that some are always on the network.
            while !done.is_cancelled() && write.write_all(&query.repeat(50)).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            write
        }
    });
    let mut bytes = vec![0; 14];
    within(read.read_exact(&mut bytes)).await.unwrap();
    server.stop.cancel();
    // The client keeps sending after the 250 ms during which the server lingers.
    let wait_and_stop = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        done.cancel();
    };
    let (end, ()) = tokio::join!(within(read.read_to_end(&mut bytes)), wait_and_stop);
    end.expect("no reset");
    let mut rest = &bytes[..];
    while let Some((length, messages)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let message = Message::from_vec(&messages[..length]).unwrap();
        assert_eq!((message.metadata.id, message.answers.len()), (3, 2));
        rest = &messages[length..];
    }
    drop(within(sending).await.unwrap());
}

/// A message that is not a query gets no answer; over TCP it also ends its connection.
#[tokio::test]
async fn message_that_is_not_a_query_ends_only_its_connection() {
    let server = serve(|_| {});
    let mut other = connect(&server).await;
    let mut response = framed_query(1, ORDERS, RecordType::SRV);
    response[4] |= 0x80;
    let long = frame(&[0; 4097]);
    for invalid in [response, frame(&[]), frame(&[0; 11]), long] {
        let mut stream = connect(&server).await;
        send(&mut stream, &invalid).await;
        assert!(is_closed(&mut stream).await, "{:?}", &invalid[..2]);
        assert!(is_answered(&mut other).await);
    }
}

/// RFC 9210 §4.2: the number of connections is limited, in total and for each address.
#[tokio::test]
async fn connections_are_limited_in_total_and_per_address() {
    let server = serve(|settings| settings.connections = 8);
    let mut first = Vec::new();
    for _ in 0..2 {
        first.push(connect(&server).await);
    }
    for stream in &mut first {
        assert!(is_answered(stream).await);
    }
    assert!(
        !is_answered(&mut connect(&server).await).await,
        "one address can have a quarter of the connections"
    );
    let mut others = Vec::new();
    for last in [2, 2, 3, 3, 4, 4] {
        let mut stream = connect_from([127, 0, 0, last], &server).await;
        assert!(is_answered(&mut stream).await, "127.0.0.{last}");
        others.push(stream);
    }
    assert!(
        !is_answered(&mut connect_from([127, 0, 0, 5], &server).await).await,
        "all connections are in use"
    );
    for stream in first.iter_mut().chain(&mut others) {
        assert!(is_answered(stream).await, "open connections are not affected");
    }
    drop(others.pop());
    // The connection is released when the server notices the end.
    let retry = async {
        while !is_answered(&mut connect_from([127, 0, 0, 5], &server).await).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, retry).await.unwrap();
}
