//! Parameters of paths and queries, as the contract describes them.

use schemars::JsonSchema as _;
use serde_json::{Map, Value, json};

use super::{names, words};
use crate::http::operation::{Operation, Query};

/// What filters a set.
const FILTERS: [&str; 7] = ["version", "tag", "zone", "near", "port", "selector", "health"];

/// All of them, by name.
pub(super) fn components() -> Map<String, Value> {
    let query = FILTERS.into_iter().chain(["order", "limit", "wait", "uid", "service"]);
    let query = query.map(|name| (in_query(name), of_query(name)));
    let path = ["namespace", "service", "name"].map(|name| (names::parameter(name), of_path(name)));
    query.chain(path).collect()
}

/// References to those of a call.
pub(super) fn of(operation: &Operation) -> Vec<Value> {
    let template = operation.route.template();
    let in_path = ["namespace", "service", "name"]
        .into_iter()
        .filter(|name| template.contains(&format!("{{{name}}}")))
        .map(names::parameter);
    let query: Vec<&str> = match operation.query {
        Query::None => Vec::new(),
        Query::Uid => vec!["uid"],
        Query::Discovery => FILTERS.into_iter().chain(["order", "limit", "wait"]).collect(),
        Query::Watch => FILTERS.to_vec(),
        Query::WatchMany => ["service"].into_iter().chain(FILTERS).collect(),
    };
    let in_query = query.into_iter().map(in_query);
    let headers = ["Rollcall-Min-Index", "X-Request-Id"].iter().chain(operation.headers);
    let all = in_path.chain(in_query).chain(headers.map(|name| names::parameter(name)));
    all.map(|key| json!({"$ref": format!("#/components/parameters/{key}")})).collect()
}

/// The name of the component of a query parameter. A service is a name in a path, and several in a query.
fn in_query(name: &str) -> String {
    names::parameter(if name == "service" { "services" } else { name })
}

fn of_path(name: &str) -> Value {
    let mut generator = schemars::SchemaGenerator::default();
    let (says, schema, example) = match name {
        "namespace" => {
            ("A Kubernetes namespace.", words::Label::json_schema(&mut generator), "shop")
        }
        "service" => {
            ("The name of a service.", words::Label::json_schema(&mut generator), "orders")
        }
        _ => {
            ("The name of an instance.", words::Subdomain::json_schema(&mut generator), "orders-1")
        }
    };
    json!({
        "name": name, "in": "path", "required": true, "description": says, "schema": schema, "example": example,
    })
}

fn of_query(name: &str) -> Value {
    let says = match name {
        "version" => {
            "Only those of this version; `2-3-1`, its form as a DNS label, selects `2.3.1` too."
        }
        "tag" => "Only those with this tag; given again: with all of them.",
        "zone" => "Only those in this zone.",
        "near" => "Those in this zone, or all when it has nobody.",
        "port" => "Only those with a port of this name.",
        "selector" => {
            "Only those with labels that match, in Kubernetes' grammar: `track=canary,tier in (a, b),!old`."
        }
        "health" => {
            "`passing`: Ready alone; `any`: whatever the phase. Without it Ready and Warning."
        }
        "order" => {
            "`weighted`: by priority, then at random by weight; `roundrobin`: by priority, each call beginning one \
             further."
        }
        "limit" => "The first so many of that order.",
        "wait" => {
            "With If-None-Match: how long to wait for another set, as `30s`, `500ms` or `1m`, at most `5m`."
        }
        "uid" => "This incarnation and no other, else 412.",
        _ => "A service, as `namespace/service`; given again: several, up to 100.",
    };
    let mut parameter = json!({
        "name": name,
        "in": "query",
        "required": name == "service",
        "description": says,
        "schema": words::of_query(name),
    });
    let example = match name {
        "selector" => json!("track=canary,!old"),
        "wait" => json!("500ms"),
        "service" => json!(["shop/orders"]),
        _ => return parameter,
    };
    if let Some(parameter) = parameter.as_object_mut() {
        parameter.insert("example".to_owned(), example);
    }
    parameter
}
