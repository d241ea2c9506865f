//! Answers of every type and size through resolvers that randomize case, and reverse lookups.

use std::net::SocketAddr;
use std::process::Command;

use hickory_proto::rr::RecordType;
use serde_json::json;

use super::{BOUND, ZONE, below, permanent, register, register_many};
use crate::support::daemon::{Daemon, Upstream};
use crate::support::{Rollcall, dns, eventually, namespace};

/// More instances than a datagram can hold.
const MANY: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resolvers_return_the_answers_of_rollcall() {
    let ns = namespace("sizes").await;
    let networks = ["--dns-reverse-zones", "10.0.0.0/8,fd00::/8"];
    let server = ["--dns-name-servers", "127.0.0.1"];
    let flags = [networks, server].concat();
    let rollcall = Rollcall::start_with(&ns, "rollcall-0", &flags).await;
    let mut body = permanent("one", "10.5.0.1");
    body["addresses"] = json!(["10.5.0.1", "fd00::5:1"]);
    body["attributes"] = json!({"team": "blue", "long": "x".repeat(300)});
    register(rollcall.http, &ns, "one-1", body).await;
    register_many(rollcall.http, &ns, ("many", 4), MANY).await;
    let (one, many) = (below(&ns, "one"), below(&ns, "many"));
    eventually("all instances are discoverable", BOUND, async || {
        let answer = dns::ask_all(rollcall.dns, &many, RecordType::A).await?;
        (answer.answers.len() == MANY).then_some(())
    })
    .await;
    let zones = [ZONE, "10.in-addr.arpa", "d.f.ip6.arpa"];
    let zones_by = |upstream| zones.map(|zone| (zone, upstream));
    let stub = Daemon::unbound("sizes-stub", rollcall.dns, &zones_by(Upstream::Stub)).await;
    let forward =
        Daemon::unbound("sizes-forward", rollcall.dns, &zones_by(Upstream::Forward)).await;
    let dnsmasq = Daemon::dnsmasq("sizes", rollcall.dns, ZONE).await;
    // The name server comes first: a resolver that then queries it at port 53, and not at the configured port, fails.
    let questions = [
        (ZONE.to_owned(), RecordType::NS),
        (ZONE.to_owned(), RecordType::SOA),
        (format!("ns.dns.{ZONE}"), RecordType::A),
        (one.clone(), RecordType::A),
        (one.clone(), RecordType::AAAA),
        (one.clone(), RecordType::SRV),
        (format!("_http._tcp.{one}"), RecordType::SRV),
        (format!("one-1.{one}"), RecordType::TXT),
        (format!("eu._near.{one}"), RecordType::A),
        (many.clone(), RecordType::A),
        (format!("_http._tcp.{many}"), RecordType::SRV),
        (format!("_grpc._tcp.{many}"), RecordType::SRV),
        (format!("many-299.{many}"), RecordType::A),
        (format!("_tcp.{many}"), RecordType::A),
    ];
    for (resolver, server) in
        [("stub", stub.address), ("forward", forward.address), ("dnsmasq", dnsmasq.address)]
    {
        for (name, kind) in &questions {
            assert_same_answer(rollcall.dns, (resolver, server), name, *kind).await;
        }
    }
    for (ip, name) in [("10.5.0.1", "one-1.one"), ("fd00::5:1", "one-1.one")] {
        for server in [rollcall.dns, stub.address, forward.address] {
            assert_eq!(dig(server, &["-x", ip]), format!("{}.\n", below(&ns, name)), "{ip}");
        }
    }
    let missing = dig(stub.address, &["+noshort", "+comments", "-x", "10.5.0.2"]);
    assert!(missing.contains("status: NXDOMAIN"), "{missing}");
}

/// Asserts that a resolver returns the answer of rollcall.
async fn assert_same_answer(
    rollcall: SocketAddr,
    (resolver, server): (&str, SocketAddr),
    name: &str,
    kind: RecordType,
) {
    let own = dns::ask_all(rollcall, name, kind).await.unwrap();
    let Some(answer) = dns::ask_all(server, name, kind).await else {
        panic!("{resolver} does not answer {name} {kind}");
    };
    let code = answer.metadata.response_code;
    assert_eq!(code, own.metadata.response_code, "{resolver}: {name} {kind}");
    assert_eq!(dns::rows(&answer), dns::rows(&own), "{resolver}: {name} {kind}");
}

fn dig(server: SocketAddr, arguments: &[&str]) -> String {
    let output = Command::new("dig")
        .args([&format!("@{}", server.ip()), "-p", &server.port().to_string(), "+short"])
        .args(arguments)
        .output()
        .expect("these tests need `dig` (Debian: apt-get install dnsutils)");
    String::from_utf8(output.stdout).unwrap()
}
