//! The schemas of all bodies, derived from the types that read and write them.
//!
//! Owns: what no single type expresses: a registration with its name in the path has no name in its body, a single
//! instance has more members than an instance of a set, and the shape of events.

use std::collections::BTreeSet;

use schemars::{
    JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, transform::RecursiveTransform,
};
use serde_json::{Map, Value, json};

use super::values;
use crate::http::{
    batch, changes, cluster, detail, encode, heartbeats, problem, services, validate,
};

const PATH: &str = "#/components/schemas";

pub(super) fn reference(name: &str) -> String {
    format!("{PATH}/{name}")
}

/// All schemas by name.
pub(super) fn all() -> Map<String, Value> {
    let mut all = request_schemas();
    for (name, schema) in response_schemas() {
        // Both contain the vocabularies, with equal schemas.
        all.insert(name, schema);
    }
    add_variants(&mut all);
    all.extend(events());
    let description = "An instance that is new, has changed, or matches the query now, and the revision of the set \
                       after this change.";
    let upsert = merged(&all, &["Remove", "Instance"], description);
    all.insert("Upsert".to_owned(), upsert);
    all
}

/// The schemas of request bodies.
fn request_schemas() -> Map<String, Value> {
    let mut generator = settings().for_deserialize().into_generator();
    add::<validate::RegistrationBody>(&mut generator);
    add::<batch::BatchBody>(&mut generator);
    add::<heartbeats::HeartbeatBody>(&mut generator);
    add::<heartbeats::LeaseLengthBody>(&mut generator);
    add::<heartbeats::BatchBody<'static>>(&mut generator);
    add::<changes::StateBody>(&mut generator);
    let patch = values::AttributesPatch::json_schema(&mut generator);
    let mut all = generator.take_definitions(true);
    all.insert("AttributesPatch".to_owned(), patch.into());
    all
}

/// The schemas of response bodies.
fn response_schemas() -> Map<String, Value> {
    let mut generator = settings().for_serialize().into_generator();
    add::<encode::InstanceJson<'static>>(&mut generator);
    add::<encode::Renewal>(&mut generator);
    add::<detail::Detail>(&mut generator);
    add::<batch::BatchResult>(&mut generator);
    add::<heartbeats::BatchResult<'static>>(&mut generator);
    add::<services::ServicesJson<'static>>(&mut generator);
    add::<cluster::ClusterJson<'static>>(&mut generator);
    add::<problem::wire::ProblemBody<'static>>(&mut generator);
    generator.take_definitions(true)
}

fn settings() -> SchemaSettings {
    SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
        .with_transform(RecursiveTransform(use_openapi_format))
}

/// schemars writes formats such as `uint16`, which OpenAPI does not have; it has `int32` and `int64`.
fn use_openapi_format(schema: &mut Schema) {
    let is_rust_format =
        |format: &Value| format.as_str().is_some_and(|format| format.starts_with("uint"));
    if schema.get("format").is_some_and(is_rust_format) {
        let format = values::integer_format(schema.get("maximum").and_then(Value::as_i64));
        schema.insert("format".to_owned(), format.into());
    }
}

fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
    let _ = generator.subschema_for::<T>();
}

/// Adds the schemas that are variants of one type.
fn add_variants(all: &mut Map<String, Value>) {
    let Some(Value::Object(registration)) = all.get("Registration").cloned() else { return };
    let in_path = without(registration.clone(), &["namespace", "name"]);
    let without_service = without(in_path.clone(), &["service"]);
    all.insert("RegistrationOfBatch".to_owned(), registration.into());
    all.insert("Registration".to_owned(), in_path.into());
    all.insert("RegistrationOfService".to_owned(), without_service.into());
    if let Some(items) = all
        .get_mut("RegistrationBatch")
        .and_then(|it| it.pointer_mut("/properties/instances/items"))
    {
        *items = json!({"$ref": reference("RegistrationOfBatch")});
    }
    let lease = merged(all, &["Lease", "Renewal"], "The terms of a lease, and its remaining time.");
    all.insert("LeaseDetail".to_owned(), lease);
    let description = "A single instance, as known to the replica that answers.";
    let mut single = merged(all, &["Instance", "Detail"], description);
    if let Some(lease) = single.pointer_mut("/properties/lease") {
        *lease = json!({"$ref": reference("LeaseDetail"), "description": "The terms of its lease, and its remaining \
                                                                          time."});
    }
    all.insert("InstanceDetail".to_owned(), single);
    all.remove("Detail");
    if let Some(Value::Object(replica)) = all.get_mut("Replica") {
        replica.remove("anyOf");
        replica.insert("oneOf".to_owned(), references(&["OwnReplica", "OtherReplica"]).into());
    }
    let description = "An instance as discovery returns it.";
    if let Some(instance) = all.get_mut("Instance").and_then(Value::as_object_mut) {
        instance.insert("description".to_owned(), description.into());
    }
}

/// The same object without these members.
fn without(mut object: Map<String, Value>, members: &[&str]) -> Map<String, Value> {
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        members.iter().for_each(|member| drop(properties.remove(*member)));
    }
    if let Some(required) = object.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !members.iter().any(|member| name == member));
        if required.is_empty() {
            object.remove("required");
        }
    }
    object
}

/// One object with the members of several.
fn merged(all: &Map<String, Value>, names: &[&str], description: &str) -> Value {
    let (mut properties, mut required) = (Map::new(), BTreeSet::new());
    for schema in names.iter().filter_map(|name| all.get(*name)) {
        properties.extend(schema["properties"].as_object().cloned().unwrap_or_default());
        required
            .extend(schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
    }
    json!({"type": "object", "description": description, "properties": properties, "required": required})
}

/// Schemas of sets and events, whose JSON is written by hand.
fn events() -> Map<String, Value> {
    let label = |description: &str| json!({"type": "string", "description": description});
    let mut generator = settings().into_generator();
    let revision: Value = values::Revision::json_schema(&mut generator).into();
    let set = json!({
        "type": "object",
        "description": "The instances of a service that match the query.",
        "properties": {
            "namespace": label("The namespace of the service."),
            "service": label("The name of the service."),
            "revision": revision,
            "instances": {
                "type": "array",
                "items": {"$ref": reference("Instance")},
                "description": "The instances, in the requested order.",
            },
        },
        "required": ["namespace", "service", "revision", "instances"],
    });
    let remove = json!({
        "type": "object",
        "description": "An instance that is gone, or no longer matches the query.",
        "properties": {
            "namespace": label("The namespace of the instance."),
            "service": label("The service that the instance belonged to."),
            "name": label("The name of the instance."),
            "revision": revision,
        },
        "required": ["namespace", "service", "name", "revision"],
    });
    let events = json!({
        "description": "One event of a watch. Changes that were made together are sent together, and only the last \
                        of these events has an id: the revision of each service, in the order of the query. The \
                        stream also has comments (`: alive`, every 15 s) and `retry`.",
        "oneOf": references(&["SnapshotEvent", "UpsertEvent", "RemoveEvent"]),
    });
    Map::from_iter([
        ("Discovery".to_owned(), set),
        ("Remove".to_owned(), remove),
        ("WatchEvent".to_owned(), events),
        (
            "SnapshotEvent".to_owned(),
            event("snapshot", "Discovery", "All instances that match the query."),
        ),
        (
            "UpsertEvent".to_owned(),
            event("upsert", "Upsert", "An instance that is new or has changed."),
        ),
        ("RemoveEvent".to_owned(), event("remove", "Remove", "An instance that left the set.")),
    ])
}

/// References to alternative schemas, which differ in the values of one member. There is no discriminator: it would
/// only repeat these values, and openapi-generator would generate Rust code that removes the member before it reads the
/// schema that requires it.
fn references(schemas: &[&str]) -> Vec<Value> {
    schemas.iter().map(|name| json!({"$ref": reference(name)})).collect()
}

/// Named after the keyword that OpenAPI 3.2 has for the items of a stream.
fn event(kind: &str, data: &str, description: &str) -> Value {
    json!({
        "type": "object",
        "description": description,
        "properties": {
            "event": {"type": "string", "enum": [kind], "description": "The type of the event."},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": {"$ref": reference(data)},
                "description": "The data as JSON, in a string.",
            },
            "id": {"type": "string", "description": "The value for Last-Event-ID."},
        },
        "required": ["event", "data"],
    })
}
