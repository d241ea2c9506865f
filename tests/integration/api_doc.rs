//! Executes docs/api.md: every example is sent, in order, and its answer must match the example and the served contract.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use serde_json::Value;

use crate::support::contract::{self, Contract, Request};
use crate::support::events::EventStream;
use crate::support::{Rollcall, eventually, http, namespace};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/api.md");

/// The character of a wildcard. A wildcard followed by a word is named, and all wildcards with one name must match the
/// same text.
const ANY: char = '…';

/// One fenced block of the document.
struct Example {
    /// The line of its fence, for error messages.
    line: usize,
    kind: ExampleKind,
    /// Empty in a block that continues a stream.
    request: String,
    answer: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ExampleKind {
    /// A request and its answer.
    Call,
    /// A request that is repeated until the answer matches.
    Eventually,
    /// A request that opens a stream.
    Stream,
    /// The next events of the last stream.
    Events,
}

/// The texts that named wildcards have matched.
type NamedTexts = HashMap<String, String>;

#[tokio::test]
async fn every_example_of_the_document_is_answered_as_written() {
    let home = namespace("api-doc").await;
    let rollcall = Rollcall::start(&home).await;
    run(rollcall.http, &home.name).await;
}

/// Executes the document against `base`, with `namespace` in place of `shop`.
pub(crate) async fn run(base: SocketAddr, namespace: &str) {
    // A replica can be ready before its first self-beat comes back.
    eventually("the horizon is known", Duration::from_secs(60), async || {
        let answer = http::call(base, "GET", "/v1/cluster", None).await;
        (answer.header("rollcall-stale") == "false").then_some(())
    })
    .await;
    let text = std::fs::read_to_string(DOCUMENT).unwrap().replace("shop", namespace);
    let contract = Contract::fetch(base).await;
    let examples = examples(&text);
    assert!(examples.len() > 20, "only {} examples found", examples.len());
    let mut words = NamedTexts::new();
    let mut stream = None;
    for example in examples {
        let tried = match example.kind {
            ExampleKind::Call => check_example((base, &contract), &example, &words).await,
            ExampleKind::Eventually => {
                let what = format!("the example at line {}", example.line);
                let known = words.clone();
                let outcome = eventually(&what, Duration::from_secs(60), async || {
                    check_example((base, &contract), &example, &known).await.ok()
                });
                Ok(outcome.await)
            }
            ExampleKind::Stream => {
                let (opened, body) = open_stream(base, &example, &words).await;
                check_events((stream.insert(opened), &contract), &body, &words).await
            }
            ExampleKind::Events => {
                let stream = stream.as_mut().expect("no stream is open");
                check_events((stream, &contract), &example.answer, &words).await
            }
        };
        words.extend(tried.unwrap_or_else(|wrong| panic!("docs/api.md:{}: {wrong}", example.line)));
    }
}

/// Opens a stream and checks its head. Returns the expected events.
async fn open_stream(
    base: SocketAddr,
    example: &Example,
    known: &NamedTexts,
) -> (EventStream, String) {
    let request = fill_in(&example.request, known);
    let (line, headers) = request.split_once('\n').unwrap_or((&request, ""));
    let headers: String = headers.lines().map(|header| format!("{header}\r\n")).collect();
    let stream = EventStream::open(base, line.strip_prefix("GET ").unwrap(), &headers).await;
    let (head, body) = example.answer.split_once("\n\n").unwrap();
    for line in head.lines().map(str::to_ascii_lowercase) {
        assert!(stream.head.contains(&line), "docs/api.md:{}: {}", example.line, stream.head);
    }
    (stream, body.to_owned())
}

/// Checks that the next events are those of the text.
async fn check_events(
    (stream, contract): (&mut EventStream, &Contract),
    text: &str,
    known: &NamedTexts,
) -> Result<NamedTexts, String> {
    let mut words = known.clone();
    for expected in text.trim().split("\n\n") {
        let field = |name: &str| {
            let found = expected.lines().find_map(|line| line.strip_prefix(name));
            found.unwrap_or_default().to_owned()
        };
        let got = stream.next().await.ok_or("the stream has ended")?;
        contract.check_event(&got.kind, &got.data).map_err(|wrong| format!("{wrong}: {got:?}"))?;
        let data = serde_json::from_str(&to_json(&field("data: ")));
        let data: Value = data.map_err(|error| format!("the example is not JSON: {error}"))?;
        matches(&data, &got.data, "$", &mut words)
            .map_err(|path| format!("differs at {path}: {got:?}"))?;
        let fits =
            got.kind == field("event: ") && text_matches(&field("id: "), &got.id, &mut words);
        if !fits {
            return Err(format!("expected {expected}\n  got {got:?}"));
        }
    }
    Ok(words)
}

fn examples(text: &str) -> Vec<Example> {
    let mut examples = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```http") else { continue };
        let block: Vec<_> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        let kind = match info.trim() {
            "eventually" => ExampleKind::Eventually,
            "stream" => ExampleKind::Stream,
            "events" => ExampleKind::Events,
            _ => ExampleKind::Call,
        };
        let answer = block.iter().position(|line| line.starts_with("HTTP/1.1 "));
        let answer = answer.or_else(|| (kind == ExampleKind::Events).then_some(0));
        let answer = answer.unwrap_or_else(|| panic!("docs/api.md:{}: no answer", at + 1));
        let (request, answer) = block.split_at(answer);
        examples.push(Example {
            line: at + 1,
            kind,
            request: request.join("\n").trim_end().to_owned(),
            answer: answer.join("\n"),
        });
    }
    examples
}

async fn check_example(
    (base, contract): (SocketAddr, &Contract),
    example: &Example,
    known: &NamedTexts,
) -> Result<NamedTexts, String> {
    let request = fill_in(&example.request, known);
    let (head, body) = request.split_once("\n\n").unwrap_or((&request, ""));
    let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
    let mut bytes = format!("{line} HTTP/1.1\r\nhost: {base}\r\nconnection: close\r\n");
    for header in headers.lines() {
        bytes.push_str(&format!("{header}\r\n"));
    }
    bytes.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    let got = http::exchange(base, bytes.as_bytes()).await.map_err(|error| error.to_string())?;
    let (method, path) =
        line.split_once(' ').ok_or_else(|| format!("not a request line: {line}"))?;
    let headers = contract::headers(headers);
    let request = Request { method, path, headers, body: body.as_bytes() };
    contract.check(&request, &got).map_err(|wrong| {
        format!("{line}\n  violates openapi.json: {wrong}: {}", String::from_utf8_lossy(&got.body))
    })?;

    let (head, body) = example.answer.split_once("\n\n").unwrap_or((&example.answer, ""));
    let mut lines = head.lines();
    let shown = String::from_utf8_lossy(&got.body);
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or("");
    if status != got.status.to_string() {
        return Err(format!("{line}\n  expected status {status}, got {}: {shown}", got.status));
    }
    let mut words = NamedTexts::new();
    for header in lines {
        let (name, value) =
            header.split_once(": ").ok_or_else(|| format!("not a header: {header}"))?;
        let has = got.header(&name.to_ascii_lowercase());
        if !text_matches(value, has, &mut words) {
            return Err(format!("{line}\n  {name}: expected {value}, got {has:?}"));
        }
    }
    if body.trim().is_empty() {
        return if got.body.is_empty() {
            Ok(words)
        } else {
            Err(format!("{line}: unexpected body {shown}"))
        };
    }
    let expected: Value = serde_json::from_str(&to_json(body))
        .map_err(|error| format!("the example is not JSON: {error}"))?;
    let mismatch = |path| format!("{line}\n  differs at {path}: {shown}");
    matches(&expected, &got.json(), "$", &mut words).map_err(mismatch)?;
    Ok(words)
}

/// Replaces named wildcards by the texts that they have matched.
fn fill_in(text: &str, words: &NamedTexts) -> String {
    let mut text = text.to_owned();
    for (word, value) in words {
        text = text.replace(&format!("{ANY}{word}"), value);
    }
    assert!(!text.contains(ANY), "a request uses a wildcard that has not matched yet: {text}");
    text
}

/// Makes bare wildcards valid JSON: a value becomes a string, and a wildcard for other members becomes one member.
fn to_json(text: &str) -> String {
    let mut out = String::new();
    let mut in_string = false;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        if c == '"' && before != '\\' {
            in_string = !in_string;
        }
        if c == ANY && !in_string {
            let after = text[at + c.len_utf8()..].trim_start();
            let is_member = after.starts_with('}') && before != ':';
            out.push_str(if is_member { "\"…\": \"…\"" } else { "\"…\"" });
        } else {
            out.push(c);
        }
        if in_string || !c.is_whitespace() {
            before = c;
        }
    }
    out
}

/// Compares the values, and returns the path of the first difference.
fn matches(
    expected: &Value,
    got: &Value,
    path: &str,
    words: &mut NamedTexts,
) -> Result<(), String> {
    match (expected, got) {
        (Value::String(any), _) if any == "…" => Ok(()),
        (Value::String(expected), Value::String(got)) if text_matches(expected, got, words) => {
            Ok(())
        }
        (Value::Object(expected), Value::Object(got)) => {
            for (key, expected) in expected.iter().filter(|(key, _)| *key != "…") {
                let got = got.get(key).ok_or_else(|| format!("{path}.{key} (missing)"))?;
                matches(expected, got, &format!("{path}.{key}"), words)?;
            }
            let unexpected = got.keys().find(|key| !expected.contains_key(*key));
            match unexpected.filter(|_| !expected.contains_key("…")) {
                Some(key) => Err(format!("{path}.{key} (unexpected)")),
                None => Ok(()),
            }
        }
        (Value::Array(expected), Value::Array(got)) => {
            let more = expected.last().is_some_and(|last| last == "…");
            let named = &expected[..expected.len() - usize::from(more)];
            if got.len() < named.len() || (got.len() > named.len() && !more) {
                return Err(format!("{path} ({} items)", got.len()));
            }
            for (i, (expected, got)) in named.iter().zip(got).enumerate() {
                matches(expected, got, &format!("{path}[{i}]"), words)?;
            }
            Ok(())
        }
        (expected, got) if expected == got => Ok(()),
        (expected, _) => Err(format!("{path} (expected {expected})")),
    }
}

/// Whether a text matches a pattern. A named wildcard that occurs twice matches the same text.
fn text_matches(pattern: &str, text: &str, words: &mut NamedTexts) -> bool {
    let Some((literal, rest)) = pattern.split_once(ANY) else { return pattern == text };
    let Some(text) = text.strip_prefix(literal) else { return false };
    let end = rest.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(rest.len());
    let (word, rest) = rest.split_at(end);
    let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    for end in ends {
        let (value, text) = text.split_at(end);
        let mut tried = words.clone();
        let fits = word.is_empty()
            || tried.entry(word.to_owned()).or_insert_with(|| value.to_owned()) == value;
        if fits && text_matches(rest, text, &mut tried) {
            *words = tried;
            return true;
        }
    }
    false
}

#[test]
fn wildcards_match_exactly_what_they_should() {
    let same = |expected: &str, got: &str| {
        let expected = serde_json::from_str(&to_json(expected)).unwrap();
        matches(&expected, &serde_json::from_str(got).unwrap(), "$", &mut NamedTexts::new()).is_ok()
    };
    assert!(same(r#"{"a": …, …}"#, r#"{"a": 1, "b": 2}"#));
    assert!(!same(r#"{"a": …}"#, r#"{"a": 1, "b": 2}"#));
    assert!(!same(r#"{"a": …, …}"#, r#"{"b": 2}"#));
    assert!(same(r#"["a", …]"#, r#"["a", "b", "c"]"#));
    assert!(!same(r#"["a"]"#, r#"["a", "b"]"#));
    assert!(same(r#"{"a": "x…Y", "b": "…w", "c": "…w"}"#, r#"{"a": "x--Y", "b": "1", "c": "1"}"#));
    assert!(!same(r#"{"b": "…w", "c": "…w"}"#, r#"{"b": "1", "c": "2"}"#));
    assert!(!same(r#"{"a": "x…Y"}"#, r#"{"a": "x--Z"}"#));
}
