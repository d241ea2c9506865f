//! Tests that the contract avoids forms that OpenAPI 3.1 allows but client generators cannot handle.
//!
//! Owns: the forms to avoid, each with the generators that fail on it. Does not own: whether a generated client works;
//! `tests/clients` proves that for three languages.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{document::document, walk::walk};
use crate::http::table::OPERATIONS;

/// Every schema of the document, including nested ones, with its path.
fn schemas() -> Vec<(String, Value)> {
    let mut schemas = Vec::new();
    walk(&document(&OPERATIONS), "", &mut |path, value| {
        let is_example = path.contains("/example");
        let holds_schemas = path.ends_with("/properties") || path.ends_with("/schemas");
        if value.is_object() && !is_example && !holds_schemas {
            schemas.push((path.to_owned(), value.clone()));
        }
    });
    schemas
}

/// Otherwise openapi-python-client drops the properties, and openapi-generator generates Rust and Java code that does
/// not compile.
#[test]
fn alternatives_have_no_sibling_properties() {
    for (path, schema) in schemas() {
        let is_object = schema.get("properties").is_some() || schema["type"] == "object";
        for alternatives in ["oneOf", "anyOf", "allOf"] {
            assert!(!is_object || schema.get(alternatives).is_none(), "{path}: {alternatives}");
        }
    }
}

/// Generators name an unnamed alternative after its position. For a discriminator, openapi-generator generates Rust
/// code that removes the member before it reads the schema that requires it, and drops all but one of its values.
#[test]
fn alternatives_are_named_schemas_or_null() {
    for (path, schema) in schemas() {
        let alternatives =
            ["oneOf", "anyOf"].into_iter().filter_map(|kind| schema[kind].as_array());
        for alternative in alternatives.flatten() {
            assert!(
                alternative["$ref"].is_string() || alternative["type"] == "null",
                "{path}: {alternative}"
            );
        }
        assert!(schema.get("discriminator").is_none(), "{path}");
    }
}

/// openapi-generator names the enum of a member after the member, in the file of its schema: `event` in `Event` would
/// clash.
#[test]
fn schema_name_differs_from_members_of_its_alternatives() {
    let document = document(&OPERATIONS);
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        for alternative in schema["oneOf"].as_array().into_iter().flatten() {
            let target = alternative["$ref"].as_str().unwrap().strip_prefix('#').unwrap();
            let members = document.pointer(target).unwrap()["properties"].as_object().unwrap();
            let same = members.keys().find(|member| member.eq_ignore_ascii_case(name));
            assert_eq!(same, None, "{name}: {target}");
        }
    }
}

/// oapi-codegen generates a Go type for each component of every kind, and gives `port` and `Port` the same name.
#[test]
fn component_names_are_unique_across_kinds() {
    let document = document(&OPERATIONS);
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (kind, components) in document["components"].as_object().unwrap() {
        for name in components.as_object().unwrap().keys() {
            let letters = name.chars().filter(char::is_ascii_alphanumeric);
            let spelled = letters.collect::<String>().to_ascii_lowercase();
            kinds.entry(spelled).or_default().push(format!("{kind}/{name}"));
        }
    }
    let twice: Vec<_> = kinds.values().filter(|names| names.len() > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

/// openapi-generator ignores `const`, and every member next to a reference except a description.
#[test]
fn constants_are_enums_and_references_have_no_siblings() {
    for (path, schema) in schemas() {
        assert!(schema.get("const").is_none(), "{path}: write it as an enum of one value");
        if schema.get("$ref").is_some_and(Value::is_string) {
            let mut members = schema.as_object().unwrap().keys();
            assert!(
                members.all(|member| ["$ref", "description"].contains(&member.as_str())),
                "{path}: {schema}"
            );
        }
    }
}

/// Without a format, openapi-generator uses 32 bits for every integer; a resourceVersion needs more.
#[test]
fn every_number_has_a_format() {
    let mut numbers = 0;
    for (path, schema) in schemas() {
        let types: Vec<_> = match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
            single => single.as_str().into_iter().collect(),
        };
        let format = schema["format"].as_str().unwrap_or_default();
        if types.contains(&"number") {
            assert_eq!(format, "double", "{path}");
        }
        if types.contains(&"integer") {
            let is_short =
                schema["maximum"].as_u64().is_some_and(|max| max <= i32::MAX.unsigned_abs().into());
            let is_wide = format == "int64";
            assert!(is_wide || (format == "int32" && is_short), "{path}: {schema}");
            numbers += 1;
        }
    }
    assert!(numbers > 40, "{numbers}");
}
