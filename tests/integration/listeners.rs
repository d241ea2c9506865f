//! Who may do what over HTTP: real tokens, real Roles, the real API server's word.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::support::events::Events;
use crate::support::http::{Answer, call, call_as, exchange};
use crate::support::proxy::{Mode, Proxy};
use crate::support::rbac::{self, API_SERVER, token};
use crate::support::{Namespace, Rollcall, eventually, namespace};

/// A no is asked again after 5 s.
const BOUND: Duration = Duration::from_secs(60);

/// Grants a role to a ServiceAccount in this namespace.
async fn grant(ns: &Namespace, kind: &str, role: &str, account: &str) {
    let deed = match role {
        "rollcall-reader" => ("list", None, None),
        "beats-a" => ("update", Some("heartbeat"), Some("a")),
        _ => ("create", None, None),
    };
    rbac::grant(ns, (kind, role), account, deed).await;
}

/// A Role that opens one instance, `a`, for heartbeats.
async fn role_for_a(ns: &Namespace) {
    let role = serde_json::from_value(json!({
        "metadata": {"name": "beats-a"},
        "rules": [{
            "apiGroups": ["rollcall.dev"], "resources": ["serviceinstances/heartbeat"],
            "resourceNames": ["a"], "verbs": ["update"],
        }],
    }));
    let api: Api<Role> = ns.api();
    api.create(&PostParams::default(), &role.unwrap()).await.unwrap();
}

async fn start(ns: &Namespace, more: &[&str]) -> Rollcall {
    let flags: Vec<&str> = ["--auth", "token"].iter().chain(more).copied().collect();
    Rollcall::start_with(ns, "rollcall-0", &flags).await
}

fn instance(ns: &Namespace, name: &str) -> String {
    format!("/v1/namespaces/{}/instances/{name}", ns.name)
}

fn body() -> Option<Value> {
    Some(json!({"service": "orders", "addresses": ["10.0.0.7"]}))
}

fn is_problem(answer: &Answer, status: u16, says: &[&str]) {
    let problem = answer.json();
    assert_eq!(answer.status, status, "{problem}");
    for word in says {
        assert!(problem["detail"].as_str().unwrap().contains(word), "no {word:?} in {problem}");
    }
}

#[tokio::test]
async fn without_a_token_or_with_one_that_is_not_for_us_nobody_writes() {
    let ns = namespace("strangers").await;
    let rollcall = start(&ns, &[]).await;
    let path = instance(&ns, "a");
    for (method, path) in [
        ("PUT", path.clone()),
        ("DELETE", path.clone()),
        ("PUT", format!("{path}/heartbeat")),
        ("PUT", format!("{path}/lease")),
        ("POST", format!("/v1/namespaces/{}/services/orders/instances", ns.name)),
        ("POST", "/v1/heartbeats".to_owned()),
    ] {
        let answer = call(rollcall.http, method, &path, None).await;
        is_problem(&answer, 401, &["Authorization: Bearer", "--audience rollcall"]);
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"rollcall\"");
    }
    let elsewhere = token(&ns, "orders", API_SERVER).await;
    let torn = format!("{}x", token(&ns, "orders", "rollcall").await);
    for bad in [elsewhere.as_str(), torn.as_str(), "nonsense", &"x".repeat(10_000)] {
        let answer = call_as(bad, rollcall.http, ("PUT", &path), body()).await;
        is_problem(&answer, 401, &["the token is not accepted", "--audience rollcall"]);
        assert!(answer.header("www-authenticate").contains("invalid_token"));
    }
    let answer = call_as(&elsewhere, rollcall.http, ("PUT", &path), body()).await;
    is_problem(&answer, 401, &["audience"]);
    // Reads are open, and nothing came of all that.
    let services = format!("/v1/namespaces/{}/services/orders", ns.name);
    let answer = call(rollcall.http, "GET", &services, None).await;
    assert_eq!((answer.status, answer.json()["instances"].clone()), (200, json!([])));
    assert_eq!(call(rollcall.http, "GET", &path, None).await.status, 404);
}

#[tokio::test]
async fn a_body_is_not_read_before_it_is_known_who_sends_it() {
    let ns = namespace("unread").await;
    let rollcall = start(&ns, &[]).await;
    // The head alone: the body that it promises never comes.
    let head = format!(
        "PUT {} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\n\
         authorization: Bearer nonsense\r\ncontent-length: 1000\r\n\r\n",
        instance(&ns, "a")
    );
    let answer = exchange(rollcall.http, head.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn without_the_right_the_answer_names_it_and_once_it_is_granted_the_call_works() {
    let ns = namespace("workload").await;
    let rollcall = start(&ns, &[]).await;
    let token = token(&ns, "orders", "rollcall").await;
    let path = instance(&ns, "orders-1");
    let beat = format!("{path}/heartbeat");
    let answer = call_as(&token, rollcall.http, ("PUT", &path), body()).await;
    let user = format!("system:serviceaccount:{}:orders", ns.name);
    is_problem(&answer, 403, &[&user, "may not create serviceinstances", &ns.name]);
    let problem = answer.json();
    assert_eq!(
        (&problem["user"], &problem["verb"], &problem["resource"], &problem["namespace"]),
        (&json!(user), &json!("create"), &json!("serviceinstances"), &json!(ns.name)),
    );
    let answer = call_as(&token, rollcall.http, ("PUT", &beat), None).await;
    is_problem(&answer, 403, &["may not update serviceinstances/heartbeat"]);

    grant(&ns, "ClusterRole", "rollcall-workload", "orders").await;
    eventually("the grant is seen", BOUND, async || {
        let answer = call_as(&token, rollcall.http, ("PUT", &path), body()).await;
        (answer.status == 201).then_some(())
    })
    .await;
    eventually("and that for beats", BOUND, async || {
        let answer = call_as(&token, rollcall.http, ("PUT", &beat), None).await;
        (answer.status == 200).then_some(())
    })
    .await;
    let lease = Some(json!({"durationSeconds": 60}));
    let renewed = call_as(&token, rollcall.http, ("PUT", &format!("{path}/lease")), lease).await;
    assert_eq!(renewed.status, 200, "{:?}", renewed.json());
    let elsewhere = "/v1/namespaces/default/instances/orders-1";
    let answer = call_as(&token, rollcall.http, ("PUT", elsewhere), body()).await;
    is_problem(&answer, 403, &["in namespace default"]);
    let gone = call_as(&token, rollcall.http, ("DELETE", &path), None).await;
    assert_eq!(gone.status, 204, "{:?}", gone.json());

    // Taken away again, it is a no at the latest after the 30 s for which a yes is remembered.
    let api: Api<RoleBinding> = ns.api();
    api.delete("orders-rollcall-workload", &DeleteParams::default()).await.unwrap();
    eventually("the withdrawal is seen", BOUND, async || {
        let answer = call_as(&token, rollcall.http, ("PUT", &beat), None).await;
        (answer.status == 403).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_batch_counts_the_beats_of_the_namespaces_that_are_open_to_the_caller() {
    let ns = namespace("batch").await;
    let rollcall = start(&ns, &[]).await;
    let token = token(&ns, "orders", "rollcall").await;
    grant(&ns, "ClusterRole", "rollcall-workload", "orders").await;
    let path = instance(&ns, "a");
    assert_eq!(call_as(&token, rollcall.http, ("PUT", &path), body()).await.status, 201);
    let beats = |namespaces: &[&str]| {
        let beat = |namespace: &&str| json!({"namespace": namespace, "name": "a"});
        Some(json!({"instances": namespaces.iter().map(beat).collect::<Vec<_>>()}))
    };
    let all = beats(&[&ns.name, "kube-system", "Bad"]);
    let answer = call_as(&token, rollcall.http, ("POST", "/v1/heartbeats"), all).await;
    let said = answer.json();
    assert_eq!((answer.status, &said["renewed"]), (200, &json!(1)), "{said}");
    let refused = said["refused"].as_array().unwrap();
    let reason = |namespace: &str| {
        let found = refused.iter().find(|beat| beat["namespace"] == namespace).unwrap();
        found["reason"].as_str().unwrap().to_owned()
    };
    assert!(reason("kube-system").contains("may not update serviceinstances/heartbeat"));
    assert!(reason("Bad").contains("no DNS label"));
    let many: Vec<String> = (0..257).map(|at| format!("n{at}")).collect();
    let many = beats(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let answer = call_as(&token, rollcall.http, ("POST", "/v1/heartbeats"), many).await;
    is_problem(&answer, 422, &["at most 256 namespaces"]);
}

#[tokio::test]
async fn a_role_for_one_name_opens_that_instance_and_no_other() {
    let ns = namespace("one-name").await;
    let rollcall = start(&ns, &[]).await;
    role_for_a(&ns).await;
    let token = token(&ns, "sidecar", "rollcall").await;
    grant(&ns, "Role", "beats-a", "sidecar").await;
    let beat = async |name: &str| {
        let path = format!("{}/heartbeat", instance(&ns, name));
        call_as(&token, rollcall.http, ("PUT", &path), None).await.status
    };
    // There is neither, but who may not know is not told.
    assert_eq!((beat("a").await, beat("b").await), (404, 403));
    assert_eq!((beat("a").await, beat("b").await), (404, 403));
}

#[tokio::test]
async fn with_read_auth_reads_need_a_right_too() {
    let ns = namespace("readers").await;
    let rollcall = start(&ns, &["--read-auth"]).await;
    let stranger = token(&ns, "stranger", "rollcall").await;
    let reader = token(&ns, "reader", "rollcall").await;
    let operator = token(&ns, "operator", "rollcall").await;
    grant(&ns, "ClusterRole", "rollcall-reader", "reader").await;
    grant(&ns, "ClusterRole", "rollcall-operator", "operator").await;
    let one = instance(&ns, "a");
    assert_eq!(call_as(&operator, rollcall.http, ("PUT", &one), body()).await.status, 201);
    let service = format!("/v1/namespaces/{}/services/orders", ns.name);
    let services = format!("/v1/namespaces/{}/services", ns.name);
    for path in [&one, &service, &services, "/v1/services"] {
        assert_eq!(call(rollcall.http, "GET", path, None).await.status, 401, "{path}");
        let get = |token| call_as(token, rollcall.http, ("GET", path), None);
        assert_eq!(get(&stranger).await.status, 403, "{path}");
        assert_eq!(get(&reader).await.status, 200, "{path}");
        assert_eq!(get(&operator).await.status, 200, "{path}");
    }
    let mine = format!("{service}/watch");
    let others = format!("/v1/watch?service={0}/orders&service={0}/ledger", ns.name);
    for path in [&mine, &others] {
        assert_eq!(call(rollcall.http, "GET", path, None).await.status, 401, "{path}");
        assert_eq!(call_as(&stranger, rollcall.http, ("GET", path), None).await.status, 403);
        let token = format!("authorization: Bearer {reader}\r\n");
        let mut events = Events::open(rollcall.http, path, &token).await;
        assert!(events.head.starts_with("http/1.1 200"), "{}", events.head);
        assert_eq!(events.next().await.map(|event| event.kind).as_deref(), Some("snapshot"));
    }
    // Of the replicas themselves anybody may know who is known.
    let cluster = ("GET", "/v1/cluster");
    assert_eq!(call(rollcall.http, cluster.0, cluster.1, None).await.status, 401);
    assert_eq!(call_as(&stranger, rollcall.http, cluster, None).await.status, 200);
    let answer = call_as(&reader, rollcall.http, ("PUT", &one), body()).await;
    is_problem(&answer, 403, &["may not create"]);
}

#[tokio::test]
async fn while_the_api_server_is_away_those_who_are_known_beat_on_and_strangers_wait() {
    let mut ns = namespace("away").await;
    let proxy = Proxy::before(&mut ns).await;
    let rollcall = start(&ns, &[]).await;
    let token = token(&ns, "orders", "rollcall").await;
    let later = rbac::token(&ns, "orders", "rollcall").await;
    grant(&ns, "ClusterRole", "rollcall-workload", "orders").await;
    // Its right is for one instance: in the whole namespace it has none.
    role_for_a(&ns).await;
    let sidecar = rbac::token(&ns, "sidecar", "rollcall").await;
    grant(&ns, "Role", "beats-a", "sidecar").await;
    let path = instance(&ns, "a");
    let beat = format!("{path}/heartbeat");
    assert_eq!(call_as(&token, rollcall.http, ("PUT", &path), body()).await.status, 201);
    for token in [&token, &sidecar] {
        assert_eq!(call_as(token, rollcall.http, ("PUT", &beat), None).await.status, 200);
    }
    proxy.set(Mode::Cut);
    let answer = call_as(&later, rollcall.http, ("PUT", &beat), None).await;
    is_problem(&answer, 503, &["cannot review the token"]);
    assert_ne!(answer.header("retry-after"), "");
    // Longer than a right is remembered without asking.
    let started = std::time::Instant::now();
    while started.elapsed() < Duration::from_secs(33) {
        for token in [&token, &sidecar] {
            let answer = call_as(token, rollcall.http, ("PUT", &beat), None).await;
            assert!(matches!(answer.status, 200 | 202), "{}", answer.json());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // A server that hangs is worse than none: what can be decided still counts, in good time.
    proxy.set(Mode::Stall);
    let beats = [ns.name.as_str(), "kube-system", "default"];
    let beats = beats.map(|namespace| json!({"namespace": namespace, "name": "a"}));
    let batch = Some(json!({"instances": beats}));
    let answer = call_as(&token, rollcall.http, ("POST", "/v1/heartbeats"), batch).await;
    let said = answer.json();
    assert_eq!(answer.status, 200, "{said}");
    let counted = said["renewed"].as_u64().unwrap() + said["recorded"].as_u64().unwrap();
    assert_eq!((counted, said["refused"].as_array().unwrap().len()), (1, 2), "{said}");
    assert!(
        said["refused"][0]["reason"].as_str().unwrap().contains("cannot review the token"),
        "{said}"
    );
    proxy.set(Mode::Pass);
    eventually("the other token is let in", BOUND, async || {
        let answer = call_as(&later, rollcall.http, ("PUT", &beat), None).await;
        (answer.status == 200).then_some(())
    })
    .await;
}
