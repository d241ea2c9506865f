//! Parameters of paths and queries in the contract.

use schemars::JsonSchema as _;
use serde_json::{Map, Value, json};

use super::{names, values};
use crate::http::operation::{Operation, Query};

/// Query parameters that filter a set.
const FILTERS: [&str; 7] = ["version", "tag", "zone", "near", "port", "selector", "health"];

/// The parameter objects of all paths and queries, by component name.
pub(super) fn components() -> Map<String, Value> {
    let query = FILTERS.into_iter().chain(["order", "limit", "wait", "uid", "service"]);
    let query = query.map(|name| (query_component(name), query_parameter(name)));
    let path =
        ["namespace", "service", "name"].map(|name| (names::parameter(name), path_parameter(name)));
    query.chain(path).collect()
}

/// References to the parameters of a call.
pub(super) fn for_operation(operation: &Operation) -> Vec<Value> {
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
    let in_query = query.into_iter().map(query_component);
    let headers = ["Rollcall-Min-Index", "X-Request-Id"].iter().chain(operation.headers);
    let all = in_path.chain(in_query).chain(headers.map(|name| names::parameter(name)));
    all.map(|key| json!({"$ref": format!("#/components/parameters/{key}")})).collect()
}

/// The component of a query parameter. `service` is one name in a path and a list in a query, so it has two components.
fn query_component(name: &str) -> String {
    names::parameter(if name == "service" { "services" } else { name })
}

fn path_parameter(name: &str) -> Value {
    let mut generator = schemars::SchemaGenerator::default();
    let (description, schema, example) = match name {
        "namespace" => {
            ("A Kubernetes namespace.", values::Label::json_schema(&mut generator), "shop")
        }
        "service" => {
            ("The name of a service.", values::Label::json_schema(&mut generator), "orders")
        }
        _ => {
            ("The name of an instance.", values::Subdomain::json_schema(&mut generator), "orders-1")
        }
    };
    json!({
        "name": name, "in": "path", "required": true, "description": description, "schema": schema, "example": example,
    })
}

fn query_parameter(name: &str) -> Value {
    let description = match name {
        "version" => {
            "Only instances of this version; `2-3-1`, the form as a DNS label, also selects `2.3.1`."
        }
        "tag" => {
            "Only instances with this tag; given several times, only instances with all the tags."
        }
        "zone" => "Only instances in this zone.",
        "near" => "Instances in this zone, or all instances if none is in it.",
        "port" => "Only instances with a port of this name.",
        "selector" => {
            "Only instances whose labels match this Kubernetes label selector: `track=canary,tier in (a, b),!old`."
        }
        "health" => {
            "`passing`: instances in Ready only; `any`: instances in every phase. Default: Ready and Warning."
        }
        "order" => {
            "`weighted`: by priority, then at random by weight; `roundrobin`: by priority, each call starts at the \
             next instance."
        }
        "limit" => "The number of instances to return, from the start of that order.",
        "wait" => {
            "With If-None-Match: how long to wait for a changed set, such as `30s`, `500ms` or `1m`, at most `5m`."
        }
        "uid" => "The uid that the instance must have; otherwise the response is 412.",
        _ => "A service, as `namespace/service`; give it several times for up to 100 services.",
    };
    let mut parameter = json!({
        "name": name,
        "in": "query",
        "required": name == "service",
        "description": description,
        "schema": values::query_parameter(name),
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
