//! Tests of the generated schemas: everything is bounded, every rule has a message, and the API server and
//! serde fill in the same defaults.

use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use super::manifests::crds;
use super::{OBSERVED_HEARTBEAT_MAX, ServiceInstance, ServiceInstanceSpec, observed_heartbeat};

/// Calls `visit` with the path and schema of `schema` and of every node below it.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    if let Some(items) = schema.get("items") {
        walk(&format!("{path}[]"), items, visit);
    }
    if let Some(values) = schema.get("additionalProperties") {
        walk(&format!("{path}{{}}"), values, visit);
    }
}

/// Visits every node of every version of every CRD.
fn walk_all(mut visit: impl FnMut(&str, &Value)) {
    for crd in crds() {
        let name = crd.metadata.name.clone().unwrap();
        for version in &crd.spec.versions {
            let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            walk(&name, &serde_json::to_value(schema).unwrap(), &mut visit);
        }
    }
}

/// The names of the fields of a `ServiceInstance` at this path, in order.
pub(crate) fn properties(path: &str) -> Vec<String> {
    let path = format!("serviceinstances.rollcall.dev{path}");
    let mut names = Vec::new();
    walk_all(|at, schema| {
        if at == path {
            let properties = schema["properties"].as_object().unwrap();
            names.extend(properties.keys().cloned());
        }
    });
    names
}

#[test]
fn every_field_of_the_schema_is_bounded() {
    let mut unbounded = Vec::new();
    walk_all(|path, schema| {
        let has = |key: &str| schema.get(key).is_some();
        let bounded = match schema["type"].as_str() {
            Some("string") => has("maxLength") || has("enum"),
            Some("array") => has("maxItems") && has("items"),
            Some("object") => {
                has("properties") || (has("additionalProperties") && has("maxProperties"))
            }
            Some("integer") => has("minimum") && (has("maximum") || schema["format"] == "int64"),
            Some("boolean") => true,
            _ => false,
        };
        // Replicas of a later version write fields that this CRD does not have.
        let is_open = path == "heartbeatledgers.rollcall.dev.spec";
        if !bounded || (has("x-kubernetes-preserve-unknown-fields") && !is_open) {
            unbounded.push(format!("{path}: {schema}"));
        }
    });
    assert!(unbounded.is_empty(), "without a bound:\n{}", unbounded.join("\n"));
}

#[test]
fn every_rule_has_a_message() {
    let mut rules = 0;
    walk_all(|path, schema| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            rules += 1;
            let message = rule["message"].as_str().unwrap_or_default();
            assert!(message.len() > 20, "{path}: no message for {rule}");
            assert!(!message.contains('\n'), "{path}: the message of {rule} is not one line");
        }
    });
    assert!(rules >= 10, "only {rules} rules found: does the walk still visit all nodes?");
}

#[test]
fn no_spec_field_is_nullable() {
    walk_all(|path, schema| {
        let status_itself = path.ends_with(".status");
        assert!(status_itself || schema["nullable"] != true, "{path} is nullable");
    });
}

#[test]
fn every_field_and_kind_has_a_description() {
    walk_all(|path, schema| {
        let of_a_list = path.ends_with("[]") || path.ends_with("{}");
        assert!(of_a_list || schema["description"].is_string(), "{path} has no description");
    });
}

/// The numeric bounds in a schema.
fn numeric_bounds(schema: &Value) -> Vec<String> {
    let keys = [
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
    ];
    // The API server writes some of them as floating-point numbers.
    let number = |key: &&str| schema.get(*key).and_then(Value::as_f64);
    keys.iter().filter_map(number).map(|number| number.to_string()).collect()
}

/// Most users read about a field in `kubectl explain`.
#[test]
fn descriptions_are_one_line_and_name_defaults_and_bounds() {
    let mut wrong = Vec::new();
    let mut described: Vec<(String, String)> = Vec::new();
    let of_instances = "serviceinstances.rollcall.dev";
    walk_all(|path, schema| {
        // The items of a list or map are described with it.
        if let Some(description) = schema["description"].as_str() {
            described.push((path.to_owned(), description.to_owned()));
            if description.contains('\n') || description.contains("  ") {
                wrong.push(format!("{path}: not one line: {description}"));
            }
        }
        let owner = described.iter().rev().find(|(field, _)| path.starts_with(field.as_str()));
        let Some((_, description)) = owner.filter(|_| path.starts_with(of_instances)) else {
            return;
        };
        let numbers: Vec<_> = description.split(|c: char| !c.is_ascii_digit()).collect();
        for bound in numeric_bounds(schema) {
            if !numbers.contains(&bound.as_str()) {
                wrong.push(format!("{path}: {bound} is not in: {description}"));
            }
        }
        if let Some(default) = schema.get("default") {
            let says = format!(
                "Default: {}.",
                default.as_str().map_or_else(|| default.to_string(), Into::into)
            );
            if !description.contains(&says) {
                wrong.push(format!("{path}: {says:?} is not in: {description}"));
            }
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn api_server_and_serde_defaults_agree() {
    let least = json!({
        "service": "orders",
        "addresses": ["10.0.0.7"],
        "ports": [{"name": "http", "port": 8080}],
        "lease": {"mode": "Heartbeat"},
    });
    let spec: ServiceInstanceSpec = serde_json::from_value(least).unwrap();
    let spec = serde_json::to_value(spec).unwrap();
    let mut defaults = Vec::new();
    walk_all(|path, schema| {
        // Only rollcall writes ledgers, and always with all fields.
        let field = path.strip_prefix("serviceinstances.rollcall.dev.spec.");
        if let (Some(field), Some(default)) = (field, schema.get("default")) {
            let pointer = format!("/{}", field.replace("[]", "/0").replace('.', "/"));
            assert_eq!(spec.pointer(&pointer), Some(default), "{pointer}");
            defaults.push(format!("{field}={default}"));
        }
    });
    assert_eq!(
        defaults,
        [
            "lease.durationSeconds=30",
            "lease.evictAfterSeconds=60",
            "lease.onExpiry=\"Retain\"",
            "priority=0",
            "state=\"Up\"",
            "weight=100",
        ]
    );
}

#[test]
fn crd_has_the_expected_names_and_columns() {
    let crd = serde_json::to_value(ServiceInstance::crd()).unwrap();
    assert_eq!(crd["spec"]["scope"], "Namespaced");
    assert_eq!(crd["spec"]["names"]["shortNames"], json!(["si"]));
    assert_eq!(crd["spec"]["names"].get("categories"), None);
    let version = &crd["spec"]["versions"][0];
    let selectable = json!([{"jsonPath": ".spec.service"}, {"jsonPath": ".status.phase"}]);
    assert_eq!(version["selectableFields"], selectable);
    assert_eq!(version["subresources"], json!({"status": {}}));
    let columns = version["additionalPrinterColumns"].as_array().unwrap();
    let shown: Vec<_> =
        columns.iter().filter(|c| c.get("priority").is_none()).map(|c| &c["name"]).collect();
    assert_eq!(shown, ["Service", "Addresses", "Ports", "Version", "Phase", "Reason", "Age"]);
    let wide = columns.iter().filter(|c| c["priority"] == 1).map(|c| &c["name"]);
    let names = ["State", "Health", "Weight", "Priority", "Heartbeat Stored", "DNS Name"];
    assert!(wide.eq(names.iter()), "{columns:?}");
}

#[test]
fn observed_heartbeat_is_bounded_and_differs_with_the_annotation() {
    let short = "2026-01-02T03:04:05.678Z";
    assert_eq!(observed_heartbeat(short), short);
    let longest = "é".repeat(OBSERVED_HEARTBEAT_MAX);
    assert_eq!(observed_heartbeat(&longest), longest);
    let too_long = format!("{longest}1");
    let observed = observed_heartbeat(&too_long);
    assert_eq!(observed.chars().count(), OBSERVED_HEARTBEAT_MAX);
    assert_ne!(observed, observed_heartbeat(&format!("{longest}2")));
}
