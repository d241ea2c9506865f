//! Answers of every type and size through resolvers that check case, and addresses back to names.

use std::net::SocketAddr;
use std::process::Command;

use hickory_proto::rr::RecordType;
use serde_json::json;

use super::{BOUND, ZONE, below, permanent, register, register_many};
use crate::support::daemon::{Daemon, Upstream};
use crate::support::{Rollcall, dns, eventually, namespace};

/// More than fit into any datagram.
const CROWD: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resolvers_give_on_all_of_what_rollcall_answers() {
    let ns = namespace("sizes").await;
    let networks = ["--dns-reverse-zones", "10.0.0.0/8,fd00::/8"];
    let server = ["--dns-name-servers", "127.0.0.1"];
    let flags = [networks, server].concat();
    let rollcall = Rollcall::start_with(&ns, "rollcall-0", &flags).await;
    let mut body = permanent("one", "10.5.0.1");
    body["addresses"] = json!(["10.5.0.1", "fd00::5:1"]);
    body["attributes"] = json!({"team": "blue", "long": "x".repeat(300)});
    register(rollcall.http, &ns, "one-1", body).await;
    register_many(rollcall.http, &ns, ("crowd", 4), CROWD).await;
    let (one, crowd) = (below(&ns, "one"), below(&ns, "crowd"));
    eventually("all are there", BOUND, async || {
        let answer = dns::ask_all(rollcall.dns, &crowd, RecordType::A).await?;
        (answer.answers.len() == CROWD).then_some(())
    })
    .await;
    let zones = [ZONE, "10.in-addr.arpa", "d.f.ip6.arpa"];
    let by = |upstream| zones.map(|zone| (zone, upstream));
    let stub = Daemon::unbound("sizes-stub", rollcall.dns, &by(Upstream::Stub)).await;
    let forward = Daemon::unbound("sizes-forward", rollcall.dns, &by(Upstream::Forward)).await;
    let dnsmasq = Daemon::dnsmasq("sizes", rollcall.dns, ZONE).await;
    // The name server comes first: whoever would rather ask it at port 53 than where he was told finds nobody there.
    let forms = [
        (ZONE.to_owned(), RecordType::NS),
        (ZONE.to_owned(), RecordType::SOA),
        (format!("ns.dns.{ZONE}"), RecordType::A),
        (one.clone(), RecordType::A),
        (one.clone(), RecordType::AAAA),
        (one.clone(), RecordType::SRV),
        (format!("_http._tcp.{one}"), RecordType::SRV),
        (format!("one-1.{one}"), RecordType::TXT),
        (format!("eu._near.{one}"), RecordType::A),
        (crowd.clone(), RecordType::A),
        (format!("_http._tcp.{crowd}"), RecordType::SRV),
        (format!("_grpc._tcp.{crowd}"), RecordType::SRV),
        (format!("crowd-299.{crowd}"), RecordType::A),
        (format!("_tcp.{crowd}"), RecordType::A),
    ];
    for (who, to) in
        [("stub", stub.address), ("forward", forward.address), ("dnsmasq", dnsmasq.address)]
    {
        for (name, kind) in &forms {
            same(rollcall.dns, (who, to), name, *kind).await;
        }
    }
    for (ip, name) in [("10.5.0.1", "one-1.one"), ("fd00::5:1", "one-1.one")] {
        for to in [rollcall.dns, stub.address, forward.address] {
            assert_eq!(dig(to, &["-x", ip]), format!("{}.\n", below(&ns, name)), "{ip}");
        }
    }
    let quiet = dig(stub.address, &["+noshort", "+comments", "-x", "10.5.0.2"]);
    assert!(quiet.contains("status: NXDOMAIN"), "{quiet}");
}

/// Both answer the same to a question.
async fn same(rollcall: SocketAddr, (who, to): (&str, SocketAddr), name: &str, kind: RecordType) {
    let own = dns::ask_all(rollcall, name, kind).await.unwrap();
    let Some(answer) = dns::ask_all(to, name, kind).await else {
        panic!("{who} does not answer {name} {kind}");
    };
    let code = answer.metadata.response_code;
    assert_eq!(code, own.metadata.response_code, "{who}: {name} {kind}");
    assert_eq!(dns::rows(&answer), dns::rows(&own), "{who}: {name} {kind}");
}

fn dig(to: SocketAddr, arguments: &[&str]) -> String {
    let output = Command::new("dig")
        .args([&format!("@{}", to.ip()), "-p", &to.port().to_string(), "+short"])
        .args(arguments)
        .output()
        .expect("these tests need `dig` (Debian: apt-get install dnsutils)");
    String::from_utf8(output.stdout).unwrap()
}
