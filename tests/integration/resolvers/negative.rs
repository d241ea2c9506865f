//! A new service is found within seconds, even through a cache that holds NXDOMAIN for its names.

use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use serde_json::json;

use super::{ZONE, below, permanent, register};
use crate::support::daemon::{Daemon, Upstream};
use crate::support::{Rollcall, dns, eventually, namespace};

/// Far more than the 2 s of a negative TTL, and far less than the hours for which resolvers cache by default.
const BOUND: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_that_was_queried_before_its_registration_is_found_within_seconds() {
    let ns = namespace("negative").await;
    let rollcall = Rollcall::start(&ns).await;
    let stub = Daemon::unbound("negative", rollcall.dns, &[(ZONE, Upstream::Stub)]).await;
    let dnsmasq = Daemon::dnsmasq("negative", rollcall.dns, ZONE).await;
    let late = below(&ns, "late");
    let questions = [
        (late.clone(), RecordType::A),
        (format!("_http._tcp.{late}"), RecordType::SRV),
        (format!("canary._tag.{late}"), RecordType::A),
        (format!("late-1.{late}"), RecordType::A),
    ];
    let resolvers = [("unbound", stub.address), ("dnsmasq", dnsmasq.address)];
    for (resolver, server) in resolvers {
        for (name, kind) in &questions {
            let answer = dns::ask(server, name, *kind).await.unwrap();
            let code = answer.metadata.response_code;
            assert_eq!(code, ResponseCode::NXDomain, "{resolver} {name}");
        }
    }
    let mut body = permanent("late", "10.6.0.1");
    body["tags"] = json!(["canary"]);
    register(rollcall.http, &ns, "late-1", body.clone()).await;
    let registered = Instant::now();
    for (resolver, server) in resolvers {
        for (name, kind) in &questions {
            eventually(&format!("{resolver} finds {name}"), BOUND, async || {
                let answer = dns::ask(server, name, *kind).await?;
                (answer.answers.len() == 1).then_some(())
            })
            .await;
        }
        eprintln!(
            "{resolver} finds all names {:.1} s after the registration",
            registered.elapsed().as_secs_f64()
        );
    }
    // This name has no AAAA record at first, and gets one later.
    for (resolver, server) in resolvers {
        let answer = dns::ask(server, &late, RecordType::AAAA).await.unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{resolver}");
        assert!(answer.answers.is_empty(), "{resolver}: {answer}");
    }
    body["addresses"] = json!(["10.6.0.1", "fd00::6"]);
    register(rollcall.http, &ns, "late-1", body).await;
    for (resolver, server) in resolvers {
        eventually(&format!("{resolver} finds the new type"), BOUND, async || {
            let answer = dns::ask(server, &late, RecordType::AAAA).await?;
            (answer.answers.len() == 1).then_some(())
        })
        .await;
    }
}
