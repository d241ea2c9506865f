//! DNS over real sockets, queried by a test client and by `dig`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking; clippy.toml allows it only inside the tests themselves"
)]

use std::{
    net::{IpAddr, SocketAddr},
    process::Command,
    sync::Arc,
    time::Duration,
};

use clap::{Args as _, FromArgMatches as _};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use prometheus_client::registry::Registry;
use rollcall::clock;
use rollcall::config::{DnsSettings, ServeArgs};
use rollcall::dns::{DnsError, DnsServer, Metrics, Zones, bind};
use rollcall_core::catalog::{Catalog, Settings};
use rollcall_core::directory::Directory;
use rollcall_core::fact::{Duty, Fact, SelfBeat};
use rollcall_model::instance::{Address, Facts, Instance, InstanceKey, Port, Protocol};
use rollcall_model::lease::LeaseMode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

/// The deadline for an answer, far longer than an answer takes.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) const ORDERS: &str = "_http._tcp.orders.shop.svc.rollcall.internal.";
pub(crate) const MANY: &str = "_http._tcp.many.shop.svc.rollcall.internal.";

fn instance(service: &str, name: &str, ip: IpAddr) -> Instance {
    let http =
        Port { name: "http".into(), port: 8080, protocol: Protocol::Tcp, app_protocol: None };
    let address = Address::Ips([ip].into());
    let facts = Facts::new(InstanceKey::new("shop", name), service.into(), address);
    Instance::new(facts).with(|facts| {
        facts.uid = format!("uid-{name}").into();
        facts.ports = [http].into();
        facts.lease.mode = LeaseMode::Permanent;
    })
}

/// A directory with the services `orders` (2 instances) and `many` (300), and the current moment as horizon.
pub(crate) fn directory() -> Arc<Directory> {
    let directory = Arc::<Directory>::default();
    let own = InstanceKey::new("shop", "rollcall-0");
    let zone = "rollcall.internal".to_owned();
    let boot = "b".into();
    let settings = Settings { own, boot, zone, ledger: None };
    let mut catalog: Catalog = Catalog::new(settings, directory.clone());
    let replica = instance("rollcall", "rollcall-0", [127, 0, 0, 1].into());
    let mut instances = vec![Arc::new(replica.clone())];
    let ordinary = instance("orders", "o0", [10, 0, 0, 0].into());
    let canary = instance("orders", "o1", [10, 0, 0, 1].into()).with(|facts| {
        facts.version = Some("2.3.1".into());
        facts.tags = Arc::from(["Canary".into()]);
        facts.zone = Some("EU_1a".into());
        facts.attributes =
            Arc::from([("path".into(), "/v2?a=b".into()), ("x".into(), "y".repeat(300).into())]);
    });
    instances.extend([Arc::new(ordinary), Arc::new(canary)]);
    for i in 0..300_u16 {
        let [high, low] = i.to_be_bytes();
        instances.push(Arc::new(instance("many", &format!("c{i}"), [10, 1, high, low].into())));
    }
    catalog.apply(Fact::Listed { instances, index: 1 }, clock::now());
    for duty in catalog.settle(clock::now(), 0) {
        if let Duty::SelfBeat(SelfBeat { value, .. }) = duty {
            let (heartbeat, resource_version) = (Some(value.into()), 2);
            let observed = Instance { heartbeat, resource_version, ..replica.clone() };
            catalog.apply(Fact::SelfBeatWritten { answer: Ok(u64::MAX) }, clock::now());
            catalog.apply(Fact::Upserted(Arc::new(observed)), clock::now());
        }
    }
    catalog.settle(clock::now(), 0);
    directory
}

/// A running DNS server, its stop token and its metrics.
struct TestServer {
    address: SocketAddr,
    stop: CancellationToken,
    end: tokio::task::JoinHandle<Result<(), DnsError>>,
    metrics: Registry,
}

/// The default settings, but without a rate limit.
pub(crate) fn settings() -> DnsSettings {
    let own = ["serve", "--identity", "rollcall-0", "--auth", "none"];
    let dns = ["--dns-name-servers", "192.0.2.53", "--dns-error-rate", "0"];
    let command = ServeArgs::augment_args(clap::Command::new("serve"));
    let matches = command.get_matches_from(own.iter().chain(&dns));
    ServeArgs::from_arg_matches(&matches).unwrap().validate().unwrap().dns
}

/// Binds a DNS server for the directory to this address.
pub(crate) fn bind_to(
    address: SocketAddr,
    settings: DnsSettings,
    metrics: &mut Registry,
) -> Result<DnsServer, DnsError> {
    let zones = Zones::new("rollcall.internal", settings, directory()).unwrap();
    bind(zones, &[address], "rollcall-0", Metrics::register(metrics))
}

async fn serve() -> TestServer {
    let mut metrics = Registry::with_prefix("rollcall");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = bind_to(any, settings(), &mut metrics).unwrap();
    let (address, stop) = (server.addresses()[0], CancellationToken::new());
    let end = tokio::spawn(server.serve(stop.clone()));
    TestServer { address, stop, end, metrics }
}

pub(crate) fn query(name: &str, kind: RecordType, size: Option<u16>) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.edns = size.map(|size| {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        edns
    });
    message
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, future).await.expect("an answer before the timeout")
}

/// The response to a query over UDP, and its size.
async fn udp(served: &TestServer, message: &Message) -> (Message, usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&message.to_vec().unwrap(), served.address).await.unwrap();
    let mut bytes = vec![0; 65_535];
    let (size, _) = within(socket.recv_from(&mut bytes)).await.unwrap();
    (Message::from_vec(&bytes[..size]).unwrap(), size)
}

/// The responses to queries that are sent over one connection without waiting for answers.
async fn tcp(served: &TestServer, messages: &[Message]) -> Vec<Message> {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    for message in messages {
        let bytes = message.to_vec().unwrap();
        stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
    }
    let mut responses = Vec::new();
    for _ in messages {
        let mut bytes = vec![0; usize::from(within(stream.read_u16()).await.unwrap())];
        within(stream.read_exact(&mut bytes)).await.unwrap();
        responses.push(Message::from_vec(&bytes).unwrap());
    }
    responses
}

/// The output of `dig`.
fn dig(served: &TestServer, arguments: &[&str]) -> String {
    let port = served.address.port().to_string();
    let output = Command::new("dig")
        .args(["@127.0.0.1", "-p", &port, "+tries=1", "+time=10"])
        .args(arguments)
        .output()
        .expect("these tests need `dig` (Debian: apt-get install dnsutils)");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "dig {arguments:?}: {text}");
    text
}

fn check_dig(served: &TestServer, arguments: &[&str], expected: &[&str], unexpected: &[&str]) {
    let text = dig(served, arguments);
    for text_part in expected {
        assert!(text.contains(text_part), "dig {arguments:?} lacks {text_part:?}:\n{text}");
    }
    for text_part in unexpected {
        assert!(!text.contains(text_part), "dig {arguments:?} has {text_part:?}:\n{text}");
    }
}

#[tokio::test]
async fn service_is_answered_over_udp_and_tcp() {
    let served = serve().await;
    let question = query(ORDERS, RecordType::SRV, Some(4096));
    let over_udp = udp(&served, &question).await.0;
    let over_tcp = tcp(&served, &[question.clone(), question]).await;
    for answer in [&over_udp, &over_tcp[0], &over_tcp[1]] {
        assert_eq!((answer.answers.len(), answer.additionals.len()), (2, 2));
        assert!(answer.metadata.authoritative && answer.edns.is_some());
    }
}

#[tokio::test]
async fn three_hundred_instances_are_truncated_over_udp_and_whole_over_tcp() {
    let served = serve().await;
    for (size, limit) in [(None, 512), (Some(1), 512), (Some(800), 800), (Some(4096), 1232)] {
        for kind in [RecordType::SRV, RecordType::A] {
            let name = if kind == RecordType::A { &MANY["_http._tcp.".len()..] } else { MANY };
            let (answer, bytes) = udp(&served, &query(name, kind, size)).await;
            assert!(bytes <= limit && bytes > limit - 130, "{bytes} of {limit}");
            assert!(answer.metadata.truncation && answer.answers.len() > 3);
            assert_eq!((answer.authorities.len(), answer.additionals.len()), (0, 0));
            assert_eq!(answer.edns.is_some(), size.is_some());
        }
    }
    let answer = &tcp(&served, &[query(MANY, RecordType::SRV, None)]).await[0];
    assert!(!answer.metadata.truncation);
    assert_eq!((answer.answers.len(), answer.additionals.len()), (300, 300));
}

#[tokio::test]
async fn response_is_never_answered() {
    let served = serve().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut response = query(ORDERS, RecordType::SRV, None);
    response.metadata.message_type = MessageType::Response;
    response.metadata.id = 1;
    socket.send_to(&response.to_vec().unwrap(), served.address).await.unwrap();
    socket.send_to(&[0; 11], served.address).await.unwrap();
    let question = query(ORDERS, RecordType::SRV, None);
    socket.send_to(&question.to_vec().unwrap(), served.address).await.unwrap();
    let mut bytes = [0; 512];
    let (size, _) = within(socket.recv_from(&mut bytes)).await.unwrap();
    assert_eq!(Message::from_vec(&bytes[..size]).unwrap().metadata.id, 4711);
}

#[tokio::test]
async fn truncated_query_is_a_format_error() {
    let served = serve().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut bytes = query(ORDERS, RecordType::SRV, None).to_vec().unwrap();
    bytes.truncate(20);
    socket.send_to(&bytes, served.address).await.unwrap();
    let mut bytes = [0; 512];
    let (size, _) = within(socket.recv_from(&mut bytes)).await.unwrap();
    let answer = Message::from_vec(&bytes[..size]).unwrap().metadata;
    assert_eq!((answer.id, answer.response_code), (4711, ResponseCode::FormErr));
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_prints_the_expected_records() {
    let served = serve().await;
    let srv = "0 100 8080 o1.orders.shop.svc.rollcall.internal.";
    check_dig(&served, &["SRV", ORDERS], &["status: NOERROR", srv, "flags: qr aa rd;"], &[]);
    check_dig(&served, &["+short", "o1.orders.shop.svc.rollcall.internal"], &["10.0.0.1\n"], &[]);
    let soa = "ns.dns.rollcall.internal. hostmaster.rollcall.internal.";
    check_dig(&served, &["none.shop.svc.rollcall.internal"], &["status: NXDOMAIN", soa], &[]);
    let nodata = ["status: NOERROR", "ANSWER: 0, AUTHORITY: 1", soa];
    check_dig(&served, &["AAAA", "orders.shop.svc.rollcall.internal"], &nodata, &[]);
    check_dig(
        &served,
        &["NS", "rollcall.internal"],
        &["ns.dns.rollcall.internal.", "192.0.2.53"],
        &[],
    );
    check_dig(
        &served,
        &["example.com"],
        &["status: REFUSED", "EDE: 20", "flags: qr rd;"],
        &["SOA"],
    );
    check_dig(&served, &["+notcp", "ANY", "orders.shop.svc.rollcall.internal"], &["RFC8482"], &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_finds_instances_by_each_selector() {
    let served = serve().await;
    let below = "orders.shop.svc.rollcall.internal";
    for selector in ["2-3-1._ver", "CANARY._tag", "eu-1a._zone", "eu-1a._near.canary._tag"] {
        let name = format!("{selector}.{below}");
        check_dig(&served, &["A", &name], &["ANSWER: 1,", "10.0.0.1\n", "aa rd;"], &[]);
        let srv = ["ANSWER: 1,", "0 100 8080 o1.orders.shop.svc.rollcall.internal."];
        check_dig(&served, &["SRV", &name], &srv, &[]);
        check_dig(&served, &["SRV", &format!("_http._tcp.{name}")], &srv, &[]);
        check_dig(&served, &["AAAA", &name], &["status: NOERROR", "ANSWER: 0,", "SOA"], &[]);
    }
    check_dig(&served, &[&format!("mars._near.{below}")], &["ANSWER: 2,"], &[]);
    for (name, status) in [
        ("_ver", "NOERROR"),
        ("_near", "NOERROR"),
        ("mars._zone", "NXDOMAIN"),
        ("1._ver.2-3-1._ver", "NXDOMAIN"),
        ("_grpc._tcp.2-3-1._ver", "NXDOMAIN"),
    ] {
        let status = format!("status: {status}");
        check_dig(&served, &[&format!("{name}.{below}")], &[&status, "ANSWER: 0,", "SOA"], &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_finds_attributes_and_dns_version() {
    let served = serve().await;
    let below = "orders.shop.svc.rollcall.internal";
    // `x=` and 253 letters, then the other 47, in two strings of one record.
    let long = format!("\"x={}\" \"{}\"", "y".repeat(253), "y".repeat(47));
    let records = ["ANSWER: 2,", "\"path=/v2?a=b\"", &long];
    check_dig(&served, &["TXT", &format!("o1.{below}")], &records, &[]);
    let no_data = ["status: NOERROR", "ANSWER: 0,", "SOA"];
    for name in [below, &format!("o0.{below}")] {
        check_dig(&served, &["TXT", name], &no_data, &[]);
    }
    check_dig(&served, &["A", &format!("o1.{below}")], &["ANSWER: 1,"], &["TXT"]);
    check_dig(
        &served,
        &["TXT", "dns-version.rollcall.internal"],
        &["ANSWER: 1,", "\"1.1.0\""],
        &[],
    );
    check_dig(&served, &["A", "dns-version.rollcall.internal"], &no_data, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_gets_valid_messages_for_all_its_options() {
    let served = serve().await;
    check_dig(&served, &["+noedns", "SRV", ORDERS], &["status: NOERROR"], &["OPT PSEUDOSECTION"]);
    let mut opt = vec!["EDNS: version: 0, flags:; udp: 1232"];
    check_dig(&served, &["+bufsize=4096", "SRV", ORDERS], &opt, &["NSID", "malformed"]);
    check_dig(
        &served,
        &["+nsid", "+ednsopt=65001:00", "SRV", ORDERS],
        &["EDNS: version: 0, flags:; udp: 1232", "(\"rollcall-0\")", "(good)"],
        &["OPT=65001", "malformed"],
    );
    opt.push("status: BADVERS");
    check_dig(&served, &["+edns=1", "+noednsneg", "SRV", ORDERS], &opt, &[]);
    check_dig(&served, &["+dnssec", "SRV", ORDERS], &["flags: do;"], &["flags: qr aa rd ad"]);
    check_dig(&served, &["CH", "TXT", "version.bind"], &["status: REFUSED"], &[]);
    check_dig(&served, &["+opcode=status", "SRV", ORDERS], &["status: NOTIMP"], &[]);
    check_dig(&served, &["+tcp", "SRV", MANY], &["ANSWER: 300", "c299.many"], &["Truncated"]);
    check_dig(&served, &["+notcp", "SRV", MANY], &["Truncated", "ANSWER: 300", "(TCP)"], &[]);
    check_dig(&served, &["+ignore", "SRV", MANY], &["flags: qr aa tc rd;"], &[]);
    let mixed = "oRdErS.sHoP.svc.RollCall.internal.";
    check_dig(&served, &["A", mixed], &[&format!(";{mixed}"), &format!("\n{mixed}")], &["orders"]);
}

#[tokio::test]
async fn queries_are_counted_with_bounded_labels() {
    let served = serve().await;
    udp(&served, &query(ORDERS, RecordType::SRV, None)).await;
    udp(&served, &query(MANY, RecordType::SRV, None)).await;
    udp(&served, &query("x.rollcall.internal.", RecordType::Unknown(60_000), None)).await;
    tcp(&served, &[query("example.com.", RecordType::A, None)]).await;
    let expected = [
        r#"rollcall_dns_queries_total{type="SRV",rcode="NOERROR",transport="udp"} 2"#,
        r#"rollcall_dns_queries_total{type="other",rcode="NXDOMAIN",transport="udp"} 1"#,
        r#"rollcall_dns_queries_total{type="A",rcode="REFUSED",transport="tcp"} 1"#,
        "rollcall_dns_truncated_total 1",
        r#"rollcall_dns_query_duration_seconds_count{transport="udp"} 3"#,
        r#"rollcall_dns_query_duration_seconds_count{transport="tcp"} 1"#,
    ];
    // The server counts an answer after it has sent it.
    within(async {
        loop {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &served.metrics).unwrap();
            if expected.iter().all(|line| text.contains(line)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn stopped_server_releases_its_addresses() {
    let served = serve().await;
    let connection = TcpStream::connect(served.address).await.unwrap();
    served.stop.cancel();
    within(served.end).await.unwrap().unwrap();
    bind_to(served.address, settings(), &mut Registry::default()).unwrap();
    drop(connection);
}

#[tokio::test]
async fn bind_and_zone_errors_name_the_flag() {
    let served = serve().await;
    let bound = bind_to(served.address, settings(), &mut Registry::default());
    let message = bound.err().unwrap().to_string();
    assert!(message.contains(&served.address.to_string()) && message.contains("--dns-listen"));
    let invalid = Zones::new("not a zone", settings(), directory());
    let message = invalid.err().unwrap().to_string();
    assert!(message.contains("--zone \"not a zone\""), "{message}");
}
