//! A secondary of another make behind rollcall: it says the same, follows changes by NOTIFY, and outlives rollcall.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use kube::api::{Patch, PatchParams};
use rollcall::dev::ports;
use rollcall_api::ServiceInstance;
use serde_json::json;

use super::{BOUND, ZONE, below, deregister, permanent, register, register_many};
use crate::support::daemon::Daemon;
use crate::support::{Namespace, Rollcall, dns, eventually, namespace};

/// Well below the 30 s after which a secondary asks by itself: whoever is there by then was told.
const TOLD: Duration = Duration::from_secs(20);

const KINDS: [RecordType; 8] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::SRV,
    RecordType::TXT,
    RecordType::SOA,
    RecordType::NS,
    RecordType::CNAME,
    RecordType::MX,
];

/// A replica and its secondary.
struct Pair {
    ns: Namespace,
    rollcall: Rollcall,
    nsd: SocketAddr,
    /// Ends with the pair.
    _daemon: Daemon,
}

impl Pair {
    async fn start(prefix: &str, transfer: &str) -> Self {
        let (ns, nsd) = (namespace(prefix).await, ports::free().unwrap());
        let notify = nsd.to_string();
        let flags = [
            ["--dns-transfer", "127.0.0.0/8"],
            ["--dns-notify", &notify],
            ["--dns-name-servers", "127.0.0.1,fd00::53"],
        ];
        let flags = flags.as_flattened();
        let rollcall = Rollcall::start_with(&ns, "rollcall-0", flags).await;
        let daemon = Daemon::nsd(&ns.name, (nsd, rollcall.dns), transfer, ZONE).await;
        Self { ns, rollcall, nsd, _daemon: daemon }
    }

    /// Waits until both have the same content; how long that took.
    async fn follow(&self, bound: Duration) -> Duration {
        let begun = Instant::now();
        eventually("the secondary has the newest serial", bound, async || {
            let newest = serial(self.rollcall.dns).await?;
            (serial(self.nsd).await? == newest).then_some(())
        })
        .await;
        begun.elapsed()
    }

    /// The names of every form whose answers are to be the same.
    fn names(&self) -> Vec<String> {
        let mut names = ["", "svc.", "ns.dns.", "dns.", "dns-version.", "nosuch.", "x.nosuch."]
            .map(|left| format!("{left}{ZONE}"))
            .to_vec();
        let lefts = [
            "",
            "_tcp.",
            "_udp.",
            "_http._tcp.",
            "_HTTP._tcp.",
            "_dns._udp.",
            "_grpc._tcp.",
            "x._http._tcp.",
            "nosuch.",
            "x.nosuch.",
        ];
        for service in ["one", "two", "alias", "mixed", "drained", "nosuch", "rollcall", "ONE"] {
            let base = below(&self.ns, service);
            names.extend(lefts.map(|left| format!("{left}{base}")));
            for at in 0..3 {
                names.push(format!("{}-{at}.{base}", service.to_ascii_lowercase()));
            }
            names.push(format!("rollcall-0.{base}"));
        }
        names.push(format!("{}.svc.{ZONE}", self.ns.name));
        names
    }

    /// Compares every answer.
    async fn compare(&self) {
        let mut answers = 0;
        for name in self.names() {
            for kind in KINDS {
                let (own, answer) = self.ask(&name, kind).await;
                let codes = [&own, &answer].map(|answer| answer.metadata.response_code);
                assert_eq!(codes[0], codes[1], "{name} {kind}");
                // A name that has nobody to offer has a text there, without which it would not exist.
                if !is_reason(&own, &answer) {
                    assert_eq!(dns::rows(&answer), dns::rows(&own), "{name} {kind}");
                    let soas = [&own, &answer].map(is_negative);
                    assert_eq!(soas[0], soas[1], "{name} {kind}: {answer}");
                }
                answers += own.answers.len();
            }
        }
        assert!(answers > 60, "hardly anything was compared: {answers} records");
    }

    async fn ask(&self, name: &str, kind: RecordType) -> (Message, Message) {
        // NSD may be slow while it takes over a transfer.
        let asked = async |server| {
            let ask = async || dns::ask_all(server, name, kind).await;
            eventually("an answer", BOUND, ask).await
        };
        (asked(self.rollcall.dns).await, asked(self.nsd).await)
    }
}

/// Whether the secondary says by a text why there is nothing.
fn is_reason(own: &Message, answer: &Message) -> bool {
    let texts = [own, answer].map(|answer| {
        answer.answers.iter().filter(|record| matches!(record.data, RData::TXT(_))).count()
    });
    own.answers.is_empty() && texts == [0, 1] && answer.answers.len() == 1
}

/// The SOA by which it says that there is nothing, without its serial, which may move.
fn is_negative(answer: &Message) -> Option<(String, u32, u32)> {
    answer.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some((record.name.to_ascii(), record.ttl, soa.minimum)),
        _ => None,
    })
}

async fn serial(server: SocketAddr) -> Option<u32> {
    let answer = dns::ask(server, ZONE, RecordType::SOA).await?;
    answer.answers.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(soa.serial),
        _ => None,
    })
}

async fn has(server: SocketAddr, name: &str, count: usize) -> Option<()> {
    let answer = dns::ask_all(server, name, RecordType::SRV).await?;
    (answer.answers.len() == count).then_some(())
}

/// Instances of every kind.
async fn populate(http: SocketAddr, ns: &Namespace) {
    let port = |name: &str, port: u16, protocol: &str| json!({"name": name, "port": port, "protocol": protocol});
    for at in 0..3 {
        let mut one = permanent("one", &format!("10.3.0.{at}"));
        one["addresses"] = json!([format!("10.3.0.{at}"), format!("fd00::{at}"), "10.3.9.9"]);
        one["ports"] = json!([port("http", 8080, "TCP"), port("dns", 53, "UDP")]);
        one["attributes"] = json!({"team": "blue", "long": "x".repeat(300)});
        one["priority"] = json!(at);
        register(http, ns, &format!("one-{at}"), one).await;
        let mut mixed = permanent("mixed", &format!("10.3.1.{at}"));
        mixed["weight"] = json!(at);
        if at == 2 {
            mixed.as_object_mut().unwrap().remove("addresses");
            mixed["hostname"] = json!("db.example.com");
        }
        register(http, ns, &format!("mixed-{at}"), mixed).await;
        let name = format!("drained-{at}");
        register(http, ns, &name, permanent("drained", "10.3.2.1")).await;
        let out = Patch::Merge(json!({"spec": {"state": "OutOfService"}}));
        let api = ns.api::<ServiceInstance>();
        api.patch(&name, &PatchParams::default(), &out).await.unwrap();
    }
    register(http, ns, "two-0", permanent("two", "10.3.3.1")).await;
    let alias = json!({
        "service": "alias", "hostname": "db.example.com", "lease": {"mode": "Permanent"},
        "ports": [{"name": "http", "port": 5432}],
    });
    register(http, ns, "alias-0", alias).await;
}

/// All that a secondary is for, transferred in one of two ways.
async fn follows(prefix: &str, transfer: &str) {
    let pair = Pair::start(prefix, transfer).await;
    let (http, ns) = (pair.rollcall.http, &pair.ns);
    populate(http, ns).await;
    eventually("nobody is discoverable who was taken out", BOUND, async || {
        let discoverable = dns::addresses(pair.rollcall.dns, &below(ns, "drained")).await?;
        discoverable.is_empty().then_some(())
    })
    .await;
    pair.follow(BOUND).await;
    pair.compare().await;

    let two = below(ns, "two");
    register(http, ns, "two-1", permanent("two", "10.3.3.2")).await;
    let came = Instant::now();
    eventually("it was told of one that came", TOLD, || has(pair.nsd, &two, 2)).await;
    eprintln!("{prefix}: one that came is there after {:.1} s", came.elapsed().as_secs_f64());
    deregister(http, ns, "two-0").await;
    let went = Instant::now();
    eventually("it was told of one that went", TOLD, || has(pair.nsd, &two, 1)).await;
    eprintln!("{prefix}: one that went is gone after {:.1} s", went.elapsed().as_secs_f64());
    // Many within a second.
    register_many(http, ns, ("many", 9), 60).await;
    deregister(http, ns, "many-7").await;
    let many = below(ns, "many");
    let begun = Instant::now();
    eventually("it was told of many", TOLD, || has(pair.nsd, &many, 59)).await;
    eprintln!("{prefix}: many are there after {:.1} s", begun.elapsed().as_secs_f64());
    pair.follow(TOLD).await;
    pair.compare().await;

    pair.rollcall.kill().await;
    has(pair.nsd, &many, 59).await.expect("it answers without rollcall");
    let nobody = dns::ask(pair.nsd, &below(ns, "nosuch"), RecordType::A).await.unwrap();
    assert_eq!(nobody.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secondary_says_the_same_and_follows_by_axfr() {
    follows("by-axfr", "AXFR").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secondary_says_the_same_and_follows_by_ixfr() {
    follows("by-ixfr", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_instances_are_transferred_in_several_messages() {
    const SERVICES: usize = 20;
    const EACH: usize = 100;
    let pair = Pair::start("large-zone", "AXFR").await;
    for service in 0..SERVICES {
        let name = format!("s{service}");
        register_many(pair.rollcall.http, &pair.ns, (&name, service as u8), EACH).await;
    }
    let begun = Instant::now();
    for service in 0..SERVICES {
        let name = format!("_http._tcp.{}", below(&pair.ns, &format!("s{service}")));
        eventually("all are there", BOUND, || has(pair.nsd, &name, EACH)).await;
    }
    eprintln!("large zone: all are there after {:.1} s", begun.elapsed().as_secs_f64());
    pair.follow(BOUND).await;
    for service in 0..SERVICES {
        for at in 0..EACH {
            let name = format!("s{service}-{at}.{}", below(&pair.ns, &format!("s{service}")));
            let (own, answer) = pair.ask(&name, RecordType::A).await;
            assert_eq!(own.answers.len(), 1, "{name}");
            assert_eq!(dns::rows(&answer), dns::rows(&own), "{name}");
        }
    }
    let port = pair.rollcall.dns.port().to_string();
    let output = Command::new("dig").args(["@127.0.0.1", "-p", &port, "AXFR", ZONE]).output();
    let output = output.expect("these tests need `dig` (Debian: apt-get install dnsutils)");
    let text = String::from_utf8(output.stdout).unwrap();
    let size = text.lines().find(|line| line.starts_with(";; XFR size")).unwrap();
    eprintln!("{size}");
    let messages = size.split("messages ").nth(1).and_then(|rest| rest.split(',').next());
    let messages: usize = messages.unwrap().parse().unwrap();
    assert!(messages > 10, "{size}");
}
