//! The replicas under test, and the values of placeholders in requests.
//!
//! Owns: starting the replicas, their callers, `<<…>>` in requests. Does not own: the requests (the tables).
//!
//! | placeholder | becomes |
//! |---|---|
//! | `<<ns>>` | the namespace of the replica |
//! | `<<token A>>` | a token of the ServiceAccount or the pod A |
//! | `<<uid I>>`, `<<version I>>` | uid and resourceVersion of the instance I, read immediately before |
//! | `<<etag P>>` | the `ETag` of the path P, read immediately before |
//! | `<<revision P>>` | the same without quotes |
//! | `<<index>>` | the `Rollcall-Index` of an answer immediately before |

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::Role;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use super::client::exchange;
use super::pair::{Pair, Replica, pair};
use crate::support::http::call;
use crate::support::rbac::{self, API_SERVER};
use crate::support::{Namespace, Rollcall, eventually, namespace};

/// A replica with its own namespace and its callers' tokens.
pub(super) struct ReplicaUnderTest {
    pub(super) namespace: Namespace,
    pub(super) rollcall: Rollcall,
    tokens: BTreeMap<&'static str, String>,
}

/// The replicas that requests go to.
pub(super) struct TestReplicas {
    open: ReplicaUnderTest,
    tokens: ReplicaUnderTest,
    read_tokens: ReplicaUnderTest,
    caller_rate: ReplicaUnderTest,
    namespace_rate: ReplicaUnderTest,
}

impl TestReplicas {
    pub(super) async fn start() -> Self {
        let (open, tokens, read_tokens, caller_rate, namespace_rate) = tokio::join!(
            start("recorded-open", &[]),
            start("recorded-tokens", &["--auth", "token"]),
            start("recorded-read-auth", &["--auth", "token", "--read-auth"]),
            start("recorded-caller", &["--http-caller-rate", "1"]),
            start("recorded-writes", &["--http-namespace-rate", "1"]),
        );
        Self { open, tokens, read_tokens, caller_rate, namespace_rate }
    }

    pub(super) fn get(&self, replica: Replica) -> &ReplicaUnderTest {
        match replica {
            Replica::Open => &self.open,
            Replica::Tokens => &self.tokens,
            Replica::ReadTokens => &self.read_tokens,
            Replica::CallerRate => &self.caller_rate,
            Replica::NamespaceRate => &self.namespace_rate,
        }
    }
}

async fn start(prefix: &str, flags: &[&str]) -> ReplicaUnderTest {
    let namespace = namespace(prefix).await;
    let (rollcall, tokens) = tokio::join!(
        Rollcall::start_with(&namespace, "rollcall-0", flags),
        tokens(&namespace, flags.contains(&"token")),
    );
    ReplicaUnderTest { namespace, rollcall, tokens }
}

/// Tokens of callers with different rights.
async fn tokens(ns: &Namespace, are_needed: bool) -> BTreeMap<&'static str, String> {
    let mut tokens = BTreeMap::new();
    if !are_needed {
        return tokens;
    }
    for account in ["workload", "operator", "reader", "sidecar", "nobody"] {
        tokens.insert(account, rbac::token(ns, account, "rollcall").await);
    }
    tokens.insert("elsewhere", rbac::token(ns, "nobody", API_SERVER).await);
    let pod = rbac::pod(ns, "pods", "pod-1").await;
    tokens.insert("pod-1", rbac::pod_token(ns, &pod).await);
    let role = serde_json::from_value(json!({
        "metadata": {"name": "beats-orders-1"},
        "rules": [{
            "apiGroups": ["rollcall.dev"], "resources": ["serviceinstances/heartbeat"],
            "resourceNames": ["orders-1"], "verbs": ["update"],
        }],
    }));
    let api: Api<Role> = ns.api();
    api.create(&PostParams::default(), &role.unwrap()).await.unwrap();
    let beat = |name| ("update", Some("heartbeat"), name);
    tokio::join!(
        rbac::grant(ns, ("ClusterRole", "rollcall-workload"), "workload", beat(None)),
        rbac::grant(
            ns,
            ("ClusterRole", "rollcall-operator"),
            "operator",
            ("update", Some("state"), None)
        ),
        rbac::grant(ns, ("ClusterRole", "rollcall-reader"), "reader", ("list", None, None)),
        rbac::grant(ns, ("Role", "beats-orders-1"), "sidecar", beat(Some("orders-1"))),
    );
    tokens
}

impl ReplicaUnderTest {
    /// The pair with every placeholder replaced.
    pub(super) async fn resolved(&self, unresolved: &Pair) -> Pair {
        let mut pair = unresolved.clone();
        pair.line = self.resolve_text(&pair.line).await;
        for header in &mut pair.headers {
            *header = self.resolve_text(header).await;
        }
        // A body that is not UTF-8 is treated as Latin-1, so that placeholders in it are replaced and all bytes are kept.
        pair.body = match String::from_utf8(pair.body) {
            Ok(text) => self.resolve_text(&text).await.into_bytes(),
            Err(error) => {
                let bytes = error.into_bytes();
                let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
                let text = self.resolve_text(&text).await;
                text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
            }
        };
        pair
    }

    /// The text with every placeholder replaced.
    pub(super) async fn resolve_text(&self, text: &str) -> String {
        let mut parts = text.split("<<");
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (placeholder, rest) =
                part.split_once(">>").unwrap_or_else(|| panic!("{part}: no end"));
            out.push_str(&self.value(placeholder).await);
            out.push_str(rest);
        }
        out
    }

    async fn value(&self, placeholder: &str) -> String {
        let ns = &self.namespace.name;
        let (kind, argument) = placeholder.split_once(' ').unwrap_or((placeholder, ""));
        let get = async |path: &str| call(self.rollcall.http, "GET", path, None).await;
        let instance =
            async || get(&format!("/v1/namespaces/{ns}/instances/{argument}")).await.json();
        let string = |value: &Value| {
            value.as_str().unwrap_or_else(|| panic!("<<{placeholder}>> has no value")).to_owned()
        };
        let path = argument.replace("NS", ns);
        match kind {
            "ns" => ns.clone(),
            "token" => self.tokens[argument].clone(),
            "uid" => string(&instance().await["uid"]),
            "version" => string(&instance().await["resourceVersion"]),
            "etag" => get(&path).await.header("etag").to_owned(),
            "revision" => get(&path).await.header("etag").trim_matches('"').to_owned(),
            "index" => get("/v1/cluster").await.header("rollcall-index").to_owned(),
            _ => panic!("<<{placeholder}>>: unknown placeholder"),
        }
    }

    /// Waits until the answer to a GET meets the condition.
    pub(super) async fn until(&self, line: &str, holds: fn(u16, &Value) -> bool) {
        let line = self.resolve_text(line).await;
        let path = line.trim_start_matches("GET ");
        eventually(&line, Duration::from_secs(60), async || {
            let answer = call(self.rollcall.http, "GET", path, None).await;
            holds(answer.status, &answer.json()).then_some(())
        })
        .await;
    }

    /// Waits until heartbeats are answered 200 at once. After a pause of the machine the self-beat is late. Until it
    /// comes back, an unchanged registration is written, and a heartbeat is answered 202.
    pub(super) async fn until_confirming(&self) {
        self.until("GET /v1/cluster", |_, cluster| cluster["replicas"][0]["promises"] == true)
            .await;
    }

    /// Waits until the leader has stored the phase of every instance, so that no version changes any more.
    pub(super) async fn settle(&self) {
        let to = self.rollcall.http;
        eventually("every status is stored", Duration::from_secs(60), async || {
            // The response is chunked, which this client decodes.
            let all = exchange(to, &pair("", "GET /v1/snapshot")).await;
            let lines = String::from_utf8(all.responses.into_iter().next()?.body).unwrap();
            for line in lines.lines() {
                let in_snapshot: Value = serde_json::from_str(line).unwrap();
                let name = in_snapshot["name"].as_str().unwrap();
                let path = format!("/v1/namespaces/{}/instances/{name}", self.namespace.name);
                let instance = call(to, "GET", &path, None).await.json();
                let is_horizon_known = instance["verdict"]["horizon"].is_string();
                if instance["verdict"]["stored"]["phase"] != instance["phase"] || !is_horizon_known
                {
                    return None;
                }
            }
            let cluster = call(to, "GET", "/v1/cluster", None).await.json();
            cluster["leader"].is_string().then_some(())
        })
        .await;
    }
}
