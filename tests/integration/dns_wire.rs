//! DNS on real sockets, asked by a client of our own and by `dig`.

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
use rollcall::dns::{DnsError, DnsServer, Metrics, Realm, bind};
use rollcall_core::catalog::{Catalog, Settings};
use rollcall_core::directory::Directory;
use rollcall_core::fact::{Duty, Fact, SelfBeat};
use rollcall_model::instance::{Address, Facts, Instance, InstanceKey, Port, Protocol};
use rollcall_model::lease::LeaseMode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

/// Far more than any answer on this machine takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const ORDERS: &str = "_http._tcp.orders.shop.svc.rollcall.internal.";
pub(crate) const CROWD: &str = "_http._tcp.crowd.shop.svc.rollcall.internal.";

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

/// A directory of `orders` (2) and `crowd` (300), whose horizon is now.
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
        instances.push(Arc::new(instance("crowd", &format!("c{i}"), [10, 1, high, low].into())));
    }
    catalog.apply(Fact::Listed { instances, index: 1 }, clock::now());
    for duty in catalog.settle(clock::now(), 0) {
        if let Duty::SelfBeat(SelfBeat { value, .. }) = duty {
            let (heartbeat, resource_version) = (Some(value.into()), 2);
            let seen = Instance { heartbeat, resource_version, ..replica.clone() };
            catalog.apply(Fact::SelfBeatWritten { answer: Ok(u64::MAX) }, clock::now());
            catalog.apply(Fact::Upserted(Arc::new(seen)), clock::now());
        }
    }
    catalog.settle(clock::now(), 0);
    directory
}

/// A served directory; ends with its token.
struct Served {
    address: SocketAddr,
    stop: CancellationToken,
    end: tokio::task::JoinHandle<Result<(), DnsError>>,
    metrics: Registry,
}

/// The settings of a replica by default, but for no bound on errors.
pub(crate) fn settings() -> DnsSettings {
    let own = ["serve", "--identity", "rollcall-0", "--auth", "none"];
    let dns = ["--dns-name-servers", "192.0.2.53", "--dns-error-rate", "0"];
    let command = ServeArgs::augment_args(clap::Command::new("serve"));
    let matches = command.get_matches_from(own.iter().chain(&dns));
    ServeArgs::from_arg_matches(&matches).unwrap().validate().unwrap().dns
}

/// Binds the directory's DNS to this address.
pub(crate) fn bind_to(
    address: SocketAddr,
    settings: DnsSettings,
    metrics: &mut Registry,
) -> Result<DnsServer, DnsError> {
    let realm = Realm::new("rollcall.internal", settings, directory()).unwrap();
    bind(realm, &[address], "rollcall-0", Metrics::register(metrics))
}

async fn serve() -> Served {
    let mut metrics = Registry::with_prefix("rollcall");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = bind_to(any, settings(), &mut metrics).unwrap();
    let (address, stop) = (server.addresses()[0], CancellationToken::new());
    let end = tokio::spawn(server.serve(stop.clone()));
    Served { address, stop, end, metrics }
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

pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("an answer")
}

/// The response to a query over UDP, and its size.
async fn udp(served: &Served, message: &Message) -> (Message, usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&message.to_vec().unwrap(), served.address).await.unwrap();
    let mut octets = vec![0; 65_535];
    let (size, _) = within(socket.recv_from(&mut octets)).await.unwrap();
    (Message::from_vec(&octets[..size]).unwrap(), size)
}

/// The responses to queries that are all sent at once over one connection.
async fn tcp(served: &Served, messages: &[Message]) -> Vec<Message> {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    for message in messages {
        let octets = message.to_vec().unwrap();
        stream.write_u16(u16::try_from(octets.len()).unwrap()).await.unwrap();
        stream.write_all(&octets).await.unwrap();
    }
    let mut responses = Vec::new();
    for _ in messages {
        let mut octets = vec![0; usize::from(within(stream.read_u16()).await.unwrap())];
        within(stream.read_exact(&mut octets)).await.unwrap();
        responses.push(Message::from_vec(&octets).unwrap());
    }
    responses
}

/// What `dig` prints.
fn dig(served: &Served, arguments: &[&str]) -> String {
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

fn check(served: &Served, arguments: &[&str], wanted: &[&str], unwanted: &[&str]) {
    let text = dig(served, arguments);
    for want in wanted {
        assert!(text.contains(want), "dig {arguments:?} lacks {want:?}:\n{text}");
    }
    for unwanted in unwanted {
        assert!(!text.contains(unwanted), "dig {arguments:?} has {unwanted:?}:\n{text}");
    }
}

#[tokio::test]
async fn a_service_is_answered_over_udp_and_tcp() {
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
async fn three_hundred_instances_are_cut_over_udp_and_whole_over_tcp() {
    let served = serve().await;
    for (size, limit) in [(None, 512), (Some(1), 512), (Some(800), 800), (Some(4096), 1232)] {
        for kind in [RecordType::SRV, RecordType::A] {
            let name = if kind == RecordType::A { &CROWD["_http._tcp.".len()..] } else { CROWD };
            let (answer, octets) = udp(&served, &query(name, kind, size)).await;
            assert!(octets <= limit && octets > limit - 130, "{octets} of {limit}");
            assert!(answer.metadata.truncation && answer.answers.len() > 3);
            assert_eq!((answer.authorities.len(), answer.additionals.len()), (0, 0));
            assert_eq!(answer.edns.is_some(), size.is_some());
        }
    }
    let answer = &tcp(&served, &[query(CROWD, RecordType::SRV, None)]).await[0];
    assert!(!answer.metadata.truncation);
    assert_eq!((answer.answers.len(), answer.additionals.len()), (300, 300));
}

#[tokio::test]
async fn a_response_is_never_answered() {
    let served = serve().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut response = query(ORDERS, RecordType::SRV, None);
    response.metadata.message_type = MessageType::Response;
    response.metadata.id = 1;
    socket.send_to(&response.to_vec().unwrap(), served.address).await.unwrap();
    socket.send_to(&[0; 11], served.address).await.unwrap();
    let question = query(ORDERS, RecordType::SRV, None);
    socket.send_to(&question.to_vec().unwrap(), served.address).await.unwrap();
    let mut octets = [0; 512];
    let (size, _) = within(socket.recv_from(&mut octets)).await.unwrap();
    assert_eq!(Message::from_vec(&octets[..size]).unwrap().metadata.id, 4711);
}

#[tokio::test]
async fn what_cannot_be_read_is_a_format_error() {
    let served = serve().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut octets = query(ORDERS, RecordType::SRV, None).to_vec().unwrap();
    octets.truncate(20);
    socket.send_to(&octets, served.address).await.unwrap();
    let mut octets = [0; 512];
    let (size, _) = within(socket.recv_from(&mut octets)).await.unwrap();
    let answer = Message::from_vec(&octets[..size]).unwrap().metadata;
    assert_eq!((answer.id, answer.response_code), (4711, ResponseCode::FormErr));
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_sees_the_records_as_people_expect_them() {
    let served = serve().await;
    let srv = "0 100 8080 o1.orders.shop.svc.rollcall.internal.";
    check(&served, &["SRV", ORDERS], &["status: NOERROR", srv, "flags: qr aa rd;"], &[]);
    check(&served, &["+short", "o1.orders.shop.svc.rollcall.internal"], &["10.0.0.1\n"], &[]);
    let soa = "ns.dns.rollcall.internal. hostmaster.rollcall.internal.";
    check(&served, &["none.shop.svc.rollcall.internal"], &["status: NXDOMAIN", soa], &[]);
    let nodata = ["status: NOERROR", "ANSWER: 0, AUTHORITY: 1", soa];
    check(&served, &["AAAA", "orders.shop.svc.rollcall.internal"], &nodata, &[]);
    check(&served, &["NS", "rollcall.internal"], &["ns.dns.rollcall.internal.", "192.0.2.53"], &[]);
    check(&served, &["example.com"], &["status: REFUSED", "EDE: 20", "flags: qr rd;"], &["SOA"]);
    check(&served, &["+notcp", "ANY", "orders.shop.svc.rollcall.internal"], &["RFC8482"], &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_finds_a_part_of_a_service_by_each_selector() {
    let served = serve().await;
    let below = "orders.shop.svc.rollcall.internal";
    for selector in ["2-3-1._ver", "CANARY._tag", "eu-1a._zone", "eu-1a._near.canary._tag"] {
        let name = format!("{selector}.{below}");
        check(&served, &["A", &name], &["ANSWER: 1,", "10.0.0.1\n", "aa rd;"], &[]);
        let srv = ["ANSWER: 1,", "0 100 8080 o1.orders.shop.svc.rollcall.internal."];
        check(&served, &["SRV", &name], &srv, &[]);
        check(&served, &["SRV", &format!("_http._tcp.{name}")], &srv, &[]);
        check(&served, &["AAAA", &name], &["status: NOERROR", "ANSWER: 0,", "SOA"], &[]);
    }
    check(&served, &[&format!("mars._near.{below}")], &["ANSWER: 2,"], &[]);
    for (name, status) in [
        ("_ver", "NOERROR"),
        ("_near", "NOERROR"),
        ("mars._zone", "NXDOMAIN"),
        ("1._ver.2-3-1._ver", "NXDOMAIN"),
        ("_grpc._tcp.2-3-1._ver", "NXDOMAIN"),
    ] {
        let status = format!("status: {status}");
        check(&served, &[&format!("{name}.{below}")], &[&status, "ANSWER: 0,", "SOA"], &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_finds_the_attributes_of_an_instance_and_the_version_of_the_names() {
    let served = serve().await;
    let below = "orders.shop.svc.rollcall.internal";
    // `x=` and 253 letters, then the other 47: two strings of one record.
    let long = format!("\"x={}\" \"{}\"", "y".repeat(253), "y".repeat(47));
    let told = ["ANSWER: 2,", "\"path=/v2?a=b\"", &long];
    check(&served, &["TXT", &format!("o1.{below}")], &told, &[]);
    let nothing = ["status: NOERROR", "ANSWER: 0,", "SOA"];
    for name in [below, &format!("o0.{below}")] {
        check(&served, &["TXT", name], &nothing, &[]);
    }
    check(&served, &["A", &format!("o1.{below}")], &["ANSWER: 1,"], &["TXT"]);
    check(&served, &["TXT", "dns-version.rollcall.internal"], &["ANSWER: 1,", "\"1.1.0\""], &[]);
    check(&served, &["A", "dns-version.rollcall.internal"], &nothing, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_finds_the_rules_of_the_message_kept() {
    let served = serve().await;
    check(&served, &["+noedns", "SRV", ORDERS], &["status: NOERROR"], &["OPT PSEUDOSECTION"]);
    let mut opt = vec!["EDNS: version: 0, flags:; udp: 1232"];
    check(&served, &["+bufsize=4096", "SRV", ORDERS], &opt, &["NSID", "malformed"]);
    check(
        &served,
        &["+nsid", "+ednsopt=65001:00", "SRV", ORDERS],
        &["EDNS: version: 0, flags:; udp: 1232", "(\"rollcall-0\")", "(good)"],
        &["OPT=65001", "malformed"],
    );
    opt.push("status: BADVERS");
    check(&served, &["+edns=1", "+noednsneg", "SRV", ORDERS], &opt, &[]);
    check(&served, &["+dnssec", "SRV", ORDERS], &["flags: do;"], &["flags: qr aa rd ad"]);
    check(&served, &["CH", "TXT", "version.bind"], &["status: REFUSED"], &[]);
    check(&served, &["+opcode=status", "SRV", ORDERS], &["status: NOTIMP"], &[]);
    check(&served, &["+tcp", "SRV", CROWD], &["ANSWER: 300", "c299.crowd"], &["Truncated"]);
    check(&served, &["+notcp", "SRV", CROWD], &["Truncated", "ANSWER: 300", "(TCP)"], &[]);
    check(&served, &["+ignore", "SRV", CROWD], &["flags: qr aa tc rd;"], &[]);
    let mixed = "oRdErS.sHoP.svc.RollCall.internal.";
    check(&served, &["A", mixed], &[&format!(";{mixed}"), &format!("\n{mixed}")], &["orders"]);
}

#[tokio::test]
async fn queries_are_counted_by_bounded_words() {
    let served = serve().await;
    udp(&served, &query(ORDERS, RecordType::SRV, None)).await;
    udp(&served, &query(CROWD, RecordType::SRV, None)).await;
    udp(&served, &query("x.rollcall.internal.", RecordType::Unknown(60_000), None)).await;
    tcp(&served, &[query("example.com.", RecordType::A, None)]).await;
    let wanted = [
        r#"rollcall_dns_queries_total{type="SRV",rcode="NOERROR",transport="udp"} 2"#,
        r#"rollcall_dns_queries_total{type="other",rcode="NXDOMAIN",transport="udp"} 1"#,
        r#"rollcall_dns_queries_total{type="A",rcode="REFUSED",transport="tcp"} 1"#,
        "rollcall_dns_truncated_total 1",
        r#"rollcall_dns_query_duration_seconds_count{transport="udp"} 3"#,
        r#"rollcall_dns_query_duration_seconds_count{transport="tcp"} 1"#,
    ];
    // An answer is counted just after it is sent.
    within(async {
        loop {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &served.metrics).unwrap();
            if wanted.iter().all(|line| text.contains(line)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_stopped_server_frees_its_addresses() {
    let served = serve().await;
    let connection = TcpStream::connect(served.address).await.unwrap();
    served.stop.cancel();
    within(served.end).await.unwrap().unwrap();
    bind_to(served.address, settings(), &mut Registry::default()).unwrap();
    drop(connection);
}

#[tokio::test]
async fn what_cannot_be_served_is_said_with_the_flag_to_change() {
    let served = serve().await;
    let bound = bind_to(served.address, settings(), &mut Registry::default());
    let message = bound.err().unwrap().to_string();
    assert!(message.contains(&served.address.to_string()) && message.contains("--dns-listen"));
    let wrong = Realm::new("not a zone", settings(), directory());
    let message = wrong.err().unwrap().to_string();
    assert!(message.contains("--zone \"not a zone\""), "{message}");
}
