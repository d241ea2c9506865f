//! NSD as a secondary of rollcall: it has the same answers, follows changes by NOTIFY, and answers without rollcall.

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

/// Well below the 30 s after which a secondary polls the serial: a change that arrives by then came by NOTIFY.
const NOTIFY_BOUND: Duration = Duration::from_secs(20);

const TYPES: [RecordType; 8] = [
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
    /// Kept so that NSD runs as long as the pair.
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

    /// Waits until both have the same serial; returns how long that took.
    async fn wait_until_current(&self, bound: Duration) -> Duration {
        let started = Instant::now();
        eventually("the secondary has the newest serial", bound, async || {
            let newest = serial(self.rollcall.dns).await?;
            (serial(self.nsd).await? == newest).then_some(())
        })
        .await;
        started.elapsed()
    }

    /// Names of every form, at which both must have the same answers.
    fn names(&self) -> Vec<String> {
        let mut names = ["", "svc.", "ns.dns.", "dns.", "dns-version.", "nosuch.", "x.nosuch."]
            .map(|prefix| format!("{prefix}{ZONE}"))
            .to_vec();
        let prefixes = [
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
            names.extend(prefixes.map(|prefix| format!("{prefix}{base}")));
            for at in 0..3 {
                names.push(format!("{}-{at}.{base}", service.to_ascii_lowercase()));
            }
            names.push(format!("rollcall-0.{base}"));
        }
        names.push(format!("{}.svc.{ZONE}", self.ns.name));
        names
    }

    /// Compares all answers.
    async fn compare(&self) {
        let mut answers = 0;
        for name in self.names() {
            for kind in TYPES {
                let (own, answer) = self.ask(&name, kind).await;
                let codes = [&own, &answer].map(|answer| answer.metadata.response_code);
                assert_eq!(codes[0], codes[1], "{name} {kind}");
                // A name without records exists on the secondary only because the transfer has a TXT record for it.
                if !is_placeholder(&own, &answer) {
                    assert_eq!(dns::rows(&answer), dns::rows(&own), "{name} {kind}");
                    let soas = [&own, &answer].map(negative_soa);
                    assert_eq!(soas[0], soas[1], "{name} {kind}: {answer}");
                }
                answers += own.answers.len();
            }
        }
        assert!(answers > 60, "only {answers} records were compared");
    }

    async fn ask(&self, name: &str, kind: RecordType) -> (Message, Message) {
        // NSD can be slow while it loads a transfer.
        let asked = async |server| {
            let ask = async || dns::ask_all(server, name, kind).await;
            eventually("an answer", BOUND, ask).await
        };
        (asked(self.rollcall.dns).await, asked(self.nsd).await)
    }
}

/// Whether the secondary has only the TXT that says why a name has no records.
fn is_placeholder(own: &Message, answer: &Message) -> bool {
    let texts = [own, answer].map(|answer| {
        answer.answers.iter().filter(|record| matches!(record.data, RData::TXT(_))).count()
    });
    own.answers.is_empty() && texts == [0, 1] && answer.answers.len() == 1
}

/// Owner, TTL and MINIMUM of the SOA in a negative answer; the serial can change between two queries.
fn negative_soa(answer: &Message) -> Option<(String, u32, u32)> {
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

async fn has_srv_count(server: SocketAddr, name: &str, count: usize) -> Option<()> {
    let answer = dns::ask_all(server, name, RecordType::SRV).await?;
    (answer.answers.len() == count).then_some(())
}

/// Registers instances of every kind.
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

/// Tests a secondary that transfers by AXFR or IXFR.
async fn test_secondary(prefix: &str, transfer: &str) {
    let pair = Pair::start(prefix, transfer).await;
    let (http, ns) = (pair.rollcall.http, &pair.ns);
    populate(http, ns).await;
    eventually("instances that are OutOfService are not discoverable", BOUND, async || {
        let discoverable = dns::addresses(pair.rollcall.dns, &below(ns, "drained")).await?;
        discoverable.is_empty().then_some(())
    })
    .await;
    pair.wait_until_current(BOUND).await;
    pair.compare().await;

    let two = below(ns, "two");
    register(http, ns, "two-1", permanent("two", "10.3.3.2")).await;
    let registered = Instant::now();
    eventually("the secondary has the new instance", NOTIFY_BOUND, || {
        has_srv_count(pair.nsd, &two, 2)
    })
    .await;
    eprintln!(
        "{prefix}: the secondary has a new instance after {:.1} s",
        registered.elapsed().as_secs_f64()
    );
    deregister(http, ns, "two-0").await;
    let deregistered = Instant::now();
    eventually("the deregistered instance has left the secondary", NOTIFY_BOUND, || {
        has_srv_count(pair.nsd, &two, 1)
    })
    .await;
    eprintln!(
        "{prefix}: a deregistered instance has left after {:.1} s",
        deregistered.elapsed().as_secs_f64()
    );
    // Many changes within a second.
    register_many(http, ns, ("many", 9), 60).await;
    deregister(http, ns, "many-7").await;
    let many = below(ns, "many");
    let started = Instant::now();
    eventually("the secondary has all new instances", NOTIFY_BOUND, || {
        has_srv_count(pair.nsd, &many, 59)
    })
    .await;
    eprintln!(
        "{prefix}: many new instances are there after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    pair.wait_until_current(NOTIFY_BOUND).await;
    pair.compare().await;

    pair.rollcall.kill().await;
    has_srv_count(pair.nsd, &many, 59).await.expect("the secondary answers without rollcall");
    let missing = dns::ask(pair.nsd, &below(ns, "nosuch"), RecordType::A).await.unwrap();
    assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secondary_has_the_same_answers_and_follows_by_axfr() {
    test_secondary("by-axfr", "AXFR").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secondary_has_the_same_answers_and_follows_by_ixfr() {
    test_secondary("by-ixfr", "").await;
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
    let started = Instant::now();
    for service in 0..SERVICES {
        let name = format!("_http._tcp.{}", below(&pair.ns, &format!("s{service}")));
        eventually("the secondary has all instances", BOUND, || {
            has_srv_count(pair.nsd, &name, EACH)
        })
        .await;
    }
    eprintln!("large zone: all instances are there after {:.1} s", started.elapsed().as_secs_f64());
    pair.wait_until_current(BOUND).await;
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
