//! The rights that rollcall needs in its cluster: it has each of them, no others, and reports a missing one clearly.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, PolicyRule, Role};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, PostParams};
use rollcall::dev::credentials::{ROLLCALL_USER, kubeconfig};
use rollcall::dev::{ControlPlane, install, manifests};
use rollcall::kubernetes::rights::{Need, RIGHTS, Right, RightScope};
use rollcall_api::HeartbeatLedger;
use rollcall_api::manifests::{REVISION, REVISION_ANNOTATION};
use serde_json::{Value, json};

use crate::lease_lifecycle::{create, manifest};
use crate::support::control_plane::{launcher, own, state_dir};
use crate::support::http::{call, call_as, try_call};
use crate::support::rbac::{self, API_SERVER};
use crate::support::{Namespace, Rollcall, eventually, namespace, namespace_in};

const BOUND: Duration = Duration::from_secs(60);

/// A right as a tuple: group, resource, name, verb.
type RightTuple = (String, String, Option<String>, String);

fn tuple(right: &Right) -> RightTuple {
    let owned = str::to_owned;
    (owned(right.group), owned(right.resource), right.name.map(owned), owned(right.verb))
}

fn tuples(rules: &[PolicyRule]) -> Vec<RightTuple> {
    let mut all = Vec::new();
    for rule in rules {
        let names = rule.resource_names.clone().unwrap_or_default();
        let names: Vec<_> =
            if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() };
        for path in rule.non_resource_urls.iter().flatten() {
            let tuple = |verb: &String| (String::new(), path.clone(), None, verb.clone());
            all.extend(rule.verbs.iter().map(tuple));
        }
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for name in &names {
                    let tuple = |verb: &String| {
                        (group.clone(), resource.clone(), name.clone(), verb.clone())
                    };
                    all.extend(rule.verbs.iter().map(tuple));
                }
            }
        }
    }
    all
}

/// The rights that a role in `deploy/rbac` grants. `role` is its kind and name.
fn granted_rights(role: &str) -> Vec<RightTuple> {
    let (kind, name) = role.split_once(' ').unwrap();
    let document = manifests::RBAC
        .iter()
        .map(|text| serde_yaml_ng::from_str::<Value>(text).unwrap())
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("deploy/rbac has no {role}"));
    tuples(&serde_json::from_value::<Vec<PolicyRule>>(document["rules"].clone()).unwrap())
}

#[test]
fn roles_grant_exactly_the_needed_rights() {
    for role in ["ClusterRole rollcall-instances", "ClusterRole rollcall-server", "Role rollcall"] {
        let mut needed: Vec<RightTuple> =
            RIGHTS.iter().filter(|right| right.role == role).map(tuple).collect();
        let mut granted = granted_rights(role);
        needed.sort();
        granted.sort();
        assert_eq!(granted, needed, "{role}: src/kubernetes/rights.rs and deploy/rbac differ");
    }
    let roles: BTreeSet<_> = RIGHTS.iter().map(|right| right.role).collect();
    let others = manifests::RBAC.iter().filter(|text| text.contains("\nrules:")).count();
    assert_eq!(roles.len(), others, "a role in deploy/rbac is not in the table of rights");
}

fn rules(rights: impl Iterator<Item = &'static Right>) -> Vec<Value> {
    rights
        .map(|right| match right.is_path() {
            true => json!({"nonResourceURLs": [right.resource], "verbs": [right.verb]}),
            false => json!({
                "apiGroups": [right.group], "resources": [right.resource], "verbs": [right.verb],
                "resourceNames": right.name.into_iter().collect::<Vec<_>>(),
            }),
        })
        .collect()
}

/// The kubeconfig of a ServiceAccount that has every right that rollcall needs except `missing_right`.
async fn kubeconfig_without(
    ns: &Namespace,
    index: usize,
    missing_right: &'static Right,
) -> PathBuf {
    let account = format!("lacks-{index}");
    let full = format!("{}-{account}", ns.name);
    let has = |place: fn(&Right) -> bool| {
        rules(RIGHTS.iter().filter(move |right| *right != missing_right && place(right)))
    };
    let role = |kind: &str, name: &str, rules: Vec<Value>| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "rules": rules,
            "metadata": {"name": name, "namespace": ns.name},
        })
    };
    let binding = |kind: &str, name: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": format!("{kind}Binding"),
            "metadata": {"name": name, "namespace": ns.name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": ns.name}],
        })
    };
    let objects = [
        role("Role", &account, has(|right| right.scope != RightScope::Cluster)),
        binding("Role", &account),
        role("ClusterRole", &full, has(|right| right.scope == RightScope::Cluster)),
        binding("ClusterRole", &full),
    ];
    let texts = objects.map(|object| object.to_string());
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    install::apply(&ns.client, &texts).await.unwrap();
    let token = rbac::token(ns, &account, API_SERVER).await;
    let ControlPlane { url, ca, .. } = &ns.shared.control_plane;
    let path = state_dir("missing-right").join(format!("{full}.kubeconfig"));
    std::fs::write(&path, kubeconfig(url, ca, &account, &token)).unwrap();
    path
}

/// Asks the admin port; status 0 before it listens.
async fn ask(rollcall: &Rollcall, path: &str) -> (u16, String) {
    match try_call(rollcall.admin, "GET", path, None).await {
        Ok(answer) => (answer.status, String::from_utf8(answer.body).unwrap()),
        Err(_) => (0, String::new()),
    }
}

/// The missing rights, from the replica's metrics.
async fn missing_rights(rollcall: &Rollcall) -> Vec<String> {
    let (_, text) = ask(rollcall, "/metrics").await;
    let missing = text.lines().filter_map(|line| line.strip_prefix("rollcall_right_missing{"));
    missing.filter_map(|line| line.strip_suffix("} 1")).map(str::to_owned).collect()
}

async fn check_missing_right(ns: &Namespace, index: usize, missing_right: &'static Right) {
    let path = kubeconfig_without(ns, index, missing_right).await;
    let tokens = if missing_right.need == Need::Jwks { "jwks" } else { "review" };
    let flags =
        ["--auth", "token", "--auth-tokens", tokens, "--kubeconfig", path.to_str().unwrap()];
    let rollcall = Rollcall::launch(ns, &format!("lacks-{index}"), &flags).await;
    let label = format!("verb=\"{}\",resource=\"{}\"", missing_right.verb, missing_right.resource);
    // The authorizer observes a new role a moment later.
    eventually(&format!("only {label} is missing"), BOUND, async || {
        (missing_rights(&rollcall).await == [label.as_str()]).then_some(())
    })
    .await;
    let sentence =
        format!("rollcall lacks the right to {} {}", missing_right.verb, missing_right.resource);
    let logged = eventually(&sentence, BOUND, async || {
        let log = rollcall.whole_log();
        log.lines().find(|line| line.contains(&sentence)).map(str::to_owned)
    })
    .await;
    for part in ["without it", missing_right.without, missing_right.role, "apply the overlay again"]
    {
        assert!(logged.contains(part), "no {part:?} in {logged}");
    }
    if missing_right.need == Need::Start {
        let (status, why) = ask(&rollcall, "/readyz").await;
        assert!(status == 503 && why.contains(&sentence), "{why}");
        assert_eq!(ask(&rollcall, "/livez").await.0, 200);
        assert_eq!(ask(&rollcall, "/startupz").await.0, 503);
    } else {
        rollcall.until_ready().await;
    }
    if missing_right.need == Need::Jwks || missing_right.resource == "tokenreviews" {
        let token = rbac::token(ns, "orders", "rollcall").await;
        let path = format!("/v1/namespaces/{}/instances/a/heartbeat", ns.name);
        let answer = call_as(&token, rollcall.http, ("PUT", &path), None).await;
        let detail = answer.json()["detail"].to_string();
        assert!(answer.status == 503 && detail.contains("itself lacks the right"), "{detail}");
    }
}

#[tokio::test]
async fn each_missing_right_is_reported_with_its_consequence_and_fix() {
    let ns = namespace("missing-right").await;
    let all: Vec<_> = RIGHTS.iter().filter(|right| right.need != Need::Jwks).collect();
    for (chunk, rights) in all.chunks(4).enumerate() {
        let replicas = rights
            .iter()
            .enumerate()
            .map(|(at, right)| check_missing_right(&ns, chunk * 4 + at, right));
        join_all(replicas).await;
    }
}

/// Kubernetes grants these rights to every ServiceAccount by default, so this test removes that binding.
#[tokio::test]
async fn missing_rights_to_the_signing_keys_are_reported_with_jwks() {
    let ns = namespace_in(own("no-discovery", &[]).await, "no-discovery").await;
    let bindings: Api<ClusterRoleBinding> = Api::all(ns.client.clone());
    let default = "system:service-account-issuer-discovery";
    bindings.delete(default, &DeleteParams::default()).await.unwrap();
    let rights = RIGHTS.iter().filter(|right| right.need == Need::Jwks).enumerate();
    let replicas: Vec<_> = rights.map(|(at, right)| check_missing_right(&ns, at, right)).collect();
    assert_eq!(replicas.len(), 2);
    join_all(replicas).await;
}

#[tokio::test]
async fn replica_that_waits_for_a_right_starts_when_the_right_is_granted() {
    let ns = namespace("granted").await;
    let list = &RIGHTS[0];
    let path = kubeconfig_without(&ns, 0, list).await;
    let flags = ["--kubeconfig", path.to_str().unwrap()];
    let rollcall = Rollcall::launch(&ns, "rollcall-0", &flags).await;
    eventually("the replica reports what it waits for", BOUND, async || {
        rollcall
            .whole_log()
            .contains("rollcall lacks the right to list serviceinstances")
            .then_some(())
    })
    .await;
    let api: Api<Role> = ns.api();
    let mut role = api.get("lacks-0").await.unwrap();
    let all = rules(RIGHTS.iter().filter(|right| right.scope != RightScope::Cluster));
    role.rules = Some(serde_json::from_value(json!(all)).unwrap());
    api.replace("lacks-0", &PostParams::default(), &role).await.unwrap();
    rollcall.until_ready().await;
    let log = rollcall.whole_log();
    assert!(log.contains("everything that rollcall needs is there"), "{log}");
    // The next check, at most a minute later, finds the right withdrawn; the replica still answers.
    role.metadata.resource_version = None;
    role.rules = Some(Vec::new());
    api.replace("lacks-0", &PostParams::default(), &role).await.unwrap();
    eventually("the withdrawal is reported", BOUND * 3, async || {
        let cluster = call(rollcall.http, "GET", "/v1/cluster", None).await.json();
        let problems = cluster["replicas"][0]["problems"].to_string();
        problems.contains("rollcall lacks the right to list serviceinstances").then_some(())
    })
    .await;
    assert_eq!(ask(&rollcall, "/readyz").await.0, 200);
}

/// Makes a replica use each of its rights.
async fn use_every_right(ns: &Namespace) -> Rollcall {
    let rollcall = Rollcall::start_with(ns, "rollcall-0", &["--auth", "token"]).await;
    let token = rbac::token(ns, "operator", "rollcall").await;
    let role = ("ClusterRole", "rollcall-operator");
    rbac::grant(ns, role, "operator", ("delete", None, None)).await;
    let path = format!("/v1/namespaces/{}/instances/a", ns.name);
    let body = json!({"service": "a", "addresses": ["10.0.0.1"]});
    let put = call_as(&token, rollcall.http, ("PUT", &path), Some(body)).await;
    assert_eq!(put.status, 201, "{:?}", put.json());
    assert_eq!(call_as(&token, rollcall.http, ("DELETE", &path), None).await.status, 204);
    assert_eq!(call(rollcall.http, "GET", &path, None).await.status, 404);
    // The ledger of a replica that has left: the leader deletes it.
    let former = json!({
        "apiVersion": "rollcall.dev/v1alpha1", "kind": "HeartbeatLedger",
        "metadata": {"name": "former"},
        "spec": {"replica": "former", "boot": "f", "sequence": 1, "stamp": 1, "index": 1, "leaving": true},
    });
    let former: HeartbeatLedger = serde_json::from_value(former).unwrap();
    ns.api().create(&PostParams::default(), &former).await.unwrap();
    // The instance expires twice, so that an Event repeats.
    let lease = json!({"mode": "Heartbeat", "durationSeconds": 2});
    create(ns, &manifest("expiring", "expiring", lease)).await;
    let beat = format!("/v1/namespaces/{}/instances/expiring/heartbeat", ns.name);
    for _ in 0..2 {
        eventually("the instance expires", BOUND, async || {
            let instance =
                call(rollcall.http, "GET", beat.trim_end_matches("/heartbeat"), None).await;
            (instance.json()["phase"] == "Expired").then_some(())
        })
        .await;
        let renewed = call_as(&token, rollcall.http, ("PUT", &beat), None).await;
        assert_eq!(renewed.status, 200, "{:?}", renewed.json());
    }
    rollcall
}

/// The rights that the replicas used, from the API server's audit log.
fn used_rights(audit: &str) -> BTreeSet<RightTuple> {
    let mut used = BTreeSet::new();
    for event in audit.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let code = event["responseStatus"]["code"].as_u64().unwrap_or(0);
        if event["user"]["username"] != ROLLCALL_USER || code == 403 {
            continue;
        }
        if let (None, Some(path)) = (event.get("objectRef"), event["requestURI"].as_str()) {
            used.insert((String::new(), path.to_owned(), None, text(&event["verb"])));
            continue;
        }
        let object = &event["objectRef"];
        let mut resource = text(&object["resource"]);
        if let Some(sub) = object["subresource"].as_str() {
            resource = format!("{resource}/{sub}");
        }
        let tuple = (text(&object["apiGroup"]), resource, None, text(&event["verb"]));
        // An apply that creates an object is authorized as a creation too.
        if tuple.3 == "patch" && code == 201 {
            used.insert((tuple.0.clone(), tuple.1.clone(), None, "create".to_owned()));
        }
        used.insert(tuple);
    }
    used
}

#[tokio::test]
async fn every_right_is_used() {
    let ns = namespace("used").await;
    let _rollcall = use_every_right(&ns).await;
    let flags = ["--auth", "token", "--auth-tokens", "jwks"];
    let _with_jwks = Rollcall::start_with(&ns, "rollcall-1", &flags).await;
    eventually("every right is used", BOUND, async || {
        let used = used_rights(&std::fs::read_to_string(&ns.shared.audit_log).unwrap());
        let unused =
            RIGHTS.iter().map(|right| (tuple(right).0, tuple(right).1, None, tuple(right).3));
        let unused: Vec<_> = unused.filter(|right| !used.contains(right)).collect();
        unused.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn replica_waits_for_missing_or_outdated_definitions() {
    use rollcall::dev::control_plane::Options;
    let options = Options {
        dir: state_dir("no-definitions"),
        binaries: crate::support::control_plane::binaries().await,
        launcher: launcher(),
        apiserver_flags: Vec::new(),
    };
    let control_plane = ControlPlane::start(&options).await.unwrap();
    let client = control_plane.admin().await.unwrap();
    install::apply(&client, manifests::RBAC).await.unwrap();
    let mut ns = namespace("unused").await;
    ns.rollcall_kubeconfig = control_plane.rollcall_kubeconfig.clone();
    let flags = ["--own-namespace", "rollcall-system", "--watch-namespace", "rollcall-system"];
    let rollcall = Rollcall::launch(&ns, "rollcall-0", &flags).await;
    let until_unready = async |text: &str| {
        eventually(text, BOUND, async || {
            let (status, why) = ask(&rollcall, "/readyz").await;
            (status == 503 && why.contains(text)).then_some(why)
        })
        .await
    };
    let why = until_unready("does not serve all types of rollcall.dev/v1alpha1").await;
    assert!(why.contains("kubectl apply -k crds"), "{why}");
    let mut crds: Vec<CustomResourceDefinition> = rollcall_api::manifests::crds();
    let annotations = |crd: &mut CustomResourceDefinition, revision: u32| {
        let all = crd.metadata.annotations.get_or_insert_default();
        all.insert(REVISION_ANNOTATION.to_owned(), revision.to_string());
    };
    crds.iter_mut().for_each(|crd| annotations(crd, REVISION - 1));
    install::install_crds(&client, &crds).await.unwrap();
    until_unready(&format!("has revision {}, but this rollcall needs {REVISION}", REVISION - 1))
        .await;
    crds.iter_mut().for_each(|crd| annotations(crd, REVISION + 1));
    install::install_crds(&client, &crds).await.unwrap();
    rollcall.until_ready().await;
    drop(rollcall);
    control_plane.stop().await;
}

#[tokio::test]
async fn replica_waits_for_an_api_server_that_does_not_answer_or_does_not_accept_its_token() {
    let mut ns = namespace("no-api-server").await;
    let good = std::fs::read_to_string(&ns.rollcall_kubeconfig).unwrap();
    let token = &ns.shared.control_plane.credentials.rollcall;
    let url = &ns.shared.control_plane.url;
    let nowhere = format!("https://{}", rollcall::dev::ports::free().unwrap());
    for (name, bad, reason) in [
        (
            "bad-token",
            good.replace(token.as_str(), "strange"),
            "does not accept rollcall's credentials (401)",
        ),
        ("nowhere", good.replace(url.as_str(), &nowhere), "the Kubernetes API does not answer"),
    ] {
        let path = state_dir("no-api-server").join(format!("{}-{name}.kubeconfig", ns.name));
        std::fs::write(&path, &bad).unwrap();
        ns.rollcall_kubeconfig = path;
        let rollcall = Rollcall::launch(&ns, name, &[]).await;
        eventually(reason, BOUND, async || {
            let (status, why) = ask(&rollcall, "/readyz").await;
            (status == 503 && why.contains(reason)).then_some(())
        })
        .await;
        assert!(rollcall.whole_log().contains(reason));
        // The HTTP server already answers, with 503 because nothing is known yet.
        assert_eq!(call(rollcall.http, "GET", "/v1/services", None).await.status, 503);
        assert_eq!(rollcall.terminate().await, "exit status: 0");
    }
}

/// The problems that a replica reports.
async fn problems(rollcall: &Rollcall) -> String {
    let cluster = call(rollcall.http, "GET", "/v1/cluster", None).await.json();
    cluster["replicas"][0]["problems"].to_string()
}

/// Registers and deletes an instance until the deletion is answered with this status.
async fn delete_until_status(ns: &Namespace, rollcall: &Rollcall, status: u16) {
    let path = format!("/v1/namespaces/{}/instances/a", ns.name);
    eventually(&format!("a deletion is answered {status}"), BOUND, async || {
        let body = json!({"service": "a", "addresses": ["10.0.0.1"]});
        let put = call(rollcall.http, "PUT", &path, Some(body)).await;
        assert!(matches!(put.status, 200 | 201), "{:?}", put.json());
        (call(rollcall.http, "DELETE", &path, None).await.status == status).then_some(())
    })
    .await;
}

#[tokio::test]
async fn missing_right_is_a_problem_from_its_first_refusal_to_its_first_success() {
    let ns = namespace("withdrawn").await;
    let delete = RIGHTS.iter().find(|it| it.verb == "delete" && it.role.contains("instances"));
    let delete = delete.unwrap();
    let path = kubeconfig_without(&ns, 0, delete).await;
    let flags = ["--kubeconfig", path.to_str().unwrap()];
    let rollcall = Rollcall::start_with(&ns, "rollcall-0", &flags).await;
    let sentence = "rollcall lacks the right to delete serviceinstances (API group rollcall.dev)";
    eventually("the first check finds it", BOUND, async || {
        problems(&rollcall).await.contains(sentence).then_some(())
    })
    .await;
    let api: Api<Role> = ns.api();
    let set = async |without: Option<&Right>| {
        let mut role = api.get("lacks-0").await.unwrap();
        let has = |right: &&Right| right.scope != RightScope::Cluster && Some(*right) != without;
        role.rules = Some(serde_json::from_value(json!(rules(RIGHTS.iter().filter(has)))).unwrap());
        api.replace("lacks-0", &PostParams::default(), &role).await.unwrap();
    };
    for _ in 0..2 {
        set(None).await;
        delete_until_status(&ns, &rollcall, 204).await;
        assert_eq!(problems(&rollcall).await, "[]", "right after the first success");
        set(Some(delete)).await;
        delete_until_status(&ns, &rollcall, 503).await;
        let reported = problems(&rollcall).await;
        assert!(reported.contains(sentence), "right after the first refusal: {reported}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_deleted_at_run_time_are_reported_until_they_are_back() {
    let ns = namespace_in(own("undefined", &[]).await, "undefined").await;
    let rollcall = Rollcall::start(&ns).await;
    let path = format!("/v1/namespaces/{}/instances/a", ns.name);
    let body = json!({"service": "a", "addresses": ["10.0.0.1"]});
    assert_eq!(call(rollcall.http, "PUT", &path, Some(body.clone())).await.status, 201);
    assert_eq!(problems(&rollcall).await, "[]");

    let definitions: Api<CustomResourceDefinition> = Api::all(ns.client.clone());
    for definition in rollcall_api::manifests::crds() {
        let name = definition.metadata.name.unwrap();
        definitions.delete(&name, &DeleteParams::default()).await.unwrap();
        eventually("the definition and its objects are gone", BOUND, async || {
            definitions.get_opt(&name).await.unwrap().is_none().then_some(())
        })
        .await;
    }
    eventually("an answer says what is missing", BOUND, async || {
        let answer = call(rollcall.http, "PUT", &path, Some(body.clone())).await;
        let detail = answer.json()["detail"].to_string();
        (answer.status == 503 && detail.contains("Install them with kubectl apply -k crds"))
            .then_some(())
    })
    .await;
    let reported = problems(&rollcall).await;
    assert!(reported.contains("does not serve all types of rollcall.dev/v1alpha1"), "{reported}");
    assert_eq!(ask(&rollcall, "/readyz").await.0, 200, "the replica answers from what it knows");
    assert!(!rollcall.whole_log().contains("the Kubernetes API does not answer"));

    install::install_crds(&ns.client, &rollcall_api::manifests::crds()).await.unwrap();
    eventually("registrations work again", BOUND, async || {
        let answer = call(rollcall.http, "PUT", &path, Some(body.clone())).await;
        let read = call(rollcall.http, "GET", &path, None).await;
        (answer.status < 300 && read.status == 200).then_some(())
    })
    .await;
    eventually("no problem is reported", BOUND, async || {
        (problems(&rollcall).await == "[]").then_some(())
    })
    .await;
}
