//! The OpenAPI 3.1 document: operations, parameters, headers and schemas.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::{examples, headers, parameters, problems, schemas};
use crate::http::{
    access::Needs,
    operation::{Body, Content, Group, Operation, Success},
    route::Route,
};

const DESCRIPTION: &str = "\
A registry of running instances. Register an instance (`PUT …/instances/{name}`), renew its lease with a heartbeat every \
`renewAfterSeconds`, and find instances by DNS or here: once (`GET …/services/{service}`), after the next change \
(`wait=30s` with `If-None-Match`), or as a stream (`…/watch`).

Every replica answers every call; use another replica when one does not answer. Every error is a problem \
(`application/problem+json`, RFC 9457): `type` is for programs, `detail` and `errors` say what to do. An unknown path is 404 \
`unknown-route`; a method that a path does not take is 405 with `Allow`. `HEAD` works wherever `GET` does. A request that is \
not HTTP, or has more than 64 KiB of headers, gets a bare 400 or 431. If a webhook of the cluster refuses a request with a \
status that is not listed here, the response is 403 `refused`.

Responses can have members that are not described here; clients must ignore them. No described member is removed within `/v1`.";

/// The whole document.
pub(super) fn document(operations: &[Operation]) -> Value {
    let tags =
        Group::ALL.map(|group| json!({"name": group.name(), "description": group.description()}));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "rollcall",
            "summary": env!("CARGO_PKG_DESCRIPTION"),
            "description": DESCRIPTION,
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The replica that served this document; every replica works."}],
        "tags": tags,
        "paths": paths(operations),
        "components": {
            "schemas": schemas::all(),
            "parameters": parameters::components().into_iter().chain(headers::parameters()).collect::<Map<_, _>>(),
            "headers": headers::components(),
            "responses": problems::components(operations),
            "securitySchemes": {"token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A Kubernetes token for the audience rollcall: a projected serviceAccountToken in a \
                                pod, or `kubectl create token NAME --audience rollcall` on the command line. With \
                                --auth none no token is needed.",
            }},
        },
    })
}

fn paths(operations: &[Operation]) -> Map<String, Value> {
    let mut paths = Map::new();
    for route in Route::ALL {
        let of_route = operations.iter().filter(|operation| operation.route == route);
        let path: Map<_, _> = of_route
            .map(|row| (row.method.as_str().to_ascii_lowercase(), operation(row)))
            .collect();
        paths.insert(route.template().to_owned(), path.into());
    }
    paths
}

fn operation(operation: &Operation) -> Value {
    let mut responses = problems::responses(operation);
    for success in operation.responses {
        responses.insert(success.status.to_string(), response(operation, success));
    }
    let mut value = json!({
        "operationId": operation.id,
        "tags": [operation.group.name()],
        "summary": operation.summary,
        "description": operation.description,
        "parameters": parameters::for_operation(operation),
        "responses": responses,
        "security": security(operation.needs),
    });
    if let (Some(value), Some(body)) = (value.as_object_mut(), &operation.body) {
        value.insert("requestBody".to_owned(), request_body(body));
    }
    value
}

/// Reads need a token only with `--read-auth`.
fn security(needs: Needs) -> Value {
    match needs {
        Needs::Nothing => json!([]),
        Needs::Read(_) | Needs::Token => json!([{}, {"token": []}]),
        Needs::Write(_) | Needs::WriteEach => json!([{"token": []}]),
    }
}

fn request_body(body: &Body) -> Value {
    let types = body.types.split(", ").map(|name| (name.to_owned(), content(body.schema)));
    json!({"required": body.required, "content": types.collect::<Map<_, _>>()})
}

fn response(operation: &Operation, success: &Success) -> Value {
    let mut response = json!({
        "description": success.description,
        "headers": headers::response(success.headers),
    });
    let (name, content) = match success.content {
        Content::Nothing => return response,
        Content::Json(schema) => ("application/json", content(schema)),
        Content::Contract => ("application/json", json!({"schema": {"type": "object"}})),
        // The schema of a stream of events is that of one event.
        Content::Events => ("text/event-stream", content("WatchEvent")),
        Content::Lines => ("application/x-ndjson", lines("Instance", &examples::line())),
        Content::Html => ("text/html", json!({"schema": {"type": "string"}})),
    };
    if let Some(object) = response.as_object_mut() {
        object.insert("content".to_owned(), Map::from_iter([(name.to_owned(), content)]).into());
        let links = links(operation, success);
        if !links.is_empty() {
            object.insert("links".to_owned(), links.into());
        }
    }
    response
}

fn content(schema: &str) -> Value {
    let mut content = json!({"schema": {"$ref": schemas::reference(schema)}});
    if let (Some(content), Some(example)) = (content.as_object_mut(), examples::for_schema(schema))
    {
        content.insert("example".to_owned(), example);
    }
    content
}

/// OpenAPI 3.1 can describe lines as text only; 3.2 has `itemSchema` for the type of one line.
fn lines(schema: &str, example: &str) -> Value {
    json!({
        "schema": {"type": "string"},
        "example": example,
        "x-itemSchema": {"$ref": schemas::reference(schema)},
    })
}

/// Links to the calls that take values of this response.
fn links(operation: &Operation, success: &Success) -> Map<String, Value> {
    const INSTANCE_CALLS: [&str; 6] = [
        "heartbeat",
        "getInstance",
        "renewLease",
        "changeAttributes",
        "setState",
        "deregisterInstance",
    ];
    let is_write = operation.method != Method::GET;
    let (next, parameters): (&[&str], _) = match success.content {
        Content::Json("Services") => {
            let first = "$response.body#/services/0";
            let namespace = format!("{first}/namespace");
            let path =
                json!({"path.namespace": namespace, "path.service": format!("{first}/service")});
            (&["discover", "watchService"], path)
        }
        Content::Json("InstanceDetail") if is_write => {
            let path = json!({
                "path.namespace": "$response.body#/namespace",
                "path.name": "$response.body#/name",
            });
            (&INSTANCE_CALLS, path)
        }
        _ => return Map::new(),
    };
    let others = next.iter().filter(|next| **next != operation.id);
    let link = |next: &&str| {
        let link = json!({"operationId": next, "parameters": parameters});
        ((*next).to_owned(), link)
    };
    others.map(link).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{contract::walk::walk, table::OPERATIONS};

    #[test]
    fn references_resolve_and_every_component_is_used() {
        let document = document(&OPERATIONS);
        let mut used = std::collections::HashSet::new();
        walk(&document, "", &mut |path, value| {
            let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return };
            let target = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(target).is_some(), "{path}: {reference}");
            used.insert(target.to_owned());
        });
        for (kind, components) in document["components"].as_object().unwrap() {
            for name in components.as_object().unwrap().keys() {
                let of_no_operation =
                    ["token", "UnknownRoute", "MethodNotAllowed"].contains(&name.as_str());
                assert!(
                    of_no_operation || used.contains(&format!("/components/{kind}/{name}")),
                    "{kind} {name}"
                );
            }
        }
    }

    #[test]
    fn examples_match_their_schemas() {
        let document = document(&OPERATIONS);
        let mut examples = 0;
        walk(&document["paths"], "", &mut |path, value| {
            let (Some(schema), Some(example)) = (value.get("schema"), value.get("example")) else {
                return;
            };
            let root =
                json!({"components": document["components"], "$ref": "#/schema", "schema": schema});
            let errors: Vec<_> = jsonschema::options()
                .should_validate_formats(true)
                .build(&root)
                .unwrap()
                .iter_errors(example)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{path}: {errors:?}");
            examples += 1;
        });
        assert!(examples > 25, "{examples}");
    }

    #[test]
    fn every_schema_member_has_a_description() {
        let document = document(&OPERATIONS);
        let mut missing = Vec::new();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for (name, schema) in schemas {
            for (member, schema) in schema["properties"].as_object().into_iter().flatten() {
                let is_plain =
                    matches!(member.as_str(), "namespace" | "name" | "service" | "identity");
                if !is_plain && schema.get("description").is_none() {
                    missing.push(format!("{name}.{member}"));
                }
            }
        }
        assert!(missing.is_empty(), "{missing:?}");
    }
}
