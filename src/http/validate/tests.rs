//! Tests of validation: defaults, bounds, and all invalid fields at once.

use serde_json::{Value, json};

use super::{patch as patch_of, *};
use crate::http::body;

fn read(value: &Value, in_path: Option<&str>) -> Result<Registration, Problem> {
    let bytes = serde_json::to_vec(value).unwrap();
    let Object(body) = body::json::<Object<RegistrationBody>>(&bytes)?;
    registration(body, in_path)
}

fn fields(value: &Value) -> Vec<String> {
    let flaws = read(value, None).unwrap_err().flaws;
    flaws.into_iter().map(|flaw| flaw.field).collect()
}

#[test]
fn minimal_body_gets_every_default() {
    let read = read(&json!({"service": "orders", "addresses": ["10.0.0.7"]}), None).unwrap();
    assert_eq!((read.weight, read.priority), (100, 0));
    assert_eq!((read.lease, read.health), (None, None));
    assert_eq!(read.address, Address::Ips(["10.0.0.7".parse().unwrap()].into()));
}

#[test]
fn partial_lease_gets_the_documented_defaults() {
    let body = json!({"service": "a", "hostname": "b.example", "lease": {"durationSeconds": 5}});
    let lease = read(&body, None).unwrap().lease.unwrap();
    assert_eq!(lease, Lease { duration: Duration::from_secs(5), ..Lease::default() });
}

#[test]
fn all_invalid_fields_are_named_at_once() {
    let body = json!({
        "service": "Orders", "addresses": ["10.0.0.7", "ten", "10.0.0.7"],
        "ports": [{"name": "Http", "port": 0, "protocol": "tcp"}, {"port": 80, "appProtocol": ""},
                  {"name": "a", "port": 1}, {"name": "a", "port": 2}],
        "version": "", "tags": ["a", "a", "b c"], "zone": "-", "weight": 65536, "priority": -1,
        "attributes": {"a=b": "", "long": "x".repeat(1025)}, "labels": {"a b": "c d"},
        "health": "passing",
        "lease": {"mode": "x", "durationSeconds": 1, "onExpiry": "y", "evictAfterSeconds": 86401},
    });
    assert_eq!(
        fields(&body),
        [
            "service",
            "addresses[1]",
            "addresses[2]",
            "ports[0].name",
            "ports[0].port",
            "ports[0].protocol",
            "ports[1].name",
            "ports[1].appProtocol",
            "ports[3].name",
            "version",
            "tags[1]",
            "tags[2]",
            "zone",
            "weight",
            "priority",
            "attributes.a=b",
            "attributes.long",
            "labels.a b",
            "labels.a b",
            "health",
            "lease.mode",
            "lease.onExpiry",
            "lease.durationSeconds",
            "lease.evictAfterSeconds",
        ]
    );
}

#[test]
fn too_many_items_are_refused() {
    let many = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
    let ports: Vec<_> = many(33).iter().map(|n| json!({"name": n, "port": 1})).collect();
    let attributes: BTreeMap<_, _> = many(65).into_iter().map(|n| (n, "")).collect();
    let ips: Vec<_> = many(17).iter().map(|n| format!("10.0.0.{n}")).collect();
    let body = json!({"service": "a", "addresses": ips, "ports": ports, "tags": many(33),
                      "attributes": attributes});
    assert_eq!(fields(&body), ["addresses", "ports", "tags", "attributes"]);
}

#[test]
fn patch_has_the_bounds_of_the_attributes() {
    let flaws = |patch: BTreeMap<String, Option<String>>| {
        let flaws = patch_of(&patch).err().map(|problem| problem.flaws).unwrap_or_default();
        flaws.into_iter().map(|flaw| flaw.field).collect::<Vec<_>>()
    };
    let many = |n: usize| (0..n).map(|n| (n.to_string(), None)).collect::<BTreeMap<_, _>>();
    assert_eq!(flaws(many(64)), [""; 0]);
    assert_eq!(flaws(many(65)), ["attributes"]);
    let long = Some("x".repeat(1025));
    let wrong = [("a=b".to_owned(), None), ("long".to_owned(), long)];
    assert_eq!(flaws(wrong.into()), ["attributes.a=b", "attributes.long"]);
}

#[test]
fn exactly_one_of_addresses_and_hostname_is_required() {
    assert_eq!(fields(&json!({"service": "a"})), ["addresses"]);
    let both = json!({"service": "a", "addresses": ["10.0.0.7"], "hostname": "b.example"});
    assert_eq!(fields(&both), ["addresses"]);
    assert_eq!(fields(&json!({"service": "a", "addresses": []})), ["addresses"]);
}

#[test]
fn service_in_body_must_match_the_path() {
    let body = |service: &str| json!({"service": service, "addresses": ["10.0.0.7"]});
    assert!(read(&body("orders"), Some("orders")).is_ok());
    assert_eq!(read(&body("other"), Some("orders")).unwrap_err().flaws[0].field, "service");
    assert_eq!(read(&json!({"hostname": "a.b"}), Some("orders")).unwrap().service, "orders");
}

#[test]
fn lease_length_has_bounds() {
    assert_eq!(duration(Some(Integer(300))).unwrap(), Duration::from_secs(300));
    for seconds in [None, Some(Integer(1)), Some(Integer(86_401)), Some(Integer(-5))] {
        let problem = duration(seconds).unwrap_err();
        assert_eq!(problem.flaws[0].field, "durationSeconds");
    }
}
