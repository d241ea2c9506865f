//! The optional policies of deploy/components/admission, on a real API server. They are bound to the test's own namespace,
//! because other tests use the same server.

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

/// The time until the API server observes a policy or a right.
const BOUND: Duration = Duration::from_secs(60);

/// Runs kubectl, as the ServiceAccount `writer` or with every right. Returns its error output when it fails.
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

/// Applies a policy, with its binding restricted to one namespace.
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

/// Creates the ServiceAccount `writer`, which has the right to write instances and no other right.
async fn create_writer(ns: &Namespace) {
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
async fn unreachable_addresses_are_refused_with_a_fix() {
    let ns = namespace("addresses").await;
    let apply = |name: &str, addresses: &[&str]| {
        kubectl(&ns, false, &["apply", "-f", "-"], Some(&instance(name, addresses)))
    };
    apply("before", &["127.0.0.1"]).unwrap();
    install(&ns, "addresses.yaml");
    // A new instance each time, because unchanged objects are not checked.
    let probe = async || apply(&format!("p{}", fastrand::u32(..)), &["127.0.0.1"]).err();
    eventually("the policy is in force", BOUND, probe).await;
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
        let error = apply("o1", &["10.0.0.7", address]).unwrap_err();
        let expected = format!("spec.addresses: {address} cannot be reached by other machines");
        assert!(error.contains(&expected), "{address}: {error}");
    }
    assert!(apply("o1", &["fd00:ec2::254"]).unwrap_err().contains("metadata service"));
    apply("o1", &["10.0.0.7", "fd00::7", "203.0.113.9"]).unwrap();
    // Other changes of an older instance are still possible.
    kubectl(&ns, false, &["annotate", "si", "before", "rollcall.dev/heartbeat=1"], None).unwrap();
}

#[tokio::test]
async fn installation_annotation_needs_the_right_to_write_status() {
    let ns = namespace("replica-mark").await;
    create_writer(&ns).await;
    kubectl(&ns, true, &["create", "-f", "-"], Some(&instance("o1", &["10.0.0.7"]))).unwrap();
    let mark = |as_writer: bool| {
        let value = format!("rollcall.dev/installation=x{}", fastrand::u32(..));
        kubectl(&ns, as_writer, &["annotate", "--overwrite", "si", "o1", &value], None)
    };
    install(&ns, "installation.yaml");
    let error = eventually("the policy is in force", BOUND, async || mark(true).err()).await;
    assert!(error.contains("only rollcall itself may write this annotation"), "{error}");
    mark(false).unwrap();
    let heartbeat = ["annotate", "--overwrite", "si", "o1", "rollcall.dev/heartbeat=1"];
    kubectl(&ns, true, &heartbeat, None).unwrap();
}

#[tokio::test]
async fn heartbeats_and_operator_state_need_their_rights_with_kubectl_too() {
    let ns = namespace("beats").await;
    create_writer(&ns).await;
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
    let error = eventually("the policy is in force", BOUND, async || {
        beat(&format!("x{}", fastrand::u32(..))).err()
    })
    .await;
    assert!(
        error.contains(
            "writer may not send heartbeats for o1: that needs update on serviceinstances/heartbeat"
        ),
        "{error}"
    );
    let error = state("Draining").unwrap_err();
    assert!(error.contains("may not change the state of o1"), "{error}");
    // Other changes need no additional right.
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

/// The policy of addresses with its optional rule enabled, as the comment in the file describes.
fn with_networks() -> String {
    let text = text("addresses.yaml");
    let (before, rule) = text.split_once("edit and uncomment this validation:\n").unwrap();
    format!("{before}\n{}", rule.replace("    # ", "    "))
}

#[tokio::test]
async fn refusal_by_a_policy_reaches_http_callers_and_rollcall_can_still_write() {
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
    let refused = eventually("the policy is in force", BOUND, async || {
        let answer = put(&format!("p{}", fastrand::u32(..)), "203.0.113.9").await;
        (answer.status != 201).then_some(answer)
    })
    .await;
    let problem = refused.json();
    let detail = problem["detail"].as_str().unwrap();
    assert!(matches!(refused.status, 403 | 422), "{problem}");
    assert!(
        detail.contains("only addresses of this cluster's networks may be registered"),
        "{detail}"
    );
    assert_eq!(put("o2", "10.0.0.8").await.status, 201);
    assert_eq!(put("o3", "fd00::8").await.status, 201);
    // rollcall has authorized these callers itself, so the policy does not check rollcall's writes again.
    for health in ["Warning", "Passing"] {
        let beat = Some(json!({"health": health}));
        let renewed = call(rollcall.http, "PUT", &format!("{}/heartbeat", path("o1")), beat).await;
        assert_eq!(renewed.status, 200, "{}", renewed.json());
    }
    let state = Some(json!({"state": "Draining"}));
    let drained = call(rollcall.http, "PUT", &format!("{}/state", path("o1")), state).await;
    assert_eq!(drained.status, 200, "{}", drained.json());
}
