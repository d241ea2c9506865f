//! Checks requests and responses against the served contract.
//!
//! The check is stricter than what a client can rely on: a response has no undocumented member, header or status.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::http::{Answer, call};

/// Headers that every HTTP response can have, whatever the contract says.
const GENERAL_HEADERS: [&str; 8] = [
    "date",
    "content-length",
    "content-type",
    "connection",
    "transfer-encoding",
    "vary",
    "x-accel-buffering",
    "accept-patch",
];

/// The contract that a replica serves.
pub struct Contract {
    document: Value,
}

/// A request to check.
pub struct Request<'a> {
    pub method: &'a str,
    /// With its query string.
    pub path: &'a str,
    /// With names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: &'a [u8],
}

impl Contract {
    /// Fetches the contract from a replica, and closes all its schemas to undocumented members.
    pub async fn fetch(base: SocketAddr) -> Self {
        let answer = call(base, "GET", "/openapi.json", None).await;
        assert_eq!(answer.status, 200);
        let mut document = answer.json();
        for schema in document["components"]["schemas"].as_object_mut().unwrap().values_mut() {
            let schema = schema.as_object_mut().unwrap();
            if schema.contains_key("properties") && !schema.contains_key("additionalProperties") {
                schema.insert("additionalProperties".to_owned(), false.into());
            }
        }
        Self { document }
    }

    /// Returns the first violation of the contract by a request and its response.
    pub fn check(&self, request: &Request<'_>, answer: &Answer) -> Result<(), String> {
        let path = request.path.split('?').next().unwrap();
        let method = if request.method == "HEAD" { "GET" } else { request.method };
        let Some(operations) = self.operations(path) else {
            return self
                .check_response(&self.document["components"]["responses"]["UnknownRoute"], answer);
        };
        let operation = &operations[method.to_ascii_lowercase()];
        if operation.is_null() {
            return self.check_response(
                &self.document["components"]["responses"]["MethodNotAllowed"],
                answer,
            );
        }
        let response = self.resolved(&operation["responses"][answer.status.to_string()]);
        if response.is_null() {
            return Err(format!("status {} is not in the contract", answer.status));
        }
        self.check_response(response, answer)?;
        let valid = self.check_request(operation, request);
        // Each item of a batch is refused separately.
        let outcome = answer.json();
        let some_refused = outcome["failed"].as_u64().is_some_and(|failed| failed > 0)
            || outcome["refused"].as_array().is_some_and(|refused| !refused.is_empty());
        let problem = outcome["type"].as_str().unwrap_or_default().to_owned();
        match (answer.status, valid) {
            (200, Err(_)) if some_refused => Ok(()),
            (200..400, Err(wrong)) => Err(format!("an invalid request was accepted: {wrong}")),
            (400 | 422, Ok(()))
                if [":bad-fields", ":bad-query", ":bad-header"]
                    .iter()
                    .any(|kind| problem.ends_with(kind)) =>
            {
                Err("a request that the contract allows was refused".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Checks an event of a stream by its kind and data.
    pub fn check_event(&self, kind: &str, data: &Value) -> Result<(), String> {
        let events =
            self.document["components"]["schemas"]["WatchEvent"]["oneOf"].as_array().unwrap();
        let kinds = json!([kind]);
        let mut events = events.iter().map(|event| self.resolved(event));
        let of_kind = events.find(|event| event["properties"]["event"]["enum"] == kinds);
        let event = of_kind.ok_or_else(|| format!("no event {kind} is in the contract"))?;
        self.check_schema(&event["properties"]["data"]["contentSchema"], data)
    }

    /// Checks a line of a snapshot.
    pub fn check_line(&self, line: &Value) -> Result<(), String> {
        let lines = &self.document["paths"]["/v1/snapshot"]["get"]["responses"]["200"]["content"];
        self.check_schema(&lines["application/x-ndjson"]["x-itemSchema"], line)
    }

    fn operations(&self, path: &str) -> Option<&Value> {
        let paths = self.document["paths"].as_object().unwrap();
        let check_schema = |template: &str| {
            let (asked, known) = (path.split('/'), template.split('/'));
            path.matches('/').count() == template.matches('/').count()
                && asked.zip(known).all(|(asked, known)| asked == known || known.starts_with('{'))
        };
        paths.iter().find(|(template, _)| check_schema(template)).map(|(_, operations)| operations)
    }

    fn check_response(&self, response: &Value, answer: &Answer) -> Result<(), String> {
        let documented = response["headers"].as_object().cloned().unwrap_or_default();
        for (name, header) in &documented {
            let header = self.resolved(header);
            let got = answer.headers.iter().find(|(got, _)| got.eq_ignore_ascii_case(name));
            match got {
                None if header["required"] == true => return Err(format!("{name} is missing")),
                None => {}
                Some((_, text)) => self
                    .check_schema(&header["schema"], &typed(&header["schema"], text))
                    .map_err(|wrong| format!("{name}: {wrong}"))?,
            }
        }
        let is_known = |name: &str| {
            GENERAL_HEADERS.contains(&name)
                || documented.keys().any(|known| known.eq_ignore_ascii_case(name))
        };
        if let Some((name, _)) = answer.headers.iter().find(|(name, _)| !is_known(name)) {
            return Err(format!("the header {name} is not in the contract"));
        }
        let kind = answer.header("content-type").split(';').next().unwrap_or_default();
        if kind == "application/problem+json" && !answer.body.is_empty() {
            check_problem(response, answer)?;
        }
        match response["content"].as_object() {
            None if answer.body.is_empty() => Ok(()),
            None => Err("the contract has no body for this response".to_owned()),
            Some(content) => {
                let content =
                    content.get(kind).ok_or_else(|| format!("{kind} is not in the contract"))?;
                if kind.ends_with("json") && !kind.ends_with("x-ndjson") && !answer.body.is_empty()
                {
                    return self.check_schema(&content["schema"], &answer.json());
                }
                Ok(())
            }
        }
    }

    fn check_request(&self, operation: &Value, request: &Request<'_>) -> Result<(), String> {
        let parameters: Vec<&Value> = operation["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| self.resolved(it))
            .collect();
        let mut query: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let pairs = request.path.split_once('?').map_or("", |(_, query)| query);
        for pair in pairs.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            query.entry(name.to_owned()).or_default().push(value.to_owned());
        }
        for (name, values) in &query {
            let known =
                parameters.iter().find(|it| it["name"] == name.as_str() && it["in"] == "query");
            let known =
                known.ok_or_else(|| format!("the parameter {name} is not in the contract"))?;
            let value = match known["schema"]["type"].as_str() {
                Some("array") => json!(values),
                _ => typed(&known["schema"], &values[0]),
            };
            self.check_schema(&known["schema"], &value)
                .map_err(|wrong| format!("{name}: {wrong}"))?;
        }
        for (name, value) in &request.headers {
            let matches = |it: &&&Value| {
                it["in"] == "header" && it["name"].as_str().unwrap().eq_ignore_ascii_case(name)
            };
            if let Some(header) = parameters.iter().find(matches) {
                self.check_schema(&header["schema"], &typed(&header["schema"], value))
                    .map_err(|wrong| format!("{name}: {wrong}"))?;
            } else if !["content-type", "accept"].contains(&name.as_str()) {
                return Err(format!("the header {name} is not in the contract"));
            }
        }
        self.check_body(&operation["requestBody"], request)
    }

    fn check_body(&self, body: &Value, request: &Request<'_>) -> Result<(), String> {
        if request.body.is_empty() {
            return if body["required"] == true {
                Err("a body is needed".to_owned())
            } else {
                Ok(())
            };
        }
        let kind = request.headers.iter().find(|(name, _)| name == "content-type");
        let kind = kind.map_or("", |(_, kind)| kind.as_str());
        let content = &body["content"][kind];
        if content.is_null() {
            return Err(format!("a body of {kind} is not in the contract"));
        }
        let body = serde_json::from_slice(request.body).map_err(|error| error.to_string())?;
        self.check_schema(&content["schema"], &body)
    }

    fn check_schema(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let root = json!({
            "components": self.document["components"], "schema": schema, "$ref": "#/schema",
        });
        let validator = jsonschema::options().should_validate_formats(true).build(&root).unwrap();
        let wrong: Vec<_> = validator
            .iter_errors(value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        let reference = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        reference.map_or(value, |pointer| self.document.pointer(pointer).unwrap())
    }
}

/// Checks that a problem has the status of its response and a type that the contract lists for it. All problems share one
/// schema, so that generated clients have one type for them, and that schema does not say this.
fn check_problem(response: &Value, answer: &Answer) -> Result<(), String> {
    let problem = answer.json();
    if problem["status"] != answer.status {
        return Err(format!("the problem has the status {}", problem["status"]));
    }
    let types = response["x-problem-types"].as_array().ok_or("the response lists no problems")?;
    if types.contains(&problem["type"]) {
        Ok(())
    } else {
        Err(format!("the problem has the type {}, which is not among {types:?}", problem["type"]))
    }
}

/// Converts the text of a header or query parameter to the type in its schema.
fn typed(schema: &Value, text: &str) -> Value {
    match schema["type"].as_str() {
        Some("integer") => text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number)),
        _ => json!(text),
    }
}

/// Parses the header lines of a request.
pub fn headers(lines: &str) -> Vec<(String, String)> {
    let pair = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    };
    lines.lines().map(pair).collect()
}

#[test]
fn undocumented_parts_are_violations() {
    let document = json!({
        "paths": {"/a": {"get": {"parameters": [], "responses": {"200": {
            "description": "it", "content": {"application/json": {"schema": {"type": "integer"}}},
        }}}}},
        "components": {"schemas": Map::new(), "responses": {}},
    });
    let contract = Contract { document };
    let request = |path| Request { method: "GET", path, headers: Vec::new(), body: b"" };
    let answer = |status, kind: &str, body: &str| {
        let headers = vec![("content-type".to_owned(), kind.to_owned())];
        Answer { status, headers, body: body.as_bytes().to_vec() }
    };
    assert_eq!(contract.check(&request("/a"), &answer(200, "application/json", "1")), Ok(()));
    for (path, status, kind, body) in [
        ("/a", 201, "application/json", "1"),
        ("/a", 200, "text/html", "1"),
        ("/a", 200, "application/json", "\"1\""),
        ("/a?b=c", 200, "application/json", "1"),
    ] {
        let result = contract.check(&request(path), &answer(status, kind, body));
        assert!(result.is_err(), "{path} {status} {kind} {body}");
    }
}

#[test]
fn problem_type_that_the_response_does_not_list_is_a_violation() {
    let response = json!({"x-problem-types": ["tag:a", "tag:b"]});
    let outcome = |body: Value| {
        let body = body.to_string().into_bytes();
        check_problem(&response, &Answer { status: 409, headers: Vec::new(), body })
    };
    assert_eq!(outcome(json!({"type": "tag:b", "status": 409})), Ok(()));
    assert!(outcome(json!({"type": "tag:c", "status": 409})).is_err());
    assert!(outcome(json!({"type": "tag:b", "status": 410})).is_err());
}
