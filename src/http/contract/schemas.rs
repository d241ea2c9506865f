//! The schemas of all bodies, derived from the types that read and write them.
//!
//! Owns: what no single type says: that a registration in a path has no name in its body, that an instance alone
//! has more than one in a set, and the shape of events.

use std::collections::BTreeSet;

use schemars::{
    JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, transform::RecursiveTransform,
};
use serde_json::{Map, Value, json};

use super::words;
use crate::http::{
    batch, changes, cluster, detail, encode, heartbeats, problem, services, validate,
};

/// Where schemas are.
const PATH: &str = "#/components/schemas";

/// The reference to a schema.
pub(super) fn reference(name: &str) -> String {
    format!("{PATH}/{name}")
}

/// All schemas by name.
pub(super) fn all() -> Map<String, Value> {
    let mut all = read();
    for (name, schema) in written() {
        // The vocabularies are in both, and the same.
        all.insert(name, schema);
    }
    refine(&mut all);
    all.extend(events());
    let says = "An instance is new, or looks different, or is among those asked for now; and the revision of the set to \
                which that leads.";
    let upsert = merged(&all, &["Remove", "Instance"], says);
    all.insert("Upsert".to_owned(), upsert);
    all
}

/// What bodies of requests are read into.
fn read() -> Map<String, Value> {
    let mut generator = settings().for_deserialize().into_generator();
    add::<validate::RegistrationBody>(&mut generator);
    add::<batch::BatchBody>(&mut generator);
    add::<heartbeats::HeartbeatBody>(&mut generator);
    add::<heartbeats::LengthBody>(&mut generator);
    add::<heartbeats::BatchBody<'static>>(&mut generator);
    add::<changes::StateBody>(&mut generator);
    let patch = words::AttributesPatch::json_schema(&mut generator);
    let mut all = generator.take_definitions(true);
    all.insert("AttributesPatch".to_owned(), patch.into());
    all
}

/// What answers are written from.
fn written() -> Map<String, Value> {
    let mut generator = settings().for_serialize().into_generator();
    add::<encode::InstanceJson<'static>>(&mut generator);
    add::<encode::Renewal>(&mut generator);
    add::<detail::Detail>(&mut generator);
    add::<batch::BatchAnswer>(&mut generator);
    add::<heartbeats::BatchAnswer<'static>>(&mut generator);
    add::<services::ServicesJson<'static>>(&mut generator);
    add::<cluster::ClusterJson<'static>>(&mut generator);
    add::<problem::wire::Wire<'static>>(&mut generator);
    generator.take_definitions(true)
}

fn settings() -> SchemaSettings {
    SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
        .with_transform(RecursiveTransform(plain_number))
}

/// `uint16` and the like are formats of Rust; OpenAPI has `int32` and `int64`.
fn plain_number(schema: &mut Schema) {
    let is_of_rust = |format: &Value| format.as_str().is_some_and(|it| it.starts_with("uint"));
    if schema.get("format").is_some_and(is_of_rust) {
        let width = words::width(schema.get("maximum").and_then(Value::as_i64));
        schema.insert("format".to_owned(), width.into());
    }
}

fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
    let _ = generator.subschema_for::<T>();
}

/// Makes the variants of one type.
fn refine(all: &mut Map<String, Value>) {
    let Some(Value::Object(registration)) = all.get("Registration").cloned() else { return };
    let in_path = without(registration.clone(), &["namespace", "name"]);
    let of_service = without(in_path.clone(), &["service"]);
    all.insert("RegistrationOfBatch".to_owned(), registration.into());
    all.insert("Registration".to_owned(), in_path.into());
    all.insert("RegistrationOfService".to_owned(), of_service.into());
    if let Some(items) = all
        .get_mut("RegistrationBatch")
        .and_then(|it| it.pointer_mut("/properties/instances/items"))
    {
        *items = json!({"$ref": reference("RegistrationOfBatch")});
    }
    let lease = merged(
        all,
        &["Lease", "Renewal"],
        "The terms of a lease, and how long it has still to run.",
    );
    all.insert("LeaseDetail".to_owned(), lease);
    let says = "An instance that is shown alone, as the replica that answers sees it.";
    let mut alone = merged(all, &["Instance", "Detail"], says);
    if let Some(lease) = alone.pointer_mut("/properties/lease") {
        *lease = json!({"$ref": reference("LeaseDetail"), "description": "Which life it has."});
    }
    all.insert("InstanceDetail".to_owned(), alone);
    all.remove("Detail");
    if let Some(Value::Object(replica)) = all.get_mut("Replica") {
        replica.remove("anyOf");
        replica.insert("oneOf".to_owned(), one_of(&["OwnReplica", "OtherReplica"]).into());
    }
    let says = "An instance as discovery shows it.";
    if let Some(instance) = all.get_mut("Instance").and_then(Value::as_object_mut) {
        instance.insert("description".to_owned(), says.into());
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
fn merged(all: &Map<String, Value>, names: &[&str], says: &str) -> Value {
    let (mut properties, mut required) = (Map::new(), BTreeSet::new());
    for schema in names.iter().filter_map(|name| all.get(*name)) {
        properties.extend(schema["properties"].as_object().cloned().unwrap_or_default());
        required
            .extend(schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
    }
    json!({"type": "object", "description": says, "properties": properties, "required": required})
}

/// What is written by hand, byte by byte: sets and events.
fn events() -> Map<String, Value> {
    let label = |says: &str| json!({"type": "string", "description": says});
    let mut generator = settings().into_generator();
    let revision: Value = words::Revision::json_schema(&mut generator).into();
    let set = json!({
        "type": "object",
        "description": "The instances of a service that were asked for.",
        "properties": {
            "namespace": label("Where the service is."),
            "service": label("Its name."),
            "revision": revision,
            "instances": {
                "type": "array",
                "items": {"$ref": reference("Instance")},
                "description": "In the order asked for.",
            },
        },
        "required": ["namespace", "service", "revision", "instances"],
    });
    let remove = json!({
        "type": "object",
        "description": "An instance is gone, or not among those asked for any more.",
        "properties": {
            "namespace": label("Where it was."),
            "service": label("To which service it belonged."),
            "name": label("Its name."),
            "revision": revision,
        },
        "required": ["namespace", "service", "name", "revision"],
    });
    let events = json!({
        "description": "One event of a watch. What changed together is told together, and only the last of these events has \
                        an id: the revision of each service, in the order asked. Beside events there are comments \
                        (`: alive`, every 15 s) and `retry`.",
        "oneOf": one_of(&["SnapshotEvent", "UpsertEvent", "RemoveEvent"]),
    });
    Map::from_iter([
        ("Discovery".to_owned(), set),
        ("Remove".to_owned(), remove),
        ("WatchEvent".to_owned(), events),
        (
            "SnapshotEvent".to_owned(),
            event("snapshot", "Discovery", "All instances that were asked for."),
        ),
        (
            "UpsertEvent".to_owned(),
            event("upsert", "Upsert", "An instance that is new or looks different."),
        ),
        (
            "RemoveEvent".to_owned(),
            event("remove", "Remove", "An instance that no longer belongs to the set."),
        ),
    ])
}

/// References to schemas that a member tells apart: in each it has values of its own. A discriminator would say so again, and
/// openapi-generator then writes Rust that takes the member away before the schema that requires it is read.
fn one_of(schemas: &[&str]) -> Vec<Value> {
    schemas.iter().map(|name| json!({"$ref": reference(name)})).collect()
}

/// In the words of OpenAPI 3.2 for items of a stream.
fn event(kind: &str, data: &str, says: &str) -> Value {
    json!({
        "type": "object",
        "description": says,
        "properties": {
            "event": {"type": "string", "enum": [kind], "description": "Which event it is."},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": {"$ref": reference(data)},
                "description": "JSON, as a string.",
            },
            "id": {"type": "string", "description": "For Last-Event-ID."},
        },
        "required": ["event", "data"],
    })
}
