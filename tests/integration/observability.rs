//! What operators see of a replica: metrics in both formats, the table of metrics, the alerts that use them, the logs,
//! and the log filter.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::https;
use crate::lease_lifecycle::{annotate, create, manifest, until_discoverable};
use crate::support::http::{Answer, call, call_with, exchange};
use crate::support::{Namespace, Rollcall, dns, eventually, namespace};

const BOUND: Duration = Duration::from_secs(60);

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/monitoring");

/// Everything after this line of the document is generated.
const MARK: &str = "<!-- generated: UPDATE_DOCS=1 cargo test --test integration the_table -->\n";

const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The Accept header of Prometheus 2.42.
const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0,\
     application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

async fn scrape(replica: &Rollcall, accept: &str) -> (String, String) {
    let answer = call_with(replica.admin, "GET /metrics", ("accept", accept), "").await;
    assert_eq!(answer.status, 200);
    (answer.header("content-type").to_owned(), String::from_utf8(answer.body).unwrap())
}

/// Exercises the lifecycle of instances by HTTP and by annotation, queries over UDP and TCP, and calls that fail.
async fn exercise(ns: &Namespace, replica: &Rollcall) {
    let path = format!("/v1/namespaces/{}/instances", ns.name);
    let lease = json!({"durationSeconds": 2, "evictAfterSeconds": 1});
    let body = json!({"service": "gone", "addresses": ["10.0.0.8"], "lease": lease});
    assert_eq!(call(replica.http, "PUT", &format!("{path}/gone"), Some(body)).await.status, 201);
    let lease = json!({"mode": "Heartbeat", "durationSeconds": 2});
    let api = create(ns, &manifest("kept", "kept", lease)).await;
    until_discoverable(replica, ns, "kept", true).await;
    annotate(&api, "kept").await.unwrap();
    until_discoverable(replica, ns, "kept", false).await;
    for (method, path, status) in [
        ("PUT", format!("{path}/kept/heartbeat"), 200),
        ("PUT", format!("{path}/missing/heartbeat"), 404),
        ("GET", "/nowhere".to_owned(), 404),
    ] {
        assert_eq!(call(replica.http, method, &path, None).await.status, status, "{path}");
    }
    let name = format!("kept.{}.svc.rollcall.internal", ns.name);
    assert_eq!(dns::addresses(replica.dns, &name).await.map(|found| found.len()), Some(1));
    ask_over_tcp(replica, &name).await;
}

async fn ask_over_tcp(replica: &Rollcall, name: &str) {
    let mut query = Message::new(7, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), RecordType::A));
    let query = query.to_vec().unwrap();
    let mut stream = TcpStream::connect(replica.dns).await.unwrap();
    stream.write_u16(query.len().try_into().unwrap()).await.unwrap();
    stream.write_all(&query).await.unwrap();
    assert!(stream.read_u16().await.unwrap() > 12);
}

/// Every series with its value.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap()).map(|(k, v)| (k, v.parse().unwrap())).collect()
}

fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    let mut promtool = Command::new("promtool")
        .args(arguments)
        .current_dir(RULES)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("these tests need `promtool` (Debian: apt-get install prometheus)");
    promtool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let output_text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(output_text).unwrap())
}

#[tokio::test]
async fn both_metrics_formats_carry_the_same_series_and_promtool_accepts_them() {
    let ns = namespace("metrics-formats").await;
    let replica = Rollcall::start(&ns).await;
    exercise(&ns, &replica).await;
    let beat = |source: &str, result: &str| {
        format!("rollcall_heartbeats_total{{source=\"{source}\",result=\"{result}\"}}")
    };
    let route = "/v1/namespaces/{namespace}/instances/{name}/heartbeat";
    let api = |verb: &str, resource: &str| {
        format!("rollcall_api_calls_total{{verb=\"{verb}\",resource=\"{resource}\",code=\"200\"}}")
    };
    let expected = [
        beat("http", "renewed"),
        beat("http", "unknown"),
        beat("annotation", "renewed"),
        api("apply", "serviceinstances"),
        api("delete", "serviceinstances"),
        api("list", "serviceinstances"),
        api("watch", "serviceinstances"),
        api("patch", "serviceinstances/status"),
        api("update", "leases"),
        api("create", "events"),
        format!("rollcall_http_requests_total{{route=\"{route}\",code=\"200\"}}"),
        "rollcall_change_visible_seconds_count".to_owned(),
        "rollcall_http_requests_total{route=\"unknown\",code=\"404\"}".to_owned(),
        "rollcall_dns_query_duration_seconds_count{transport=\"udp\"}".to_owned(),
        "rollcall_dns_query_duration_seconds_count{transport=\"tcp\"}".to_owned(),
        "rollcall_instances{phase=\"Ready\"}".to_owned(),
        "rollcall_expiries_total".to_owned(),
        "rollcall_revivals_total".to_owned(),
        "rollcall_evictions_total".to_owned(),
        "rollcall_leader".to_owned(),
        "rollcall_ready".to_owned(),
        "process_cpu_seconds_total".to_owned(),
        "process_resident_memory_bytes".to_owned(),
        "process_open_fds".to_owned(),
        "process_start_time_seconds".to_owned(),
    ];
    let classic = eventually("every event is counted", BOUND, async || {
        let (kind, text) = scrape(&replica, "*/*").await;
        assert_eq!(kind, CLASSIC);
        let samples = samples(&text);
        let missing =
            expected.iter().find(|name| !samples.get(name.as_str()).is_some_and(|v| *v > 0.0));
        if let Some(missing) = missing {
            eprintln!("not counted yet: {missing}");
        }
        missing.is_none().then_some(text)
    })
    .await;
    let result = promtool(&["check", "metrics"], &classic);
    assert_eq!(result, (true, String::new()), "promtool on\n{classic}");
    let (kind, open) = scrape(&replica, PROMETHEUS).await;
    assert_eq!(kind, OPEN_METRICS);
    assert!(open.ends_with("\n# EOF\n"));
    assert_eq!(
        samples(&classic).into_keys().collect::<Vec<_>>(),
        samples(&open).into_keys().collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn series_with_known_labels_exist_from_the_first_scrape() {
    let ns = namespace("first-scrape").await;
    let replica = Rollcall::start(&ns).await;
    let (_, text) = scrape(&replica, "*/*").await;
    let samples = samples(&text);
    for name in [
        "rollcall_expiries_total",
        "rollcall_heartbeats_total{source=\"http\",result=\"refused\"}",
        "rollcall_api_calls_total{verb=\"create\",resource=\"events\",code=\"none\"}",
        "rollcall_watch_interruptions_total{reason=\"lost\"}",
        "rollcall_dns_queries_total{type=\"A\",rcode=\"SERVFAIL\",transport=\"udp\"}",
    ] {
        assert_eq!(samples.get(name), Some(&0.0), "{name}");
    }
}

/// A row of the table of metrics.
#[derive(Default)]
struct Row<'a> {
    help: &'a str,
    kind: &'a str,
    labels: BTreeSet<&'a str>,
}

/// The rows of the table by name, from a scrape in the classic format.
fn rows(text: &str) -> BTreeMap<&str, Row<'_>> {
    let mut rows = BTreeMap::<&str, Row<'_>>::new();
    let mut name = "";
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", family, help] => {
                name = family;
                rows.entry(name).or_default().help = help;
            }
            ["#", "TYPE", family, kind] => rows.entry(family).or_default().kind = kind,
            _ => {
                assert!(line.starts_with(name), "{line} follows {name}");
                let labels = line.split_once('{').map_or("", |(_, rest)| rest);
                // No label value contains a quote.
                let names = labels.split('"').step_by(2).filter_map(|it| it.strip_suffix('='));
                let names = names.map(|it| it.trim_start_matches(','));
                rows.get_mut(name).unwrap().labels.extend(names.filter(|it| *it != "le"));
            }
        }
    }
    rows
}

fn table(text: &str) -> String {
    let mut table = "| name | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for (name, Row { help, kind, labels }) in rows(text) {
        let labels: Vec<_> = labels.into_iter().map(|label| format!("`{label}`")).collect();
        let labels = labels.join(", ");
        table.push_str(&format!("| `{name}` | {kind} | {labels} | {help} |\n"));
    }
    table
}

#[tokio::test]
async fn metrics_of_the_table_are_the_metrics_that_a_replica_serves() {
    let ns = namespace("table").await;
    let (secure, client) = https::flags_and_client("table");
    let keys = ["--auth", "token", "--auth-tokens", "jwks"];
    let flags: Vec<_> = keys.into_iter().chain(secure.iter().map(String::as_str)).collect();
    let replica = Rollcall::start_with(&ns, "rollcall-0", &flags).await;
    // Routes and status codes appear only after a request.
    https::ask(replica.http, client).await;
    // Metrics about other replicas appear only when there is one.
    let _other = Rollcall::start_with(&ns, "rollcall-1", &flags).await;
    let text = eventually("the other replica's ledger is observed", BOUND, async || {
        let (_, text) = scrape(&replica, "*/*").await;
        text.contains("rollcall_ledger_age_seconds{").then_some(text)
    })
    .await;
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let (by_hand, _) = document.split_once(MARK).expect("docs/metrics.md lacks its mark");
    let fresh = format!("{by_hand}{MARK}\n{}", table(&text));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(DOCUMENT, &fresh).unwrap();
    } else {
        assert!(
            document == fresh,
            "docs/metrics.md differs from the served metrics: UPDATE_DOCS=1 cargo test --test integration the_table\n{fresh}"
        );
    }
}

#[test]
fn alerts_pass_their_tests_and_use_only_existing_metrics() {
    for arguments in
        [["check", "rules", "rollcall.rules.yaml"], ["test", "rules", "rollcall.rules.test.yaml"]]
    {
        let (passed, output) = promtool(&arguments, "");
        assert!(passed, "promtool {arguments:?}:\n{output}");
    }
    let rules = std::fs::read_to_string(Path::new(RULES).join("rollcall.rules.yaml")).unwrap();
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let is_separator = |c: char| !c.is_ascii_lowercase() && c != '_';
    let used: BTreeSet<&str> =
        rules.split(is_separator).filter(|word| word.starts_with("rollcall_")).collect();
    assert!(used.len() >= 5, "{used:?}");
    for name in used {
        assert!(document.contains(&format!("| `{name}` |")), "{name} is not in the table");
    }
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    for alert in alerts {
        assert!(document.contains(&format!("`{alert}`")), "docs/metrics.md does not name {alert}");
    }
}

fn parse_json_line(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The log so far; checks that each line has the required members.
fn parse_log(replica: &Rollcall) -> Vec<Value> {
    let lines: Vec<_> = replica.whole_log().lines().map(parse_json_line).collect();
    for line in &lines {
        for key in ["timestamp", "level", "target", "message"] {
            assert!(line[key].is_string(), "no {key}: {line}");
        }
    }
    lines
}

async fn set_log_filter(replica: &Rollcall, query: &str, filter: &str) -> Answer {
    let request = format!("PUT /loglevel{query}");
    call_with(replica.admin, &request, ("content-type", "text/plain"), filter).await
}

/// A field of a span of a log line.
fn span_field(line: &Value, span: &str, field: &str) -> Option<String> {
    let spans = line["spans"].as_array()?;
    let span = spans.iter().find(|it| it["name"] == span)?;
    span[field].as_str().map(str::to_owned)
}

async fn register(ns: &Namespace, replica: &Rollcall, name: &str) {
    let path = format!("/v1/namespaces/{}/instances/{name}", ns.name);
    let body = json!({"service": name, "addresses": ["10.0.0.8"]});
    assert_eq!(call(replica.http, "PUT", &path, Some(body)).await.status, 201);
}

/// Waits for the log line of a registration, and returns the lines up to it.
async fn until_registration_is_logged(replica: &Rollcall, name: &str) -> Vec<Value> {
    eventually("the registration is logged", BOUND, async || {
        let mut lines = parse_log(replica);
        let at = lines.iter().position(|line| {
            line["message"] == "HTTP write" && line["name"].as_str() == Some(name)
        })?;
        lines.truncate(at + 1);
        Some(lines)
    })
    .await
}

#[tokio::test]
async fn every_log_line_is_json_and_the_filter_changes_at_run_time() {
    let ns = namespace("log-filter").await;
    let replica = Rollcall::start_with(&ns, "rollcall-0", &["--log-format", "json"]).await;
    let now = call(replica.admin, "GET", "/loglevel", None).await;
    assert_eq!((now.status, now.body.as_slice()), (200, b"info\n".as_slice()));

    register(&ns, &replica, "before").await;
    let before = until_registration_is_logged(&replica, "before").await;
    assert!(before.iter().all(|line| line["level"] != "DEBUG"), "{before:?}");
    let listed = before.iter().find(|line| line["message"] == "listed all instances").unwrap();
    assert_eq!(span_field(listed, "task", "task").as_deref(), Some("watch"));

    let verbose = "info,rollcall=debug,kube_client=debug";
    let answer = set_log_filter(&replica, "", &format!("{verbose}\n")).await;
    assert_eq!((answer.status, answer.body), (200, format!("{verbose}\n").into_bytes()));
    register(&ns, &replica, "during").await;
    let during = until_registration_is_logged(&replica, "during").await;
    let path = "/v1/namespaces/{namespace}/instances/{name}";
    let is_of_request = |line: &&Value| {
        line["level"] == "DEBUG" && span_field(line, "request", "route").as_deref() == Some(path)
    };
    assert!(during.iter().any(|line| is_of_request(&line)), "{during:?}");

    assert_eq!(set_log_filter(&replica, "?for=10m", "info").await.status, 200);
    register(&ns, &replica, "after").await;
    let after = until_registration_is_logged(&replica, "after").await;
    let changes = after.iter().enumerate().filter(|(_, line)| line["filter"].is_string());
    let changes: Vec<_> = changes.map(|(at, line)| (at, line["filter"].clone())).collect();
    assert_eq!(changes.len(), 2, "each change is logged: {changes:?}");
    assert_eq!((&changes[0].1, &changes[1].1), (&json!(verbose), &json!("info")));
    let quiet = &after[changes[1].0 + 1..];
    assert!(quiet.iter().all(|line| line["level"] != "DEBUG"), "{quiet:?}");

    assert_eq!(replica.terminate().await, "exit status: 0");
    parse_log(&replica);
}

#[tokio::test]
async fn every_http_write_is_logged_and_heartbeats_and_unchanged_registrations_are_not() {
    let ns = namespace("write-log").await;
    let replica = Rollcall::start_with(&ns, "rollcall-0", &["--log-format", "json"]).await;
    register(&ns, &replica, "orders-1").await;
    let path = format!("/v1/namespaces/{}/instances/orders-1", ns.name);
    let body = json!({"service": "orders-1", "addresses": ["10.0.0.8"]});
    let again = call(replica.http, "PUT", &path, Some(body)).await;
    assert_eq!(again.status, 200);
    let uid = again.json()["uid"].clone();
    let heartbeat = call(replica.http, "PUT", &format!("{path}/heartbeat"), None).await;
    assert_eq!(heartbeat.status, 200);
    let request = format!("DELETE {path}");
    let refused = call_with(replica.http, &request, ("if-match", "\"1\""), "").await;
    assert_eq!(refused.status, 412);
    assert_eq!(call(replica.http, "DELETE", &path, None).await.status, 204);
    let expected = [
        json!(["register", "done", 201, uid]),
        json!(["deregister", "refused", 412, null]),
        json!(["deregister", "done", 204, uid]),
    ];
    eventually("the writes are logged", BOUND, async || {
        let lines = parse_log(&replica);
        let writes = lines.iter().filter(|line| line["message"] == "HTTP write");
        let writes: Vec<_> = writes
            .map(|line| {
                assert!(line["namespace"] == ns.name && line["name"] == "orders-1", "{line}");
                assert_eq!(line["peer"], "127.0.0.1");
                json!([line["verb"], line["result"], line["status"], line["uid"]])
            })
            .collect();
        (writes == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn invalid_log_filter_changes_nothing_and_the_answer_names_the_mistake() {
    let ns = namespace("loglevel").await;
    let replica = Rollcall::start(&ns).await;
    for (query, filter, wrong) in [
        ("", "info,rollcall::kubernetes=lots", "\"rollcall::kubernetes=lots\""),
        ("", "inof", "\"inof\""),
        ("", "", "\"\""),
        ("?for=tomorrow", "debug", "for=10m"),
    ] {
        let answer = set_log_filter(&replica, query, filter).await;
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let problem = answer.json();
        let detail = problem["detail"].as_str().unwrap();
        assert!(answer.status == 400 && detail.contains(wrong), "{query} {filter}: {problem}");
    }
    let long = "x".repeat(5_000);
    for (request, body, status) in [
        ("DELETE /loglevel", "", 405),
        ("POST /metrics", "", 405),
        ("GET /nothing", "", 404),
        ("PUT /loglevel", &*long, 400),
    ] {
        let header = ("content-type", "text/plain");
        let answer = call_with(replica.admin, request, header, body).await;
        let problem = answer.json();
        assert_eq!((answer.status, &problem["status"]), (status, &json!(status)), "{request}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{request}");
    }
    let head = call(replica.admin, "HEAD", "/metrics", None).await;
    assert_eq!((head.status, head.header("content-type")), (200, CLASSIC));
    assert_eq!(call(replica.admin, "GET", "/loglevel", None).await.body, b"info\n");
}

#[tokio::test]
async fn idle_connections_do_not_block_the_admin_port() {
    let ns = namespace("idle-admin").await;
    let replica = Rollcall::start(&ns).await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect(replica.admin).await.unwrap());
    }
    // The kubelet repeats a probe after a failure; this probe is only late, not refused.
    let answer = call(replica.admin, "GET", "/livez", None).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("connection"), "close");
    let mut byte = [0; 1];
    for stream in &mut idle {
        let ended = timeout(BOUND, stream.read(&mut byte)).await.expect("the connection is closed");
        assert!(matches!(ended, Ok(0) | Err(_)), "a response without a request");
    }
}

#[test]
fn the_final_error_is_in_the_format_of_the_log() {
    let run = |format: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_rollcall"))
            .args(["serve", "--identity", "r-0", "--auth", "none", "--zone", "no_zone"])
            .args(["--log-format", format])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let json = run("json");
    let last = parse_json_line(json.lines().last().unwrap());
    assert!(json.lines().all(|line| parse_json_line(line).is_object()));
    let (level, message) = (&last["level"], last["message"].as_str().unwrap());
    assert!(level == "ERROR" && message.contains("--zone \"no_zone\""), "{json}");
    let text = run("text");
    assert!(text.lines().last().unwrap().starts_with("rollcall: --zone"), "{text}");
}

#[tokio::test]
async fn requests_and_queries_are_logged_when_a_filter_names_them() {
    let ns = namespace("access-log").await;
    let replica = Rollcall::start_with(&ns, "rollcall-0", &["--log-format", "json"]).await;
    let get =
        "GET /v1/services HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: first\r\n\r\n";
    let answer = exchange(replica.http, get.as_bytes()).await.unwrap();
    assert_eq!(answer.header("x-request-id"), "first", "returned even when it is not logged");
    set_log_filter(&replica, "", "info,rollcall::http::access=debug,rollcall::dns::query=trace")
        .await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let get = format!(
        "GET /v1/services HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: second\r\ntraceparent: \
         00-{trace}-00f067aa0ba902b7-01\r\n\r\n"
    );
    exchange(replica.http, get.as_bytes()).await.unwrap();
    let name = "missing.shop.svc.rollcall.internal.";
    let _ = dns::ask(replica.dns, name, RecordType::AAAA).await;
    let (access, query) = eventually("both are logged", BOUND, async || {
        let lines = parse_log(&replica);
        let find = |target: &str| lines.iter().find(|line| line["target"] == target).cloned();
        Some((find("rollcall::http::access")?, find("rollcall::dns::query")?))
    })
    .await;
    assert_eq!(access["request"], "second", "{access}");
    assert_eq!((&access["route"], &access["status"]), (&json!("/v1/services"), &json!(200)));
    assert_eq!((&access["trace"], &access["peer"]), (&json!(trace), &json!("127.0.0.1")));
    assert_eq!((&query["name"], &query["kind"]), (&json!(name), &json!("AAAA")), "{query}");
    assert!(parse_log(&replica).iter().all(|line| line["request"] != "first"));
}
