//! The optional policies of deploy/components/admission, on a real API server. They are bound to the test's
//! own namespace, since others share that server.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::support::http::call;
use crate::support::rbac::grant;
use crate::support::{Namespace, Rollcall, eventually, namespace};

const COMPONENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/components/admission");

/// For a policy or a right to be known to the API server.
const BOUND: Duration = Duration::from_secs(60);

/// Runs kubectl, as the ServiceAccount `writer` or as who may do everything; what it said when it failed.
fn kubectl(
    ns: &Namespace,
    writer: bool,
    args: &[&str],
    input: Option<&Value>,
) -> Result<(), String> {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(&ns.kubeconfig).args(["-n", &ns.name]).args(args);
    if writer {
        let user = format!("--as=system:serviceaccount:{}:writer", ns.name);
        command.args([
            &user,
            "--as-group=system:serviceaccounts",
            "--as-group=system:authenticated",
        ]);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("these tests need `kubectl`");
    let mut stdin = child.stdin.take().unwrap();
    if let Some(input) = input {
        stdin.write_all(input.to_string().as_bytes()).unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8(output.stderr).unwrap()) }
}

/// Applies a policy and its binding for one namespace only.
fn install(ns: &Namespace, file: &str) {
    apply(ns, &text(file));
}

fn text(file: &str) -> String {
    std::fs::read_to_string(Path::new(COMPONENT).join(file)).unwrap()
}

fn apply(ns: &Namespace, text: &str) {
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let mut object = Value::deserialize(document).unwrap();
        let name = format!("{}-{}", object["metadata"]["name"].as_str().unwrap(), ns.name);
        object["metadata"]["name"] = json!(name);
        if object["kind"] == "ValidatingAdmissionPolicyBinding" {
            object["spec"]["policyName"] = json!(name);
            let labels = json!({"kubernetes.io/metadata.name": ns.name});
            object["spec"]["matchResources"] =
                json!({"namespaceSelector": {"matchLabels": labels}});
        }
        kubectl(ns, false, &["apply", "-f", "-"], Some(&object)).unwrap();
    }
}

/// The ServiceAccount `writer`, which may write instances and nothing else.
async fn let_writer_write(ns: &Namespace) {
    kubectl(ns, false, &["create", "serviceaccount", "writer"], None).unwrap();
    let verbs = "--verb=get,create,update,patch";
    let role = ["create", "role", "plain", verbs, "--resource=serviceinstances.rollcall.dev"];
    kubectl(ns, false, &role, None).unwrap();
    grant(ns, ("Role", "plain"), "writer", ("patch", None, None)).await;
}

fn instance(name: &str, addresses: &[&str]) -> Value {
    json!({
        "apiVersion": "rollcall.dev/v1alpha1", "kind": "ServiceInstance", "metadata": {"name": name},
        "spec": {"service": "orders", "addresses": addresses, "lease": {"mode": "Permanent"}},
    })
}

#[tokio::test]
async fn addresses_that_nobody_else_can_reach_are_refused_with_what_to_give_instead() {
    let ns = namespace("addresses").await;
    let apply = |name: &str, addresses: &[&str]| {
        kubectl(&ns, false, &["apply", "-f", "-"], Some(&instance(name, addresses)))
    };
    apply("before", &["127.0.0.1"]).unwrap();
    install(&ns, "addresses.yaml");
    // A new one each time: what does not change is not asked about.
    let probe = async || apply(&format!("p{}", fastrand::u32(..)), &["127.0.0.1"]).err();
    eventually("the policy holds", BOUND, probe).await;
    for address in [
        "127.9.9.9",
        "::1",
        "0.0.0.0",
        "::",
        "169.254.169.254",
        "fe80::1",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
    ] {
        let said = apply("o1", &["10.0.0.7", address]).unwrap_err();
        let wanted = format!("spec.addresses: {address} cannot be reached by others");
        assert!(said.contains(&wanted), "{address}: {said}");
    }
    assert!(apply("o1", &["fd00:ec2::254"]).unwrap_err().contains("metadata service"));
    apply("o1", &["10.0.0.7", "fd00::7", "203.0.113.9"]).unwrap();
    // What was there before is not stuck.
    kubectl(&ns, false, &["annotate", "si", "before", "rollcall.dev/heartbeat=1"], None).unwrap();
}

#[tokio::test]
async fn only_who_may_write_status_says_that_an_instance_is_a_replica() {
    let ns = namespace("replica-mark").await;
    let_writer_write(&ns).await;
    kubectl(&ns, true, &["create", "-f", "-"], Some(&instance("o1", &["10.0.0.7"]))).unwrap();
    let mark = |as_writer: bool| {
        let value = format!("rollcall.dev/installation=x{}", fastrand::u32(..));
        kubectl(&ns, as_writer, &["annotate", "--overwrite", "si", "o1", &value], None)
    };
    install(&ns, "installation.yaml");
    let said = eventually("the policy holds", BOUND, async || mark(true).err()).await;
    assert!(said.contains("only rollcall itself writes it"), "{said}");
    mark(false).unwrap();
    let heartbeat = ["annotate", "--overwrite", "si", "o1", "rollcall.dev/heartbeat=1"];
    kubectl(&ns, true, &heartbeat, None).unwrap();
}

#[tokio::test]
async fn beats_and_the_operators_word_need_their_rights_in_objects_too() {
    let ns = namespace("beats").await;
    let_writer_write(&ns).await;
    let write = |args: &[&str]| kubectl(&ns, true, args, None);
    kubectl(&ns, true, &["create", "-f", "-"], Some(&instance("o1", &["10.0.0.7"]))).unwrap();
    let beat = |value: &str| {
        write(&["annotate", "--overwrite", "si", "o1", &format!("rollcall.dev/heartbeat={value}")])
    };
    let state = |state: &str| {
        let patch = json!({"spec": {"state": state}}).to_string();
        write(&["patch", "si", "o1", "--type=merge", "-p", &patch])
    };
    beat("1").unwrap();
    install(&ns, "heartbeats.yaml");
    let said = eventually("the policy holds", BOUND, async || {
        beat(&format!("x{}", fastrand::u32(..))).err()
    })
    .await;
    assert!(
        said.contains(
            "writer may not beat for o1: that needs update on serviceinstances/heartbeat"
        ),
        "{said}"
    );
    let said = state("Draining").unwrap_err();
    assert!(said.contains("may not change the state of o1"), "{said}");
    // Everything else is as before.
    write(&["annotate", "si", "o1", "note=1"]).unwrap();
    write(&["patch", "si", "o1", "--type=merge", "-p", r#"{"spec":{"weight":7}}"#]).unwrap();
    write(&["annotate", "si", "o1", "rollcall.dev/heartbeat-"]).unwrap();
    let resources =
        "--resource=serviceinstances.rollcall.dev/heartbeat,serviceinstances.rollcall.dev/state";
    kubectl(&ns, false, &["create", "role", "more", "--verb=update", resources], None).unwrap();
    grant(&ns, ("Role", "more"), "writer", ("update", Some("heartbeat"), None)).await;
    beat("2").unwrap();
    state("Draining").unwrap();
}

/// The policy of addresses with the rule that is left to be edited in force, as its comment says to do it.
fn with_networks() -> String {
    let text = text("addresses.yaml");
    let (before, rule) = text.split_once("take away the # from here on:\n").unwrap();
    format!("{before}\n{}", rule.replace("    # ", "    "))
}

#[tokio::test]
async fn over_http_a_policy_is_passed_on_in_its_own_words_and_rollcall_itself_still_beats() {
    let ns = namespace("networks").await;
    let rollcall = Rollcall::start(&ns).await;
    let path = |name: &str| format!("/v1/namespaces/{}/instances/{name}", ns.name);
    let put = async |name: &str, address: &str| {
        let body = json!({"service": "orders", "addresses": [address]});
        call(rollcall.http, "PUT", &path(name), Some(body)).await
    };
    assert_eq!(put("o1", "10.0.0.7").await.status, 201);
    apply(&ns, &with_networks());
    install(&ns, "heartbeats.yaml");
    let refused = eventually("the policy holds", BOUND, async || {
        let answer = put(&format!("p{}", fastrand::u32(..)), "203.0.113.9").await;
        (answer.status != 201).then_some(answer)
    })
    .await;
    let problem = refused.json();
    let said = problem["detail"].as_str().unwrap();
    assert!(matches!(refused.status, 403 | 422), "{problem}");
    assert!(said.contains("only addresses of this cluster's networks may be registered"), "{said}");
    assert_eq!(put("o2", "10.0.0.8").await.status, 201);
    assert_eq!(put("o3", "fd00::8").await.status, 201);
    // What rollcall writes for callers whom it has asked is not asked again.
    for health in ["Warning", "Passing"] {
        let beat = Some(json!({"health": health}));
        let beaten = call(rollcall.http, "PUT", &format!("{}/heartbeat", path("o1")), beat).await;
        assert_eq!(beaten.status, 200, "{}", beaten.json());
    }
    let state = Some(json!({"state": "Draining"}));
    let drained = call(rollcall.http, "PUT", &format!("{}/state", path("o1")), state).await;
    assert_eq!(drained.status, 200, "{}", drained.json());
}
