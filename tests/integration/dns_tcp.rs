//! DNS over TCP as RFC 7766 and RFC 9210 have it: connections with many queries, slow ones, idle ones, and too
//! many of them.

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

use crate::dns_wire::{CROWD, ORDERS, PATIENCE, bind_to, query, settings, within};

/// Queries of one connection, and more that are sent behind them: they do not fit into what is read at once.
const QUERIES: usize = 10_000;
const UNHEARD: usize = 5_000;

struct Served {
    address: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Serves the directory of `dns_wire` with changes.
fn serve(change: impl FnOnce(&mut DnsSettings)) -> Served {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut settings = settings();
    change(&mut settings);
    let server = bind_to(any, settings, &mut Registry::default()).unwrap();
    let (address, stop) = (server.addresses()[0], CancellationToken::new());
    tokio::spawn(server.serve(stop.clone()));
    Served { address, stop }
}

async fn connect(served: &Served) -> TcpStream {
    within(TcpStream::connect(served.address)).await.unwrap()
}

/// From this address of the machine.
async fn connect_from(ip: [u8; 4], served: &Served) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((ip, 0))).unwrap();
    within(socket.connect(served.address)).await.unwrap()
}

/// A query with its length before it.
fn framed(id: u16, name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = query(name, kind, None);
    message.metadata.id = id;
    frame(&message.to_vec().unwrap())
}

fn frame(octets: &[u8]) -> Vec<u8> {
    [&u16::try_from(octets.len()).unwrap().to_be_bytes(), octets].concat()
}

async fn send(stream: &mut TcpStream, octets: &[u8]) {
    within(stream.write_all(octets)).await.unwrap();
}

/// The next message; none when the connection has ended.
async fn next(stream: &mut TcpStream) -> io::Result<Option<Message>> {
    let length = match within(stream.read_u16()).await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut octets = vec![0; usize::from(length)];
    within(stream.read_exact(&mut octets)).await?;
    Ok(Some(Message::from_vec(&octets).unwrap()))
}

/// The ID and the number of answers of the next message.
async fn answer(stream: &mut TcpStream) -> (u16, usize) {
    let message = next(stream).await.unwrap().expect("an open connection");
    (message.metadata.id, message.answers.len())
}

/// Whether the other side has ended it, in order or not.
async fn is_over(stream: &mut TcpStream) -> bool {
    matches!(next(stream).await, Ok(None) | Err(_))
}

async fn works(stream: &mut TcpStream) -> bool {
    let sent = stream.write_all(&framed(1, ORDERS, RecordType::SRV)).await;
    sent.is_ok() && matches!(next(stream).await, Ok(Some(message)) if message.metadata.id == 1)
}

/// RFC 7766 §6.2.1.1: queries need not wait for answers.
#[tokio::test]
async fn queries_of_one_segment_are_all_answered_each_under_its_id() {
    let served = serve(|_| {});
    let mut stream = connect(&served).await;
    let kinds = [RecordType::SRV, RecordType::A];
    let all = (0..200).flat_map(|id| framed(id, ORDERS, kinds[usize::from(id % 2)]));
    send(&mut stream, &all.collect::<Vec<_>>()).await;
    for id in 0..200 {
        assert_eq!(answer(&mut stream).await, (id, if id % 2 == 0 { 2 } else { 0 }));
    }
}

/// RFC 7766 §8: neither the length nor what follows has to come at once.
#[tokio::test]
async fn a_query_that_comes_in_pieces_is_answered() {
    let served = serve(|_| {});
    let mut stream = connect(&served).await;
    stream.set_nodelay(true).unwrap();
    let octets = framed(7, ORDERS, RecordType::SRV);
    for cut in [1, 2, 3, 14, octets.len() - 1] {
        send(&mut stream, &octets[..cut]).await;
        tokio::task::yield_now().await;
        send(&mut stream, &octets[cut..]).await;
        assert_eq!(answer(&mut stream).await, (7, 2), "cut at {cut}");
    }
    for octet in octets {
        send(&mut stream, &[octet]).await;
    }
    assert_eq!(answer(&mut stream).await, (7, 2), "octet by octet");
    // The end of one and the beginning of the next in one piece.
    let two = [framed(8, ORDERS, RecordType::SRV), framed(9, ORDERS, RecordType::SRV)].concat();
    for piece in two.chunks(two.len() / 2 + 5) {
        send(&mut stream, piece).await;
    }
    assert_eq!([answer(&mut stream).await.0, answer(&mut stream).await.0], [8, 9]);
}

/// RFC 7766 §6.2.4: who has asked all that he wants may say so, and still has his answers.
#[tokio::test]
async fn a_client_that_ends_its_half_has_all_its_answers() {
    let served = serve(|_| {});
    let mut stream = connect(&served).await;
    let all: Vec<_> = (0..50).flat_map(|id| framed(id, ORDERS, RecordType::SRV)).collect();
    send(&mut stream, &all).await;
    stream.shutdown().await.unwrap();
    for id in 0..50 {
        assert_eq!(answer(&mut stream).await, (id, 2));
    }
    assert!(matches!(next(&mut stream).await, Ok(None)));
}

/// RFC 5936 §4.1.1: a connection is not only for a transfer; answers keep their order.
#[tokio::test]
async fn a_transfer_stands_among_other_answers() {
    let served = serve(|settings| settings.transfer = vec!["127.0.0.0/8".parse().unwrap()]);
    let mut stream = connect(&served).await;
    let zone = "rollcall.internal.";
    let all = [
        framed(1, ORDERS, RecordType::SRV),
        framed(2, zone, RecordType::AXFR),
        framed(3, zone, RecordType::SOA),
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

/// What `dig` prints of the zone.
fn dig(served: &Served, arguments: &[&str]) -> String {
    let port = served.address.port().to_string();
    let output = Command::new("dig")
        .args(["@127.0.0.1", "-p", &port, "+tries=1", "+time=10", "rollcall.internal"])
        .args(arguments)
        .output()
        .expect("these tests need `dig` (Debian: apt-get install dnsutils)");
    String::from_utf8(output.stdout).unwrap()
}

/// RFC 5936 and RFC 1995, as another implementation reads them.
#[tokio::test(flavor = "multi_thread")]
async fn dig_transfers_the_zone_and_what_is_new_in_it() {
    let served = serve(|settings| settings.transfer = vec!["127.0.0.0/8".parse().unwrap()]);
    let dig = |arguments: &[&str]| dig(&served, arguments);
    // Of 300 in `crowd` the service's A and SRV, the port's SRV, and A and SRV of each: 1,500 records.
    let whole = dig(&["AXFR"]);
    let size = whole.lines().find_map(|line| line.strip_prefix(";; XFR size: ")).expect(&whole);
    let records: usize = size.split(' ').next().unwrap().parse().unwrap();
    assert!(records > 1500, "{size}");
    let soa = dig(&["+short", "SOA"]);
    let serial: u32 = soa.split(' ').nth(2).unwrap().parse().unwrap();
    for (had, all) in [(serial - 1, true), (serial, false), (serial + 1, false)] {
        let text = dig(&[&format!("IXFR={had}")]);
        let size = text.lines().find_map(|line| line.strip_prefix(";; XFR size: ")).expect(&text);
        assert_eq!(size.starts_with("1 records"), !all, "IXFR={had}: {size}");
    }
    let strangers = serve(|settings| settings.transfer = vec!["192.0.2.0/24".parse().unwrap()]);
    assert!(self::dig(&strangers, &["AXFR"]).contains("Transfer failed"));
}

/// RFC 7766 §6.2.3: idle is who asks nothing, however long the connection is open already.
#[tokio::test]
async fn a_connection_is_ended_when_nothing_is_asked_on_it_and_not_before() {
    let idle = Duration::from_millis(1500);
    let served = serve(|settings| settings.idle = idle);
    let mut silent = connect(&served).await;
    let begun = Instant::now();
    assert!(matches!(next(&mut silent).await, Ok(None)), "an orderly end");
    assert!(begun.elapsed() >= idle, "{:?}", begun.elapsed());
    // Longer than it may be idle, asking twenty times as often as it has to.
    let mut active = connect(&served).await;
    let begun = Instant::now();
    while begun.elapsed() < idle * 3 / 2 {
        assert!(works(&mut active).await, "after {:?}", begun.elapsed());
        tokio::time::sleep(idle / 20).await;
    }
    assert!(is_over(&mut active).await);
}

/// RFC 7828 §3.3.2: what is told is what holds.
#[tokio::test]
async fn a_client_that_asks_is_told_how_long_it_may_be_idle() {
    let served = serve(|settings| settings.idle = Duration::from_millis(4_200));
    let mut stream = connect(&served).await;
    let mut message = query(ORDERS, RecordType::SRV, Some(1232));
    let keepalive = EdnsOption::Unknown(11, Vec::new());
    message.edns.as_mut().unwrap().options_mut().insert(keepalive);
    send(&mut stream, &frame(&message.to_vec().unwrap())).await;
    let answer = next(&mut stream).await.unwrap().unwrap();
    let told = answer.edns.unwrap().option(EdnsCode::Keepalive).cloned();
    assert_eq!(told, Some(EdnsOption::Unknown(11, vec![0, 42])));
}

/// RFC 9210 §4.2: who begins a query and does not go on holds a place that others need.
#[tokio::test]
async fn half_a_query_is_waited_for_no_longer_than_an_idle_client() {
    let served = serve(|settings| settings.idle = Duration::from_millis(500));
    let octets = framed(1, ORDERS, RecordType::SRV);
    for cut in [1, 2, 20, octets.len() - 1] {
        let mut stream = connect(&served).await;
        send(&mut stream, &octets[..cut]).await;
        assert!(matches!(next(&mut stream).await, Ok(None)), "cut at {cut}: an orderly end");
    }
}

/// RFC 9210 §4.2: nor does one who asks and does not read keep its place.
#[tokio::test]
async fn a_client_that_takes_no_answers_loses_its_place() {
    let served = serve(|settings| {
        (settings.connections, settings.idle) = (1, Duration::from_millis(500));
    });
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = within(socket.connect(served.address)).await.unwrap();
    // More answers, each of some 28,000 octets, than the system takes in our place.
    let all = framed(1, CROWD, RecordType::SRV).repeat(2000);
    let asking = tokio::spawn(async move {
        let _ = stream.write_all(&all).await;
        stream
    });
    let stream = within(asking).await.unwrap();
    let another = async {
        while !works(&mut connect(&served).await).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, another).await.unwrap();
    drop(stream);
}

/// RFC 7766 §6.2.3: a server may end a connection, but not lose what it has answered. With a small window most
/// of that is still on our side when the last query is answered, and others lie unread.
#[tokio::test(flavor = "multi_thread")]
async fn after_ten_thousand_queries_a_connection_ends_and_every_answer_arrives() {
    let served = serve(|_| {});
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = within(socket.connect(served.address)).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    // No question: a format error of a header alone.
    let one = frame(&[0x12, 0x67, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let all = one.repeat(QUERIES + UNHEARD);
    let writing = tokio::spawn(async move {
        let _ = write.write_all(&all).await;
        write
    });
    let mut octets = Vec::new();
    let mut piece = [0; 1024];
    loop {
        match within(read.read(&mut piece)).await {
            Ok(0) => break,
            Ok(length) => octets.extend_from_slice(&piece[..length]),
            Err(error) => panic!("{error} after {} octets", octets.len()),
        }
    }
    assert_eq!(octets.len(), QUERIES * 14);
    let codes: Vec<u8> = octets.chunks(14).map(|message| message[5] & 0xf).collect();
    assert!(
        codes.iter().all(|code| *code == u8::try_from(u16::from(ResponseCode::FormErr)).unwrap())
    );
    drop(within(writing).await.unwrap());
    assert!(works(&mut connect(&served).await).await, "a new one begins anew");
}

/// RFC 7766 §6.2.3: nor when the server stops while a client goes on asking.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_while_we_stop_sees_an_orderly_end_between_two_answers() {
    let served = serve(|_| {});
    let (mut read, mut write) = connect(&served).await.into_split();
    let enough = CancellationToken::new();
    let asking = tokio::spawn({
        let enough = enough.clone();
        let one = framed(3, ORDERS, RecordType::SRV);
        async move {
            // A few at a time, so that some are always on their way.
            while !enough.is_cancelled() && write.write_all(&one.repeat(50)).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            write
        }
    });
    let mut octets = vec![0; 14];
    within(read.read_exact(&mut octets)).await.unwrap();
    served.stop.cancel();
    // It goes on beyond the quarter of a second for which we linger.
    let enough = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        enough.cancel();
    };
    let (end, ()) = tokio::join!(within(read.read_to_end(&mut octets)), enough);
    end.expect("no reset");
    let mut rest = &octets[..];
    while let Some((length, messages)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let message = Message::from_vec(&messages[..length]).unwrap();
        assert_eq!((message.metadata.id, message.answers.len()), (3, 2));
        rest = &messages[length..];
    }
    drop(within(asking).await.unwrap());
}

/// What is no query over UDP is none over TCP; nobody waits for an answer to it.
#[tokio::test]
async fn what_is_no_query_ends_its_connection_and_no_other() {
    let served = serve(|_| {});
    let mut other = connect(&served).await;
    let mut response = framed(1, ORDERS, RecordType::SRV);
    response[4] |= 0x80;
    let long = frame(&[0; 4097]);
    for wrong in [response, frame(&[]), frame(&[0; 11]), long] {
        let mut stream = connect(&served).await;
        send(&mut stream, &wrong).await;
        assert!(is_over(&mut stream).await, "{:?}", &wrong[..2]);
        assert!(works(&mut other).await);
    }
}

/// RFC 9210 §4.2: places are bounded, in all and for one address.
#[tokio::test]
async fn connections_are_bounded_for_one_address_and_in_all() {
    let served = serve(|settings| settings.connections = 8);
    let mut first = Vec::new();
    for _ in 0..2 {
        first.push(connect(&served).await);
    }
    for stream in &mut first {
        assert!(works(stream).await);
    }
    assert!(!works(&mut connect(&served).await).await, "one address has a quarter");
    let mut others = Vec::new();
    for last in [2, 2, 3, 3, 4, 4] {
        let mut stream = connect_from([127, 0, 0, last], &served).await;
        assert!(works(&mut stream).await, "127.0.0.{last}");
        others.push(stream);
    }
    assert!(!works(&mut connect_from([127, 0, 0, 5], &served).await).await, "all are taken");
    for stream in first.iter_mut().chain(&mut others) {
        assert!(works(stream).await, "those who are in stay in");
    }
    drop(others.pop());
    // The place is free once the server has seen the end.
    let again = async {
        while !works(&mut connect_from([127, 0, 0, 5], &served).await).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
}
