//! The document: operations, parameters, headers and schemas, written down as OpenAPI 3.1.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::{examples, headers, parameters, problems, schemas};
use crate::http::{
    access::Needs,
    operation::{Body, Content, Group, Operation, Success},
    route::Route,
};

const DESCRIPTION: &str = "\
A registry of running instances. Register one (`PUT …/instances/{name}`), keep it there with a heartbeat every \
`renewAfterSeconds`, and ask who is there by DNS or here: once (`GET …/services/{service}`), until something changes \
(`wait=30s` with `If-None-Match`), or as a stream (`…/watch`).

Any replica answers any call; speak to another when one does not answer. What is no success is a problem \
(`application/problem+json`, RFC 9457): `type` is for programs, `detail` and `errors` say what to do. A path that no call has \
is 404 `unknown-route`, a method that a path does not take 405 with `Allow`. `HEAD` works wherever `GET` does. What is no \
HTTP at all, or has more than 64 KiB of headers, is answered by the connection itself, with 400 or 431 and nothing else. \
A webhook of the cluster that refuses with a status of its own is told as 403 `refused`.

Members that are not described here may come; do not fail on them. None that is described goes away within `/v1`.";

/// The whole document.
pub(super) fn document(operations: &[Operation]) -> Value {
    let tags = Group::ALL.map(|group| json!({"name": group.name(), "description": group.says()}));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "rollcall",
            "summary": env!("CARGO_PKG_DESCRIPTION"),
            "description": DESCRIPTION,
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The replica that gave this document; any other will do."}],
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
                "description": "A token of Kubernetes of the audience rollcall: in a pod a projected serviceAccountToken, by \
                                hand `kubectl create token NAME --audience rollcall`. None is needed with --auth none.",
            }},
        },
    })
}

fn paths(operations: &[Operation]) -> Map<String, Value> {
    let mut paths = Map::new();
    for route in Route::ALL {
        let of_route = operations.iter().filter(|operation| operation.route == route);
        let path: Map<_, _> =
            of_route.map(|it| (it.method.as_str().to_ascii_lowercase(), operation(it))).collect();
        paths.insert(route.template().to_owned(), path.into());
    }
    paths
}

fn operation(operation: &Operation) -> Value {
    let mut responses = problems::responses(operation);
    for success in operation.gives {
        responses.insert(success.status.to_string(), answer(operation, success));
    }
    let mut value = json!({
        "operationId": operation.id,
        "tags": [operation.group.name()],
        "summary": operation.summary,
        "description": operation.description,
        "parameters": parameters::of(operation),
        "responses": responses,
        "security": security(operation.needs),
    });
    if let (Some(value), Some(body)) = (value.as_object_mut(), &operation.body) {
        value.insert("requestBody".to_owned(), request(body));
    }
    value
}

/// Reads are for everybody unless `--read-auth`.
fn security(needs: Needs) -> Value {
    match needs {
        Needs::Nothing => json!([]),
        Needs::Read(_) | Needs::Token => json!([{}, {"token": []}]),
        Needs::Write(_) | Needs::WriteEach => json!([{"token": []}]),
    }
}

fn request(body: &Body) -> Value {
    let types = body.types.split(", ").map(|name| (name.to_owned(), content(body.schema)));
    json!({"required": body.required, "content": types.collect::<Map<_, _>>()})
}

fn answer(operation: &Operation, success: &Success) -> Value {
    let mut answer = json!({
        "description": success.says,
        "headers": headers::response(success.headers),
    });
    let (name, content) = match success.content {
        Content::Nothing => return answer,
        Content::Json(schema) => ("application/json", content(schema)),
        Content::Contract => ("application/json", json!({"schema": {"type": "object"}})),
        // Of a stream of events the schema is that of each event.
        Content::Events => ("text/event-stream", content("WatchEvent")),
        Content::Lines => ("application/x-ndjson", lines("Instance", &examples::line())),
        Content::Html => ("text/html", json!({"schema": {"type": "string"}})),
    };
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("content".to_owned(), Map::from_iter([(name.to_owned(), content)]).into());
        let links = links(operation, success);
        if !links.is_empty() {
            answer.insert("links".to_owned(), links.into());
        }
    }
    answer
}

fn content(schema: &str) -> Value {
    let mut content = json!({"schema": {"$ref": schemas::reference(schema)}});
    if let (Some(content), Some(example)) = (content.as_object_mut(), examples::of(schema)) {
        content.insert("example".to_owned(), example);
    }
    content
}

/// Lines are text to OpenAPI 3.1; of what each is, 3.2 has a word.
fn lines(schema: &str, example: &str) -> Value {
    json!({
        "schema": {"type": "string"},
        "example": example,
        "x-itemSchema": {"$ref": schemas::reference(schema)},
    })
}

/// What can be asked next with what was answered.
fn links(operation: &Operation, success: &Success) -> Map<String, Value> {
    const OF_INSTANCE: [&str; 6] = [
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
            let named =
                json!({"path.namespace": namespace, "path.service": format!("{first}/service")});
            (&["discover", "watchService"], named)
        }
        Content::Json("InstanceDetail") if is_write => {
            let named = json!({
                "path.namespace": "$response.body#/namespace",
                "path.name": "$response.body#/name",
            });
            (&OF_INSTANCE, named)
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
    fn every_reference_leads_somewhere_and_every_component_is_led_to() {
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
                let of_none =
                    ["token", "UnknownRoute", "MethodNotAllowed"].contains(&name.as_str());
                assert!(
                    of_none || used.contains(&format!("/components/{kind}/{name}")),
                    "{kind} {name}"
                );
            }
        }
    }

    #[test]
    fn every_example_is_of_its_schema() {
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
    fn every_schema_and_its_members_are_described() {
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
