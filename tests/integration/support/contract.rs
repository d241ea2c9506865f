//! The served contract, and whether a request and its answer are as it says.
//!
//! More is asked than a client may rely on: an answer has no member, header or status that is not described.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::http::{Answer, call};

/// What answers of any server have.
const OF_HTTP: [&str; 8] = [
    "date",
    "content-length",
    "content-type",
    "connection",
    "transfer-encoding",
    "vary",
    "x-accel-buffering",
    "accept-patch",
];

/// The contract of a replica.
pub struct Contract {
    document: Value,
}

/// A request.
pub struct Request<'a> {
    pub method: &'a str,
    /// With its query.
    pub path: &'a str,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: &'a [u8],
}

impl Contract {
    /// As it is served.
    pub async fn of(base: SocketAddr) -> Self {
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

    /// Says what is not as the contract has it.
    pub fn check(&self, request: &Request<'_>, answer: &Answer) -> Result<(), String> {
        let path = request.path.split('?').next().unwrap();
        let method = if request.method == "HEAD" { "GET" } else { request.method };
        let Some(operations) = self.operations(path) else {
            return self.answers(&self.document["components"]["responses"]["UnknownRoute"], answer);
        };
        let operation = &operations[method.to_ascii_lowercase()];
        if operation.is_null() {
            return self
                .answers(&self.document["components"]["responses"]["MethodNotAllowed"], answer);
        }
        let response = self.resolved(&operation["responses"][answer.status.to_string()]);
        if response.is_null() {
            return Err(format!("status {} is not in the contract", answer.status));
        }
        self.answers(response, answer)?;
        let asked = self.asks(operation, request);
        // Of a batch each is refused by itself.
        let outcome = answer.json();
        let some_refused = outcome["failed"].as_u64().is_some_and(|failed| failed > 0)
            || outcome["refused"].as_array().is_some_and(|refused| !refused.is_empty());
        let problem = outcome["type"].as_str().unwrap_or_default().to_owned();
        match (answer.status, asked) {
            (200, Err(_)) if some_refused => Ok(()),
            (200..400, Err(wrong)) => Err(format!("it was answered, though {wrong}")),
            (400 | 422, Ok(()))
                if [":bad-fields", ":bad-query", ":bad-header"]
                    .iter()
                    .any(|kind| problem.ends_with(kind)) =>
            {
                Err("it was refused, though the contract allows it".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// An event of a stream, by its kind and data.
    pub fn check_event(&self, kind: &str, data: &Value) -> Result<(), String> {
        let events =
            self.document["components"]["schemas"]["WatchEvent"]["oneOf"].as_array().unwrap();
        let kinds = json!([kind]);
        let mut events = events.iter().map(|event| self.resolved(event));
        let of_kind = events.find(|event| event["properties"]["event"]["enum"] == kinds);
        let event = of_kind.ok_or_else(|| format!("no event {kind} is in the contract"))?;
        self.fits(&event["properties"]["data"]["contentSchema"], data)
    }

    /// A line of a snapshot.
    pub fn check_line(&self, line: &Value) -> Result<(), String> {
        let lines = &self.document["paths"]["/v1/snapshot"]["get"]["responses"]["200"]["content"];
        self.fits(&lines["application/x-ndjson"]["x-itemSchema"], line)
    }

    fn operations(&self, path: &str) -> Option<&Value> {
        let paths = self.document["paths"].as_object().unwrap();
        let fits = |template: &str| {
            let (asked, known) = (path.split('/'), template.split('/'));
            path.matches('/').count() == template.matches('/').count()
                && asked.zip(known).all(|(asked, known)| asked == known || known.starts_with('{'))
        };
        paths.iter().find(|(template, _)| fits(template)).map(|(_, operations)| operations)
    }

    fn answers(&self, response: &Value, answer: &Answer) -> Result<(), String> {
        let documented = response["headers"].as_object().cloned().unwrap_or_default();
        for (name, header) in &documented {
            let header = self.resolved(header);
            let got = answer.headers.iter().find(|(got, _)| got.eq_ignore_ascii_case(name));
            match got {
                None if header["required"] == true => return Err(format!("{name} is missing")),
                None => {}
                Some((_, text)) => self
                    .fits(&header["schema"], &typed(&header["schema"], text))
                    .map_err(|wrong| format!("{name}: {wrong}"))?,
            }
        }
        let is_known = |name: &str| {
            OF_HTTP.contains(&name)
                || documented.keys().any(|known| known.eq_ignore_ascii_case(name))
        };
        if let Some((name, _)) = answer.headers.iter().find(|(name, _)| !is_known(name)) {
            return Err(format!("the header {name} is not in the contract"));
        }
        let kind = answer.header("content-type").split(';').next().unwrap_or_default();
        if kind == "application/problem+json" && !answer.body.is_empty() {
            is_problem_of(response, answer)?;
        }
        match response["content"].as_object() {
            None if answer.body.is_empty() => Ok(()),
            None => Err("the contract has no body".to_owned()),
            Some(content) => {
                let content =
                    content.get(kind).ok_or_else(|| format!("{kind} is not in the contract"))?;
                if kind.ends_with("json") && !kind.ends_with("x-ndjson") && !answer.body.is_empty()
                {
                    return self.fits(&content["schema"], &answer.json());
                }
                Ok(())
            }
        }
    }

    fn asks(&self, operation: &Value, request: &Request<'_>) -> Result<(), String> {
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
            self.fits(&known["schema"], &value).map_err(|wrong| format!("{name}: {wrong}"))?;
        }
        for (name, value) in &request.headers {
            let is_it = |it: &&&Value| {
                it["in"] == "header" && it["name"].as_str().unwrap().eq_ignore_ascii_case(name)
            };
            if let Some(header) = parameters.iter().find(is_it) {
                self.fits(&header["schema"], &typed(&header["schema"], value))
                    .map_err(|wrong| format!("{name}: {wrong}"))?;
            } else if !["content-type", "accept"].contains(&name.as_str()) {
                return Err(format!("the header {name} is not in the contract"));
            }
        }
        self.says(&operation["requestBody"], request)
    }

    fn says(&self, body: &Value, request: &Request<'_>) -> Result<(), String> {
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
        let said = serde_json::from_slice(request.body).map_err(|error| error.to_string())?;
        self.fits(&content["schema"], &said)
    }

    fn fits(&self, schema: &Value, value: &Value) -> Result<(), String> {
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

/// A problem has the status of its answer, and a type that the response lists. The schema of all problems is one, so
/// that generated clients have one type for them; it does not say this.
fn is_problem_of(response: &Value, answer: &Answer) -> Result<(), String> {
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

/// Text of a header or a query as what its schema says that it is.
fn typed(schema: &Value, text: &str) -> Value {
    match schema["type"].as_str() {
        Some("integer") => text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number)),
        _ => json!(text),
    }
}

/// The headers of a request as they stand there.
pub fn headers(lines: &str) -> Vec<(String, String)> {
    let pair = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    };
    lines.lines().map(pair).collect()
}

/// Nothing described is nothing found.
#[test]
fn what_is_not_in_the_contract_is_told() {
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
        let told = contract.check(&request(path), &answer(status, kind, body));
        assert!(told.is_err(), "{path} {status} {kind} {body}");
    }
}

#[test]
fn problem_that_the_response_does_not_list_is_refused() {
    let response = json!({"x-problem-types": ["tag:a", "tag:b"]});
    let outcome = |body: Value| {
        let body = body.to_string().into_bytes();
        is_problem_of(&response, &Answer { status: 409, headers: Vec::new(), body })
    };
    assert_eq!(outcome(json!({"type": "tag:b", "status": 409})), Ok(()));
    assert!(outcome(json!({"type": "tag:c", "status": 409})).is_err());
    assert!(outcome(json!({"type": "tag:b", "status": 410})).is_err());
}
