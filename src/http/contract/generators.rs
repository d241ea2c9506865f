//! For tests: what generators of clients cannot take, though OpenAPI 3.1 allows it.
//!
//! Owns: the forms that the contract must not have, each with the generators that fail on it. Does not own: that a
//! generated client works; `tests/clients` proves that for three languages.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{document::document, walk::walk};
use crate::http::table::OPERATIONS;

/// Every schema of the document, also those inside others, with its path.
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

/// openapi-python-client forgets the properties; openapi-generator writes Rust and Java that do not compile.
#[test]
fn no_alternatives_stand_beside_properties() {
    for (path, schema) in schemas() {
        let is_object = schema.get("properties").is_some() || schema["type"] == "object";
        for alternatives in ["oneOf", "anyOf", "allOf"] {
            assert!(!is_object || schema.get(alternatives).is_none(), "{path}: {alternatives}");
        }
    }
}

/// An alternative without a name becomes a type that is named by its position. With a discriminator openapi-generator writes
/// Rust that takes the member away before the schema that requires it is read, and forgets all but one of its values.
#[test]
fn alternatives_are_schemas_with_names_or_null() {
    for (path, schema) in schemas() {
        let alternatives =
            ["oneOf", "anyOf"].into_iter().filter_map(|kind| schema[kind].as_array());
        for one in alternatives.flatten() {
            assert!(one["$ref"].is_string() || one["type"] == "null", "{path}: {one}");
        }
        assert!(schema.get("discriminator").is_none(), "{path}");
    }
}

/// openapi-generator names the enum of a member after the member, in the file of the schema that has it: `event` in `Event`.
#[test]
fn no_schema_has_the_name_of_a_member_of_its_alternatives() {
    let document = document(&OPERATIONS);
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        for one in schema["oneOf"].as_array().into_iter().flatten() {
            let target = one["$ref"].as_str().unwrap().strip_prefix('#').unwrap();
            let members = document.pointer(target).unwrap()["properties"].as_object().unwrap();
            let same = members.keys().find(|member| member.eq_ignore_ascii_case(name));
            assert_eq!(same, None, "{name}: {target}");
        }
    }
}

/// oapi-codegen makes a Go type of each component, whatever its kind, and spells `port` and `Port` alike.
#[test]
fn no_name_is_that_of_two_components() {
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

/// openapi-generator ignores `const`, and takes no members but a description beside a reference.
#[test]
fn constants_are_enums_and_references_are_alone() {
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

/// Without a format, openapi-generator takes 32 bits for every whole number; a resourceVersion has more.
#[test]
fn every_number_says_its_width() {
    let mut numbers = 0;
    for (path, schema) in schemas() {
        let types: Vec<_> = match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect(),
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
