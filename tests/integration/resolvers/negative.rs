//! What was not there is there soon after it came, also for those who ask a cache that believes in NXDOMAIN for all
//! names below.

use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use serde_json::json;

use super::{ZONE, below, permanent, register};
use crate::support::daemon::{Daemon, Upstream};
use crate::support::{Rollcall, dns, eventually, namespace};

/// Far more than the 2 s that a negative answer may be remembered, and far less than the hours that resolvers choose
/// for themselves.
const BOUND: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_for_before_it_came_is_found_within_seconds() {
    let ns = namespace("negative").await;
    let rollcall = Rollcall::start(&ns).await;
    let stub = Daemon::unbound("negative", rollcall.dns, &[(ZONE, Upstream::Stub)]).await;
    let dnsmasq = Daemon::dnsmasq("negative", rollcall.dns, ZONE).await;
    let late = below(&ns, "late");
    let forms = [
        (late.clone(), RecordType::A),
        (format!("_http._tcp.{late}"), RecordType::SRV),
        (format!("canary._tag.{late}"), RecordType::A),
        (format!("late-1.{late}"), RecordType::A),
    ];
    let resolvers = [("unbound", stub.address), ("dnsmasq", dnsmasq.address)];
    for (who, to) in resolvers {
        for (name, kind) in &forms {
            let answer = dns::ask(to, name, *kind).await.unwrap();
            let code = answer.metadata.response_code;
            assert_eq!(code, ResponseCode::NXDomain, "{who} {name}");
        }
    }
    let mut body = permanent("late", "10.6.0.1");
    body["tags"] = json!(["canary"]);
    register(rollcall.http, &ns, "late-1", body.clone()).await;
    let came = Instant::now();
    for (who, to) in resolvers {
        for (name, kind) in &forms {
            eventually(&format!("{who} finds {name}"), BOUND, async || {
                let answer = dns::ask(to, name, *kind).await?;
                (answer.answers.len() == 1).then_some(())
            })
            .await;
        }
        eprintln!("{who} finds all of it {:.1} s after it came", came.elapsed().as_secs_f64());
    }
    // A name without that type, and then with it.
    for (who, to) in resolvers {
        let answer = dns::ask(to, &late, RecordType::AAAA).await.unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{who}");
        assert!(answer.answers.is_empty(), "{who}: {answer}");
    }
    body["addresses"] = json!(["10.6.0.1", "fd00::6"]);
    register(rollcall.http, &ns, "late-1", body).await;
    for (who, to) in resolvers {
        eventually(&format!("{who} finds the new type"), BOUND, async || {
            let answer = dns::ask(to, &late, RecordType::AAAA).await?;
            (answer.answers.len() == 1).then_some(())
        })
        .await;
    }
}
