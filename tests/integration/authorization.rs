//! Authorization over HTTP: real tokens, real Roles, and decisions of the real API server.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::support::events::EventStream;
use crate::support::http::{Answer, call, call_as, exchange};
use crate::support::proxy::{Mode, Proxy};
use crate::support::rbac::{self, API_SERVER, token};
use crate::support::{Namespace, Rollcall, eventually, namespace};

/// A refused access is checked again after 5 s.
const BOUND: Duration = Duration::from_secs(60);

/// Grants a role to a ServiceAccount in this namespace.
async fn grant(ns: &Namespace, kind: &str, role: &str, account: &str) {
    let access = match role {
        "rollcall-reader" => ("list", None, None),
        "beats-a" => ("update", Some("heartbeat"), Some("a")),
        _ => ("create", None, None),
    };
    rbac::grant(ns, (kind, role), account, access).await;
}

/// Creates a Role that allows heartbeats for one instance, `a`.
async fn create_role_for_a(ns: &Namespace) {
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

fn instance_path(ns: &Namespace, name: &str) -> String {
    format!("/v1/namespaces/{}/instances/{name}", ns.name)
}

fn body() -> Option<Value> {
    Some(json!({"service": "orders", "addresses": ["10.0.0.7"]}))
}

fn assert_problem(answer: &Answer, status: u16, parts: &[&str]) {
    let problem = answer.json();
    assert_eq!(answer.status, status, "{problem}");
    for part in parts {
        assert!(problem["detail"].as_str().unwrap().contains(part), "no {part:?} in {problem}");
    }
}

#[tokio::test]
async fn writes_without_a_valid_token_are_refused() {
    let ns = namespace("no-token").await;
    let rollcall = start(&ns, &[]).await;
    let path = instance_path(&ns, "a");
    for (method, path) in [
        ("PUT", path.clone()),
        ("DELETE", path.clone()),
        ("PUT", format!("{path}/heartbeat")),
        ("PUT", format!("{path}/lease")),
        ("POST", format!("/v1/namespaces/{}/services/orders/instances", ns.name)),
        ("POST", "/v1/heartbeats".to_owned()),
    ] {
        let answer = call(rollcall.http, method, &path, None).await;
        assert_problem(&answer, 401, &["Authorization: Bearer", "--audience rollcall"]);
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"rollcall\"");
    }
    let elsewhere = token(&ns, "orders", API_SERVER).await;
    let modified = format!("{}x", token(&ns, "orders", "rollcall").await);
    for bad in [elsewhere.as_str(), modified.as_str(), "nonsense", &"x".repeat(10_000)] {
        let answer = call_as(bad, rollcall.http, ("PUT", &path), body()).await;
        assert_problem(&answer, 401, &["the token is not accepted", "--audience rollcall"]);
        assert!(answer.header("www-authenticate").contains("invalid_token"));
    }
    let answer = call_as(&elsewhere, rollcall.http, ("PUT", &path), body()).await;
    assert_problem(&answer, 401, &["audience"]);
    // Reads need no token, and show that nothing was written.
    let services = format!("/v1/namespaces/{}/services/orders", ns.name);
    let answer = call(rollcall.http, "GET", &services, None).await;
    assert_eq!((answer.status, answer.json()["instances"].clone()), (200, json!([])));
    assert_eq!(call(rollcall.http, "GET", &path, None).await.status, 404);
}

#[tokio::test]
async fn body_is_not_read_before_the_caller_is_authenticated() {
    let ns = namespace("unread").await;
    let rollcall = start(&ns, &[]).await;
    // Only the head is sent; the announced body never comes.
    let head = format!(
        "PUT {} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\n\
         authorization: Bearer nonsense\r\ncontent-length: 1000\r\n\r\n",
        instance_path(&ns, "a")
    );
    let answer = exchange(rollcall.http, head.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn missing_right_is_named_and_works_once_it_is_granted() {
    let ns = namespace("workload").await;
    let rollcall = start(&ns, &[]).await;
    let token = token(&ns, "orders", "rollcall").await;
    let path = instance_path(&ns, "orders-1");
    let beat = format!("{path}/heartbeat");
    let answer = call_as(&token, rollcall.http, ("PUT", &path), body()).await;
    let user = format!("system:serviceaccount:{}:orders", ns.name);
    assert_problem(&answer, 403, &[&user, "may not create serviceinstances", &ns.name]);
    let problem = answer.json();
    assert_eq!(
        (&problem["user"], &problem["verb"], &problem["resource"], &problem["namespace"]),
        (&json!(user), &json!("create"), &json!("serviceinstances"), &json!(ns.name)),
    );
    let answer = call_as(&token, rollcall.http, ("PUT", &beat), None).await;
    assert_problem(&answer, 403, &["may not update serviceinstances/heartbeat"]);

    grant(&ns, "ClusterRole", "rollcall-workload", "orders").await;
    eventually("the right to register is observed", BOUND, async || {
        let answer = call_as(&token, rollcall.http, ("PUT", &path), body()).await;
        (answer.status == 201).then_some(())
    })
    .await;
    eventually("the right to send heartbeats is observed", BOUND, async || {
        let answer = call_as(&token, rollcall.http, ("PUT", &beat), None).await;
        (answer.status == 200).then_some(())
    })
    .await;
    let lease = Some(json!({"durationSeconds": 60}));
    let renewed = call_as(&token, rollcall.http, ("PUT", &format!("{path}/lease")), lease).await;
    assert_eq!(renewed.status, 200, "{:?}", renewed.json());
    let elsewhere = "/v1/namespaces/default/instances/orders-1";
    let answer = call_as(&token, rollcall.http, ("PUT", elsewhere), body()).await;
    assert_problem(&answer, 403, &["in namespace default"]);
    let gone = call_as(&token, rollcall.http, ("DELETE", &path), None).await;
    assert_eq!(gone.status, 204, "{:?}", gone.json());

    // An allowed access is cached for 30 s, so a withdrawn right is refused after that at the latest.
    let api: Api<RoleBinding> = ns.api();
    api.delete("orders-rollcall-workload", &DeleteParams::default()).await.unwrap();
    eventually("the withdrawal is observed", BOUND, async || {
        let answer = call_as(&token, rollcall.http, ("PUT", &beat), None).await;
        (answer.status == 403).then_some(())
    })
    .await;
}

#[tokio::test]
async fn heartbeat_batch_takes_only_the_namespaces_that_the_caller_has_access_to() {
    let ns = namespace("batch").await;
    let rollcall = start(&ns, &[]).await;
    let token = token(&ns, "orders", "rollcall").await;
    grant(&ns, "ClusterRole", "rollcall-workload", "orders").await;
    let path = instance_path(&ns, "a");
    assert_eq!(call_as(&token, rollcall.http, ("PUT", &path), body()).await.status, 201);
    let beats = |namespaces: &[&str]| {
        let beat = |namespace: &&str| json!({"namespace": namespace, "name": "a"});
        Some(json!({"instances": namespaces.iter().map(beat).collect::<Vec<_>>()}))
    };
    let all = beats(&[&ns.name, "kube-system", "Bad"]);
    let answer = call_as(&token, rollcall.http, ("POST", "/v1/heartbeats"), all).await;
    let outcome = answer.json();
    assert_eq!((answer.status, &outcome["renewed"]), (200, &json!(1)), "{outcome}");
    let refused = outcome["refused"].as_array().unwrap();
    let reason = |namespace: &str| {
        let found = refused.iter().find(|beat| beat["namespace"] == namespace).unwrap();
        found["reason"].as_str().unwrap().to_owned()
    };
    assert!(reason("kube-system").contains("may not update serviceinstances/heartbeat"));
    assert!(reason("Bad").contains("not a DNS label"));
    let many: Vec<String> = (0..257).map(|at| format!("n{at}")).collect();
    let many = beats(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let answer = call_as(&token, rollcall.http, ("POST", "/v1/heartbeats"), many).await;
    assert_problem(&answer, 422, &["at most 256 namespaces"]);
}

#[tokio::test]
async fn role_for_one_name_gives_access_to_that_instance_only() {
    let ns = namespace("one-name").await;
    let rollcall = start(&ns, &[]).await;
    create_role_for_a(&ns).await;
    let token = token(&ns, "sidecar", "rollcall").await;
    grant(&ns, "Role", "beats-a", "sidecar").await;
    let beat = async |name: &str| {
        let path = format!("{}/heartbeat", instance_path(&ns, name));
        call_as(&token, rollcall.http, ("PUT", &path), None).await.status
    };
    // Neither instance exists, but a caller without the right does not learn that.
    assert_eq!((beat("a").await, beat("b").await), (404, 403));
    assert_eq!((beat("a").await, beat("b").await), (404, 403));
}

#[tokio::test]
async fn read_auth_requires_a_right_for_reads() {
    let ns = namespace("readers").await;
    let rollcall = start(&ns, &["--read-auth"]).await;
    let unprivileged = token(&ns, "unprivileged", "rollcall").await;
    let reader = token(&ns, "reader", "rollcall").await;
    let operator = token(&ns, "operator", "rollcall").await;
    grant(&ns, "ClusterRole", "rollcall-reader", "reader").await;
    grant(&ns, "ClusterRole", "rollcall-operator", "operator").await;
    let instance = instance_path(&ns, "a");
    assert_eq!(call_as(&operator, rollcall.http, ("PUT", &instance), body()).await.status, 201);
    let service = format!("/v1/namespaces/{}/services/orders", ns.name);
    let services = format!("/v1/namespaces/{}/services", ns.name);
    for path in [&instance, &service, &services, "/v1/services"] {
        assert_eq!(call(rollcall.http, "GET", path, None).await.status, 401, "{path}");
        let get = |token| call_as(token, rollcall.http, ("GET", path), None);
        assert_eq!(get(&unprivileged).await.status, 403, "{path}");
        assert_eq!(get(&reader).await.status, 200, "{path}");
        assert_eq!(get(&operator).await.status, 200, "{path}");
    }
    let service_watch = format!("{service}/watch");
    let multi_watch = format!("/v1/watch?service={0}/orders&service={0}/ledger", ns.name);
    for path in [&service_watch, &multi_watch] {
        assert_eq!(call(rollcall.http, "GET", path, None).await.status, 401, "{path}");
        assert_eq!(call_as(&unprivileged, rollcall.http, ("GET", path), None).await.status, 403);
        let token = format!("authorization: Bearer {reader}\r\n");
        let mut events = EventStream::open(rollcall.http, path, &token).await;
        assert!(events.head.starts_with("http/1.1 200"), "{}", events.head);
        assert_eq!(events.next().await.map(|event| event.kind).as_deref(), Some("snapshot"));
    }
    // `/v1/cluster` needs a valid token, but no right.
    let cluster = ("GET", "/v1/cluster");
    assert_eq!(call(rollcall.http, cluster.0, cluster.1, None).await.status, 401);
    assert_eq!(call_as(&unprivileged, rollcall.http, cluster, None).await.status, 200);
    let answer = call_as(&reader, rollcall.http, ("PUT", &instance), body()).await;
    assert_problem(&answer, 403, &["may not create"]);
}

#[tokio::test]
async fn known_callers_send_heartbeats_during_an_outage_and_unknown_callers_wait() {
    let mut ns = namespace("away").await;
    let proxy = Proxy::install(&mut ns).await;
    let rollcall = start(&ns, &[]).await;
    let token = token(&ns, "orders", "rollcall").await;
    let later = rbac::token(&ns, "orders", "rollcall").await;
    grant(&ns, "ClusterRole", "rollcall-workload", "orders").await;
    // The sidecar has the right for one instance only, and none for the whole namespace.
    create_role_for_a(&ns).await;
    let sidecar = rbac::token(&ns, "sidecar", "rollcall").await;
    grant(&ns, "Role", "beats-a", "sidecar").await;
    let path = instance_path(&ns, "a");
    let beat = format!("{path}/heartbeat");
    assert_eq!(call_as(&token, rollcall.http, ("PUT", &path), body()).await.status, 201);
    for token in [&token, &sidecar] {
        assert_eq!(call_as(token, rollcall.http, ("PUT", &beat), None).await.status, 200);
    }
    proxy.set(Mode::Cut);
    let answer = call_as(&later, rollcall.http, ("PUT", &beat), None).await;
    assert_problem(&answer, 503, &["cannot review the token"]);
    assert_ne!(answer.header("retry-after"), "");
    // Longer than an allowed access is cached.
    let started = std::time::Instant::now();
    while started.elapsed() < Duration::from_secs(33) {
        for token in [&token, &sidecar] {
            let answer = call_as(token, rollcall.http, ("PUT", &beat), None).await;
            assert!(matches!(answer.status, 200 | 202), "{}", answer.json());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // While the API server stalls, items that can be decided without it are still answered in time.
    proxy.set(Mode::Stall);
    let beats = [ns.name.as_str(), "kube-system", "default"];
    let beats = beats.map(|namespace| json!({"namespace": namespace, "name": "a"}));
    let batch = Some(json!({"instances": beats}));
    let answer = call_as(&token, rollcall.http, ("POST", "/v1/heartbeats"), batch).await;
    let outcome = answer.json();
    assert_eq!(answer.status, 200, "{outcome}");
    let counted = outcome["renewed"].as_u64().unwrap() + outcome["recorded"].as_u64().unwrap();
    assert_eq!((counted, outcome["refused"].as_array().unwrap().len()), (1, 2), "{outcome}");
    assert!(
        outcome["refused"][0]["reason"].as_str().unwrap().contains("cannot review the token"),
        "{outcome}"
    );
    proxy.set(Mode::Pass);
    eventually("the other token is accepted", BOUND, async || {
        let answer = call_as(&later, rollcall.http, ("PUT", &beat), None).await;
        (answer.status == 200).then_some(())
    })
    .await;
}
