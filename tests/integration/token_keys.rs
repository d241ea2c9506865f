//! Checks of tokens with the cluster's signing keys (`--auth-tokens jwks`): they give the same identities as reviews,
//! without a call for each token.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, PostParams};
use prometheus_client::registry::Registry;
use rollcall::dev::Child;
use rollcall::kubernetes::breaker::Breakers;
use rollcall::kubernetes::review::{Keyring, ReviewOptions, Reviewer, TokenSubject};
use rollcall::telemetry::keys::KeyMetrics;
use rollcall::telemetry::metrics::ApiMetrics;
use rollcall::telemetry::problems::ProblemTracker;
use serde_json::{Value, json};

use crate::support::control_plane::{TestControlPlane, launcher, own, program_of};
use crate::support::forge::TokenForge;
use crate::support::http::{Answer, call, call_as, call_with};
use crate::support::http_proxy::{Fault, HttpProxy};
use crate::support::proxy::{Mode, Proxy};
use crate::support::rbac::{API_SERVER, bound_token, grant, pod, pod_token, pod_with_spec, token};
use crate::support::{Namespace, Rollcall, eventually, namespace, namespace_in};

const BOUND: Duration = Duration::from_secs(60);

/// An RSA key pair; the control plane generates EC keys.
const RSA_KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/rsa.pem");

const JWKS: [&str; 4] = ["--auth", "token", "--auth-tokens", "jwks"];

async fn start(ns: &Namespace) -> Rollcall {
    let rollcall = Rollcall::start_with(ns, "rollcall-0", &JWKS).await;
    eventually("the signing keys are read", BOUND, async || {
        (sample(&rollcall, "rollcall_auth_keys").await >= 1.0).then_some(())
    })
    .await;
    rollcall
}

/// The value of a series; 0 when the series is missing.
async fn sample(rollcall: &Rollcall, series: &str) -> f64 {
    let answer = call_with(rollcall.admin, "GET /metrics", ("accept", "*/*"), "").await;
    let text = String::from_utf8(answer.body).unwrap();
    let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(value).unwrap_or(0.0)
}

async fn count_key_reads(rollcall: &Rollcall, cause: &str, result: &str) -> f64 {
    let labels = format!("{{cause=\"{cause}\",result=\"{result}\"}}");
    sample(rollcall, &format!("rollcall_auth_key_reads_total{labels}")).await
}

/// The number of calls with this verb and resource, whatever their result.
async fn count_calls(rollcall: &Rollcall, verb: &str, resource: &str) -> f64 {
    let labels = format!("{{verb=\"{verb}\",resource=\"{resource}\"}}");
    sample(rollcall, &format!("rollcall_api_call_duration_seconds_count{labels}")).await
}

fn instance_path(ns: &Namespace, name: &str) -> String {
    format!("/v1/namespaces/{}/instances/{name}", ns.name)
}

async fn put(http: SocketAddr, token: &str, path: &str) -> Answer {
    let body = json!({"service": "orders", "addresses": ["10.0.0.7"]});
    call_as(token, http, ("PUT", path), Some(body)).await
}

fn assert_problem(answer: &Answer, status: u16, text: &str) {
    let problem = answer.json();
    assert_eq!(answer.status, status, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains(text), "no {text:?} in {problem}");
}

/// Both methods of authentication, without an HTTP server in front.
struct Authenticators {
    reviews: Reviewer,
    keyring: Keyring,
}

impl Authenticators {
    async fn new(shared: &TestControlPlane) -> Self {
        let client = shared.control_plane.rollcall().await.unwrap();
        let mut registry = Registry::default();
        let (metrics, breakers) = (
            ApiMetrics::new(&mut registry, ProblemTracker::default()),
            Breakers::new(&mut registry),
        );
        let reviews = Reviewer::new(client.clone(), &metrics, &breakers.reviews);
        let keys = KeyMetrics::new(&mut registry);
        let (keyring, reader) = Keyring::new(client, &metrics, &breakers.reviews, keys);
        tokio::spawn(reader.run());
        Self { reviews, keyring }
    }

    /// The result of the review, and the result of the check with the keys.
    async fn authenticate(&self, token: &str) -> [Result<TokenSubject, String>; 2] {
        let ask = ReviewOptions { repeated: false, within: BOUND };
        let reviewed = self.reviews.authenticate(token, ask).await.unwrap();
        [reviewed, self.keyring.authenticate(token, BOUND).await.unwrap()]
    }
}

#[tokio::test]
async fn review_and_keys_give_the_same_identity() {
    let ns = namespace("both-ways").await;
    let authenticators = Authenticators::new(&ns.shared).await;
    let node = format!("{}-node", ns.name);
    let nodes: Api<Node> = Api::all(ns.client.clone());
    let object = serde_json::from_value(json!({"metadata": {"name": node}})).unwrap();
    nodes.create(&PostParams::default(), &object).await.unwrap();
    let unscheduled = pod(&ns, "orders", "orders-1").await;
    let scheduled = pod_with_spec(&ns, "orders", "orders-2", json!({"nodeName": node})).await;
    let secret = json!({"metadata": {"name": "bound"}});
    let secret = serde_json::from_value(secret).unwrap();
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = ns.api();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    for (what, token, pod) in [
        ("an account alone", token(&ns, "orders", "rollcall").await, None),
        ("an unscheduled pod", pod_token(&ns, &unscheduled).await, Some("orders-1")),
        ("a pod on a node", pod_token(&ns, &scheduled).await, Some("orders-2")),
        ("a node", bound_token(&ns, "orders", ("Node", &node)).await, None),
        ("a secret", bound_token(&ns, "orders", ("Secret", "bound")).await, None),
    ] {
        let [reviewed, checked] = authenticators.authenticate(&token).await.map(Result::unwrap);
        assert_eq!(reviewed, checked, "{what}");
        assert_eq!(checked.pod.as_ref().map(|pod| &*pod.name), pod, "{what}");
        let user = format!("system:serviceaccount:{}:orders", ns.name);
        assert_eq!(checked.identity.user, user, "{what}");
        assert!(checked.identity.uid.is_some() && checked.identity.groups.len() == 3, "{what}");
    }
    nodes.delete(&node, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn token_refused_by_review_is_refused_by_keys_with_a_reason() {
    let ns = namespace("neither-way").await;
    let authenticators = Authenticators::new(&ns.shared).await;
    let good = token(&ns, "orders", "rollcall").await;
    let forge = TokenForge::from_valid_token(&ns.shared, &good);
    // A token forged with the cluster's own key and unchanged claims is accepted, so the refusals below are meaningful.
    let [reviewed, checked] = authenticators.authenticate(&forge.token(&json!({}))).await;
    assert_eq!(reviewed.unwrap(), checked.unwrap());
    let (past, future) = (forge.now() - 3600, forge.now() + 3600);
    for (token, says) in [
        (
            token(&ns, "orders", API_SERVER).await,
            "for the audience \"https://kubernetes.default.svc\"",
        ),
        (token(&ns, "orders", "vault").await, "for the audience \"vault\", not for rollcall"),
        (forge.token(&json!({"exp": past, "iat": past, "nbf": past})), "it expired at 2"),
        (forge.token(&json!({"nbf": future})), "(nbf)"),
        (forge.token(&json!({"iss": "https://elsewhere.example"})), "its issuer is"),
        (forge.token(&json!({"aud": []})), "it has no audience"),
        (forge.token_as(&json!({"alg": "none"}), false), "its alg is \"none\""),
        (forge.token_as(&json!({"alg": "HS256"}), false), "its alg is \"HS256\""),
        (forge.token_as(&json!({"alg": "RS256"}), true), "but the key"),
        (forge.token_as(&json!({"kid": "made-up"}), true), "the key \"made-up\""),
        (forge.token_as(&json!({}), false), "its signature is not that of the key"),
        (format!("{good}x"), ""),
        (good[..good.len() - 3].to_owned(), ""),
        ("nonsense".to_owned(), "three parts"),
    ] {
        let [reviewed, checked] = authenticators.authenticate(&token).await;
        assert!(reviewed.is_err(), "{token}");
        let why = checked.unwrap_err();
        assert!(why.contains(says), "no {says:?} in {why:?}");
    }
}

#[tokio::test]
async fn pod_registers_and_sends_heartbeats_without_token_reviews() {
    let ns = namespace("no-reviews").await;
    let rollcall = start(&ns).await;
    let first = pod(&ns, "orders", "orders-1").await;
    let path = instance_path(&ns, "orders-1");
    for status in [201, 200, 200] {
        let token = pod_token(&ns, &first).await;
        let answer = put(rollcall.http, &token, &path).await;
        assert_eq!(answer.status, status, "{}", answer.json());
        let beat = format!("{path}/heartbeat");
        assert_eq!(call_as(&token, rollcall.http, ("PUT", &beat), None).await.status, 200);
    }
    // The pod has access to its own instance only.
    let token_of_first = pod_token(&ns, &first).await;
    let other = instance_path(&ns, "orders-2");
    assert_problem(
        &put(rollcall.http, &token_of_first, &other).await,
        403,
        "allows access to the instance orders-1",
    );
    // Rights still need an access review.
    let operator = token(&ns, "operator", "rollcall").await;
    assert_problem(&put(rollcall.http, &operator, &other).await, 403, "may not create");
    grant(&ns, ("ClusterRole", "rollcall-workload"), "operator", ("create", None, None)).await;
    eventually("the granted right is observed", BOUND, async || {
        (put(rollcall.http, &operator, &other).await.status == 201).then_some(())
    })
    .await;
    assert_eq!(count_calls(&rollcall, "create", "tokenreviews").await, 0.0);
    assert!(count_calls(&rollcall, "create", "subjectaccessreviews").await >= 2.0);
    assert_eq!(count_calls(&rollcall, "get", "/openid/v1/jwks").await, 1.0);
    let yes = "{step=\"token\",result=\"yes\",source=\"keys\"}";
    assert_eq!(sample(&rollcall, &format!("rollcall_auth_checks_total{yes}")).await, 5.0);
    assert!(sample(&rollcall, "rollcall_auth_keys_read_timestamp_seconds").await > 1.7e9);
    let log = rollcall.whole_log();
    assert!(log.contains("tokens are now checked with these keys of the cluster"), "{log}");
}

#[tokio::test]
async fn invalid_token_is_refused_with_the_reason() {
    let ns = namespace("refused").await;
    let rollcall = start(&ns).await;
    let good = token(&ns, "orders", "rollcall").await;
    let forge = TokenForge::from_valid_token(&ns.shared, &good);
    let path = instance_path(&ns, "a");
    for (bad, says) in [
        (token(&ns, "orders", API_SERVER).await, "https://kubernetes.default.svc"),
        (forge.token(&json!({"exp": forge.now() - 61})), "it expired at 2"),
        (forge.token_as(&json!({"kid": "made-up"}), true), "which this cluster does not publish"),
        (forge.token(&json!({"iss": "https://elsewhere.example"})), "not that of this cluster"),
        ("nonsense".to_owned(), "three parts"),
        ("x".repeat(10_000), "too long"),
    ] {
        let answer = put(rollcall.http, &bad, &path).await;
        assert_problem(&answer, 401, says);
        assert_problem(&answer, 401, "kubectl create token");
        assert!(answer.header("www-authenticate").contains("invalid_token"));
    }
    assert_eq!(call(rollcall.http, "PUT", &path, None).await.status, 401);
    assert_eq!(call(rollcall.http, "GET", &path, None).await.status, 404);
}

#[tokio::test]
async fn many_tokens_with_unknown_keys_cause_one_read_of_the_keys() {
    let ns = namespace("unknown-keys").await;
    let rollcall = start(&ns).await;
    let forge = TokenForge::from_valid_token(&ns.shared, &token(&ns, "orders", "rollcall").await);
    let path = instance_path(&ns, "a");
    let unknown: Vec<_> =
        (0..40).map(|at| forge.token_as(&json!({"kid": format!("k{at}")}), true)).collect();
    let asked = unknown.iter().map(|token| put(rollcall.http, token, &path));
    for answer in join_all(asked).await {
        assert_problem(&answer, 401, "which this cluster does not publish");
    }
    assert_eq!(count_key_reads(&rollcall, "unknown", "ok").await, 1.0);
    // For the next ten seconds, more tokens with unknown keys are refused at once, without another read.
    let answer = put(rollcall.http, &forge.token_as(&json!({"kid": "late"}), true), &path).await;
    assert_problem(&answer, 401, "the key \"late\"");
    assert_eq!(count_key_reads(&rollcall, "unknown", "ok").await, 1.0);
    // One more read covers all of these, in case a key was published since.
    eventually("the keys are read again for the late token", BOUND, async || {
        (count_key_reads(&rollcall, "unknown", "ok").await == 2.0).then_some(())
    })
    .await;
    assert_eq!(count_calls(&rollcall, "get", "/openid/v1/jwks").await, 3.0);
}

#[tokio::test]
async fn new_tokens_are_accepted_by_the_known_keys_during_an_outage() {
    let mut ns = namespace("keys-away").await;
    let proxy = Proxy::install(&mut ns).await;
    let rollcall = start(&ns).await;
    let pod = pod(&ns, "orders", "orders-1").await;
    let (path, now) = (instance_path(&ns, "orders-1"), pod_token(&ns, &pod).await);
    assert_eq!(put(rollcall.http, &now, &path).await.status, 201);
    let beat = format!("{path}/heartbeat");
    let later =
        [pod_token(&ns, &pod).await, pod_token(&ns, &pod).await, pod_token(&ns, &pod).await];
    let forge = TokenForge::from_valid_token(&ns.shared, &now);
    proxy.set(Mode::Cut);
    for token in &later {
        let answer = call_as(token, rollcall.http, ("PUT", &beat), None).await;
        assert!(matches!(answer.status, 200 | 202), "{}", answer.json());
    }
    // An unknown key cannot be checked now, but a malformed token is still refused.
    let unknown = forge.token_as(&json!({"kid": "made-up"}), true);
    let answer = call_as(&unknown, rollcall.http, ("PUT", &beat), None).await;
    assert_problem(&answer, 503, "cannot review the token");
    assert_ne!(answer.header("retry-after"), "");
    let answer = call_as("nonsense", rollcall.http, ("PUT", &beat), None).await;
    assert_problem(&answer, 401, "three parts");
    let forged = forge.token_as(&json!({}), false);
    let answer = call_as(&forged, rollcall.http, ("PUT", &beat), None).await;
    assert_problem(&answer, 401, "its signature is not that");
}

#[tokio::test]
async fn failed_reads_of_the_keys_are_logged_once_and_so_is_the_recovery() {
    let mut ns = namespace("unread-keys").await;
    let (proxy, path) = HttpProxy::in_front_of(&ns.rollcall_kubeconfig, &ns.name).await;
    ns.rollcall_kubeconfig = path;
    let rollcall = start(&ns).await;
    let pod = pod(&ns, "orders", "orders-1").await;
    let path = instance_path(&ns, "orders-1");
    let good = pod_token(&ns, &pod).await;
    assert_eq!(put(rollcall.http, &good, &path).await.status, 201);
    let unknown =
        TokenForge::from_valid_token(&ns.shared, &good).token_as(&json!({"kid": "made-up"}), true);
    proxy.set(Fault::Keys);
    assert_problem(&put(rollcall.http, &unknown, &path).await, 503, "try again");
    eventually("three reads of the keys have failed", BOUND, async || {
        let failed = count_key_reads(&rollcall, "due", "failed").await
            + count_key_reads(&rollcall, "unknown", "failed").await;
        (failed >= 3.0).then_some(())
    })
    .await;
    assert_eq!(put(rollcall.http, &pod_token(&ns, &pod).await, &path).await.status, 200);
    let log_count = |line: &str| rollcall.whole_log().matches(line).count();
    assert_eq!(log_count("cannot read the keys of the cluster"), 1);
    assert_eq!(log_count("the keys of the cluster can be read again"), 0);
    // No review was sent, so no failed review is logged.
    assert_eq!(log_count("cannot review callers"), 0);
    proxy.set(Fault::None);
    eventually("the recovery is logged", BOUND, async || {
        (log_count("the keys of the cluster can be read again") == 1).then_some(())
    })
    .await;
    assert_problem(&put(rollcall.http, &unknown, &path).await, 401, "does not publish");
}

/// Restarts the API server with these flags in addition to its own.
async fn restart_with_flags(server: &Child, flags: &[&str], ns: &Namespace) -> Child {
    let mut program = program_of(server);
    program.args.extend(flags.iter().map(Into::into));
    server.kill();
    server.ended().await;
    let started = launcher().start(&program).await.unwrap();
    eventually("the API server is back", BOUND, async || {
        ns.client.apiserver_version().await.ok().map(|_| ())
    })
    .await;
    started
}

/// The ids of the signing keys that the API server publishes.
async fn published_key_ids(ns: &Namespace) -> Vec<String> {
    let request = hyper::Request::get("/openid/v1/jwks").body(Vec::new()).unwrap();
    let set: Value = serde_json::from_str(&ns.client.request_text(request).await.unwrap()).unwrap();
    let keys = set["keys"].as_array().unwrap();
    keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn key_id(token: &str) -> String {
    let head = crate::support::forge::decode_part(token, 0);
    head["kid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn new_key_is_read_with_its_first_token_and_a_withdrawn_key_is_no_longer_accepted() {
    let shared: Arc<TestControlPlane> = own("keys", &[]).await;
    let ns = namespace_in(shared.clone(), "keys").await;
    let rollcall = start(&ns).await;
    let pod: Pod = pod(&ns, "orders", "orders-1").await;
    let path = instance_path(&ns, "orders-1");
    // Each is used once, so that none is cached.
    let mut old = Vec::new();
    for _ in 0..3 {
        old.push(pod_token(&ns, &pod).await);
    }
    assert_eq!(put(rollcall.http, &old.pop().unwrap(), &path).await.status, 201);
    // The API server now signs with an RSA key, and publishes both keys.
    let new =
        ["--service-account-signing-key-file", RSA_KEY, "--service-account-key-file", RSA_KEY];
    let server = restart_with_flags(&shared.control_plane.apiserver, &new, &ns).await;
    let token = pod_token(&ns, &pod).await;
    assert_ne!(key_id(&token), key_id(&old[0]));
    assert_eq!(published_key_ids(&ns).await.len(), 2);
    let before = count_key_reads(&rollcall, "due", "ok").await;
    eventually("a token of the new key is accepted", BOUND, async || {
        (put(rollcall.http, &token, &path).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(
        count_key_reads(&rollcall, "due", "ok").await,
        before,
        "the next regular read is not due yet"
    );
    assert!(count_key_reads(&rollcall, "unknown", "ok").await >= 1.0);
    assert_eq!(sample(&rollcall, "rollcall_auth_keys").await, 2.0);
    assert_eq!(put(rollcall.http, &old.pop().unwrap(), &path).await.status, 200);
    // The old key is withdrawn: tokens that it signed are no longer accepted.
    let mut program = program_of(&server);
    let at = program.args.iter().position(|flag| flag == "--service-account-key-file").unwrap();
    program.args.drain(at..at + 2);
    server.kill();
    server.ended().await;
    let _server = launcher().start(&program).await.unwrap();
    let unknown =
        TokenForge::from_valid_token(&shared, &token).token_as(&json!({"kid": "made-up"}), true);
    eventually("only the new key is published", BOUND, async || {
        let is_back = ns.client.apiserver_version().await.is_ok();
        (is_back && published_key_ids(&ns).await == [key_id(&token)]).then_some(())
    })
    .await;
    eventually("only the new key is known", BOUND, async || {
        // This token causes a read of the keys as soon as another read is allowed.
        put(rollcall.http, &unknown, &path).await;
        (sample(&rollcall, "rollcall_auth_keys").await == 1.0).then_some(())
    })
    .await;
    let refused = put(rollcall.http, &old.pop().unwrap(), &path).await;
    assert_problem(&refused, 401, "which this cluster does not publish");
    assert_eq!(put(rollcall.http, &pod_token(&ns, &pod).await, &path).await.status, 200);
}
