//! Tokens that are checked with the cluster's keys (`--auth-tokens jwks`): the same people as by review, and no question
//! a token.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, PostParams};
use prometheus_client::registry::Registry;
use rollcall::dev::Child;
use rollcall::kubernetes::breaker::Breakers;
use rollcall::kubernetes::review::{Ask, Keyring, Reviews, Whose};
use rollcall::telemetry::keys::KeyMetrics;
use rollcall::telemetry::metrics::ApiMetrics;
use rollcall::telemetry::problems::Board;
use serde_json::{Value, json};

use crate::support::control_plane::{Shared, launcher, own, program_of};
use crate::support::forge::Forge;
use crate::support::http::{Answer, call, call_as, call_with};
use crate::support::http_proxy::{Fault, HttpProxy};
use crate::support::proxy::{Mode, Proxy};
use crate::support::rbac::{API_SERVER, bound_to, grant, pod, pod_of, token, token_of};
use crate::support::{Namespace, Rollcall, eventually, namespace, namespace_in};

const BOUND: Duration = Duration::from_secs(60);

/// A pair of keys of another kind than the control plane makes.
const RSA_KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/rsa.pem");

const JWKS: [&str; 4] = ["--auth", "token", "--auth-tokens", "jwks"];

async fn start(ns: &Namespace) -> Rollcall {
    let rollcall = Rollcall::start_with(ns, "rollcall-0", &JWKS).await;
    eventually("the keys are read", BOUND, async || {
        (sample(&rollcall, "rollcall_auth_keys").await >= 1.0).then_some(())
    })
    .await;
    rollcall
}

/// The value of a series; 0 when it is not there.
async fn sample(rollcall: &Rollcall, series: &str) -> f64 {
    let answer = call_with(rollcall.admin, "GET /metrics", ("accept", "*/*"), "").await;
    let text = String::from_utf8(answer.body).unwrap();
    let of = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(of).unwrap_or(0.0)
}

async fn reads(rollcall: &Rollcall, cause: &str, result: &str) -> f64 {
    let labels = format!("{{cause=\"{cause}\",result=\"{result}\"}}");
    sample(rollcall, &format!("rollcall_auth_key_reads_total{labels}")).await
}

/// Calls of this verb and resource, whatever came of them.
async fn calls(rollcall: &Rollcall, verb: &str, resource: &str) -> f64 {
    let labels = format!("{{verb=\"{verb}\",resource=\"{resource}\"}}");
    sample(rollcall, &format!("rollcall_api_call_duration_seconds_count{labels}")).await
}

fn instance(ns: &Namespace, name: &str) -> String {
    format!("/v1/namespaces/{}/instances/{name}", ns.name)
}

async fn put(http: SocketAddr, token: &str, path: &str) -> Answer {
    let body = json!({"service": "orders", "addresses": ["10.0.0.7"]});
    call_as(token, http, ("PUT", path), Some(body)).await
}

fn is_problem(answer: &Answer, status: u16, says: &str) {
    let problem = answer.json();
    assert_eq!(answer.status, status, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains(says), "no {says:?} in {problem}");
}

/// Both ways to find out whose a token is, without a door before them.
struct Ways {
    reviews: Reviews,
    keyring: Keyring,
}

impl Ways {
    async fn of(shared: &Shared) -> Self {
        let client = shared.control_plane.rollcall().await.unwrap();
        let mut registry = Registry::default();
        let (metrics, breakers) =
            (ApiMetrics::new(&mut registry, Board::default()), Breakers::new(&mut registry));
        let reviews = Reviews::new(client.clone(), &metrics, &breakers.reviews);
        let keys = KeyMetrics::new(&mut registry);
        let (keyring, reader) = Keyring::new(client, &metrics, &breakers.reviews, keys);
        tokio::spawn(reader.run());
        Self { reviews, keyring }
    }

    /// By review, and by keys.
    async fn whose(&self, token: &str) -> [Result<Whose, String>; 2] {
        let ask = Ask { anew: false, within: BOUND };
        let reviewed = self.reviews.token(token, ask).await.unwrap();
        [reviewed, self.keyring.whose(token, BOUND).await.unwrap()]
    }
}

#[tokio::test]
async fn whoever_is_known_by_review_is_the_same_by_keys() {
    let ns = namespace("both-ways").await;
    let ways = Ways::of(&ns.shared).await;
    let node = format!("{}-node", ns.name);
    let nodes: Api<Node> = Api::all(ns.client.clone());
    let object = serde_json::from_value(json!({"metadata": {"name": node}})).unwrap();
    nodes.create(&PostParams::default(), &object).await.unwrap();
    let free = pod(&ns, "orders", "orders-1").await;
    let placed = pod_of(&ns, "orders", "orders-2", json!({"nodeName": node})).await;
    let secret = json!({"metadata": {"name": "bound"}});
    let secret = serde_json::from_value(secret).unwrap();
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = ns.api();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    for (what, token, pod) in [
        ("an account alone", token(&ns, "orders", "rollcall").await, None),
        ("a pod that is nowhere", token_of(&ns, &free).await, Some("orders-1")),
        ("a pod on a node", token_of(&ns, &placed).await, Some("orders-2")),
        ("a node", bound_to(&ns, "orders", ("Node", &node)).await, None),
        ("a secret", bound_to(&ns, "orders", ("Secret", "bound")).await, None),
    ] {
        let [reviewed, checked] = ways.whose(&token).await.map(Result::unwrap);
        assert_eq!(reviewed, checked, "{what}");
        assert_eq!(checked.pod.as_ref().map(|pod| &*pod.name), pod, "{what}");
        let user = format!("system:serviceaccount:{}:orders", ns.name);
        assert_eq!(checked.identity.user, user, "{what}");
        assert!(checked.identity.uid.is_some() && checked.identity.groups.len() == 3, "{what}");
    }
    nodes.delete(&node, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn whoever_is_refused_by_review_is_refused_by_keys_and_told_why() {
    let ns = namespace("neither-way").await;
    let ways = Ways::of(&ns.shared).await;
    let good = token(&ns, "orders", "rollcall").await;
    let forge = Forge::of(&ns.shared, &good);
    // With the cluster's own key, and what it would write: what is made here could pass.
    let [reviewed, checked] = ways.whose(&forge.token(&json!({}))).await;
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
        let [reviewed, checked] = ways.whose(&token).await;
        assert!(reviewed.is_err(), "{token}");
        let why = checked.unwrap_err();
        assert!(why.contains(says), "no {says:?} in {why:?}");
    }
}

#[tokio::test]
async fn a_pod_registers_and_beats_with_tokens_that_nobody_is_asked_about() {
    let ns = namespace("unasked").await;
    let rollcall = start(&ns).await;
    let first = pod(&ns, "orders", "orders-1").await;
    let path = instance(&ns, "orders-1");
    for status in [201, 200, 200] {
        let token = token_of(&ns, &first).await;
        let answer = put(rollcall.http, &token, &path).await;
        assert_eq!(answer.status, status, "{}", answer.json());
        let beat = format!("{path}/heartbeat");
        assert_eq!(call_as(&token, rollcall.http, ("PUT", &beat), None).await.status, 200);
    }
    // Its own instance is its own, and another's is not.
    let token_of_first = token_of(&ns, &first).await;
    let other = instance(&ns, "orders-2");
    is_problem(
        &put(rollcall.http, &token_of_first, &other).await,
        403,
        "allows access to the instance orders-1",
    );
    // Rights are asked for as ever.
    let operator = token(&ns, "operator", "rollcall").await;
    is_problem(&put(rollcall.http, &operator, &other).await, 403, "may not create");
    grant(&ns, ("ClusterRole", "rollcall-workload"), "operator", ("create", None, None)).await;
    eventually("the right counts", BOUND, async || {
        (put(rollcall.http, &operator, &other).await.status == 201).then_some(())
    })
    .await;
    assert_eq!(calls(&rollcall, "create", "tokenreviews").await, 0.0);
    assert!(calls(&rollcall, "create", "subjectaccessreviews").await >= 2.0);
    assert_eq!(calls(&rollcall, "get", "/openid/v1/jwks").await, 1.0);
    let yes = "{step=\"token\",result=\"yes\",source=\"keys\"}";
    assert_eq!(sample(&rollcall, &format!("rollcall_auth_checks_total{yes}")).await, 5.0);
    assert!(sample(&rollcall, "rollcall_auth_keys_read_timestamp_seconds").await > 1.7e9);
    let log = rollcall.whole_log();
    assert!(log.contains("tokens are now checked with these keys of the cluster"), "{log}");
}

#[tokio::test]
async fn what_is_no_token_for_us_is_refused_at_the_door_with_the_reason() {
    let ns = namespace("refused").await;
    let rollcall = start(&ns).await;
    let good = token(&ns, "orders", "rollcall").await;
    let forge = Forge::of(&ns.shared, &good);
    let path = instance(&ns, "a");
    for (bad, says) in [
        (token(&ns, "orders", API_SERVER).await, "https://kubernetes.default.svc"),
        (forge.token(&json!({"exp": forge.now() - 61})), "it expired at 2"),
        (forge.token_as(&json!({"kid": "made-up"}), true), "which this cluster does not publish"),
        (forge.token(&json!({"iss": "https://elsewhere.example"})), "not that of this cluster"),
        ("nonsense".to_owned(), "three parts"),
        ("x".repeat(10_000), "too long"),
    ] {
        let answer = put(rollcall.http, &bad, &path).await;
        is_problem(&answer, 401, says);
        is_problem(&answer, 401, "kubectl create token");
        assert!(answer.header("www-authenticate").contains("invalid_token"));
    }
    assert_eq!(call(rollcall.http, "PUT", &path, None).await.status, 401);
    assert_eq!(call(rollcall.http, "GET", &path, None).await.status, 404);
}

#[tokio::test]
async fn a_crowd_with_made_up_keys_has_the_keys_read_once_and_each_is_answered() {
    let ns = namespace("crowd").await;
    let rollcall = start(&ns).await;
    let forge = Forge::of(&ns.shared, &token(&ns, "orders", "rollcall").await);
    let path = instance(&ns, "a");
    let strangers: Vec<_> =
        (0..40).map(|at| forge.token_as(&json!({"kid": format!("k{at}")}), true)).collect();
    let asked = strangers.iter().map(|token| put(rollcall.http, token, &path));
    for answer in join_all(asked).await {
        is_problem(&answer, 401, "which this cluster does not publish");
    }
    assert_eq!(reads(&rollcall, "unknown", "ok").await, 1.0);
    // Those who come within the next ten seconds are refused by what was read then, at once.
    let answer = put(rollcall.http, &forge.token_as(&json!({"kid": "late"}), true), &path).await;
    is_problem(&answer, 401, "the key \"late\"");
    assert_eq!(reads(&rollcall, "unknown", "ok").await, 1.0);
    // A key that was published meanwhile would be known soon: one read is for all of them.
    eventually("the keys are read for who came late", BOUND, async || {
        (reads(&rollcall, "unknown", "ok").await == 2.0).then_some(())
    })
    .await;
    assert_eq!(calls(&rollcall, "get", "/openid/v1/jwks").await, 3.0);
}

#[tokio::test]
async fn while_the_api_server_is_away_tokens_that_were_never_here_are_good_by_the_keys_that_are_known()
 {
    let mut ns = namespace("keys-away").await;
    let proxy = Proxy::before(&mut ns).await;
    let rollcall = start(&ns).await;
    let pod = pod(&ns, "orders", "orders-1").await;
    let (path, now) = (instance(&ns, "orders-1"), token_of(&ns, &pod).await);
    assert_eq!(put(rollcall.http, &now, &path).await.status, 201);
    let beat = format!("{path}/heartbeat");
    let later = [token_of(&ns, &pod).await, token_of(&ns, &pod).await, token_of(&ns, &pod).await];
    let forge = Forge::of(&ns.shared, &now);
    proxy.set(Mode::Cut);
    for token in &later {
        let answer = call_as(token, rollcall.http, ("PUT", &beat), None).await;
        assert!(matches!(answer.status, 200 | 202), "{}", answer.json());
    }
    // Whether there is another key cannot be told now; that nonsense is none can.
    let strange = forge.token_as(&json!({"kid": "made-up"}), true);
    let answer = call_as(&strange, rollcall.http, ("PUT", &beat), None).await;
    is_problem(&answer, 503, "cannot review the token");
    assert_ne!(answer.header("retry-after"), "");
    let answer = call_as("nonsense", rollcall.http, ("PUT", &beat), None).await;
    is_problem(&answer, 401, "three parts");
    let forged = forge.token_as(&json!({}), false);
    let answer = call_as(&forged, rollcall.http, ("PUT", &beat), None).await;
    is_problem(&answer, 401, "its signature is not that");
}

#[tokio::test]
async fn keys_that_cannot_be_read_are_said_once_and_once_that_they_can_be_again() {
    let mut ns = namespace("unread-keys").await;
    let (proxy, path) = HttpProxy::of(&ns.rollcall_kubeconfig, &ns.name).await;
    ns.rollcall_kubeconfig = path;
    let rollcall = start(&ns).await;
    let pod = pod(&ns, "orders", "orders-1").await;
    let path = instance(&ns, "orders-1");
    let good = token_of(&ns, &pod).await;
    assert_eq!(put(rollcall.http, &good, &path).await.status, 201);
    let strange = Forge::of(&ns.shared, &good).token_as(&json!({"kid": "made-up"}), true);
    proxy.set(Fault::Keys);
    is_problem(&put(rollcall.http, &strange, &path).await, 503, "try again");
    eventually("they could not be read three times", BOUND, async || {
        let failed =
            reads(&rollcall, "due", "failed").await + reads(&rollcall, "unknown", "failed").await;
        (failed >= 3.0).then_some(())
    })
    .await;
    assert_eq!(put(rollcall.http, &token_of(&ns, &pod).await, &path).await.status, 200);
    let said = |what: &str| rollcall.whole_log().matches(what).count();
    assert_eq!(said("cannot read the keys of the cluster"), 1);
    assert_eq!(said("the keys of the cluster can be read again"), 0);
    // No log line about reviews, because none was sent.
    assert_eq!(said("cannot review callers"), 0);
    proxy.set(Fault::None);
    eventually("it is said that they can be read again", BOUND, async || {
        (said("the keys of the cluster can be read again") == 1).then_some(())
    })
    .await;
    is_problem(&put(rollcall.http, &strange, &path).await, 401, "does not publish");
}

/// Starts the API server anew with these flags; those that it has stay.
async fn restart(server: &Child, flags: &[&str], ns: &Namespace) -> Child {
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

/// The ids of the keys that the API server publishes.
async fn ids(ns: &Namespace) -> Vec<String> {
    let request = hyper::Request::get("/openid/v1/jwks").body(Vec::new()).unwrap();
    let set: Value = serde_json::from_str(&ns.client.request_text(request).await.unwrap()).unwrap();
    let keys = set["keys"].as_array().unwrap();
    keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn key_of(token: &str) -> String {
    let head = crate::support::forge::part(token, 0);
    head["kid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_new_key_is_picked_up_with_its_first_token_and_an_old_one_ends_when_it_is_withdrawn() {
    let shared: Arc<Shared> = own("keys", &[]).await;
    let ns = namespace_in(shared.clone(), "keys").await;
    let rollcall = start(&ns).await;
    let pod: Pod = pod(&ns, "orders", "orders-1").await;
    let path = instance(&ns, "orders-1");
    // Each is used once, so that none is remembered.
    let mut old = Vec::new();
    for _ in 0..3 {
        old.push(token_of(&ns, &pod).await);
    }
    assert_eq!(put(rollcall.http, &old.pop().unwrap(), &path).await.status, 201);
    // It signs with another key now, of another kind, and publishes both.
    let new =
        ["--service-account-signing-key-file", RSA_KEY, "--service-account-key-file", RSA_KEY];
    let server = restart(&shared.control_plane.apiserver, &new, &ns).await;
    let token = token_of(&ns, &pod).await;
    assert_ne!(key_of(&token), key_of(&old[0]));
    assert_eq!(ids(&ns).await.len(), 2);
    let before = reads(&rollcall, "due", "ok").await;
    eventually("a token of the new key is good", BOUND, async || {
        (put(rollcall.http, &token, &path).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(reads(&rollcall, "due", "ok").await, before, "it was not time yet");
    assert!(reads(&rollcall, "unknown", "ok").await >= 1.0);
    assert_eq!(sample(&rollcall, "rollcall_auth_keys").await, 2.0);
    assert_eq!(put(rollcall.http, &old.pop().unwrap(), &path).await.status, 200);
    // The old key is gone: what it signed opens nothing any more.
    let mut program = program_of(&server);
    let at = program.args.iter().position(|flag| flag == "--service-account-key-file").unwrap();
    program.args.drain(at..at + 2);
    server.kill();
    server.ended().await;
    let _server = launcher().start(&program).await.unwrap();
    let strange = Forge::of(&shared, &token).token_as(&json!({"kid": "made-up"}), true);
    eventually("only the new key is published", BOUND, async || {
        let request = ns.client.apiserver_version().await.is_ok();
        (request && ids(&ns).await == [key_of(&token)]).then_some(())
    })
    .await;
    eventually("only the new key is known", BOUND, async || {
        // Has the keys read, when it is time.
        put(rollcall.http, &strange, &path).await;
        (sample(&rollcall, "rollcall_auth_keys").await == 1.0).then_some(())
    })
    .await;
    let refused = put(rollcall.http, &old.pop().unwrap(), &path).await;
    is_problem(&refused, 401, "which this cluster does not publish");
    assert_eq!(put(rollcall.http, &token_of(&ns, &pod).await, &path).await.status, 200);
}
