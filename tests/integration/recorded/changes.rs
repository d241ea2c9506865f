//! Changes to a part of an instance: attributes, and the operator state.

use super::pair::{Pair, instance, json, pair, service, settle};

pub(super) fn pairs() -> Vec<Pair> {
    let mut all = attributes();
    all.extend(states());
    all
}

fn attributes() -> Vec<Pair> {
    let patch = |name: &str, rest: &str, body: &str| {
        json(format!("attributes: {name}"), instance("PATCH", rest), body)
    };
    let on = "orders-1/attributes";
    let many = |count: usize, value: &str| {
        let entries: Vec<_> = (0..count).map(|at| format!(r#""k{at}": {value}"#)).collect();
        format!("{{{}}}", entries.join(", "))
    };
    let long = |length: usize| format!(r#"{{"long": "{}"}}"#, "x".repeat(length));
    let merge = pair("attributes: a merge patch by its type", instance("PATCH", on));
    vec![
        settle(),
        patch("set and remove", on, r#"{"team": "green", "shard": "7", "old": null}"#),
        patch("the same again", on, r#"{"team": "green", "shard": "7", "old": null}"#),
        patch("nothing", on, "{}"),
        merge.header("content-type: application/merge-patch+json").body(r#"{"shard": null}"#),
        patch("this uid", "orders-1/attributes?uid=<<uid orders-1>>", r#"{"a": "1"}"#),
        patch("another uid", "orders-1/attributes?uid=another", r#"{"a": "2"}"#),
        settle(),
        patch("at a version", on, r#"{"a": "3"}"#).header("if-match: \"<<version orders-1>>\""),
        patch("at another version", on, r#"{"a": "4"}"#).header("if-match: \"1\""),
        patch("If-None-Match", on, r#"{"a": "4"}"#).header("if-none-match: \"1\""),
        patch("unknown", "nobody/attributes", r#"{"a": "4"}"#),
        patch("another namespace", "a/attributes", "{}").header("if-match: *"),
        patch("a number", on, r#"{"a": 1}"#),
        patch("an object", on, r#"{"a": {}}"#),
        patch("twice", on, r#"{"a": "1", "a": "2"}"#),
        patch("an empty key", on, r#"{"": "1"}"#),
        patch("a key with a blank", on, r#"{"a b": "1"}"#),
        patch("a value that is as long as it may be", on, &long(1024)),
        patch("a value that is too long", on, &long(1025)),
        patch("remove the long one", on, r#"{"long": null, "a": null}"#),
        patch("65 of them", on, &many(65, "\"1\"")),
        patch("129 of them", on, &many(129, "null")),
        patch("100 removals", on, &many(100, "null")),
        patch("a list", on, "[]"),
        patch("null", on, "null"),
        patch("no JSON", on, "{'a': 1}"),
        pair("attributes: another type", instance("PATCH", on))
            .header("content-type: application/json-patch+json")
            .body("[]"),
        pair("attributes: no type", instance("PATCH", on)).body("{}"),
        pair("attributes: no body", instance("PATCH", on)),
        pair("attributes: GET", instance("GET", on)),
        pair("attributes: PUT", instance("PUT", on)),
        settle(),
        pair("instance: after attributes", instance("GET", "orders-1")),
    ]
}

fn states() -> Vec<Pair> {
    let put = |name: &str, rest: &str, body: &str| {
        json(format!("state: {name}"), instance("PUT", rest), body)
    };
    let on = "stock-1/state";
    vec![
        put("Draining", on, r#"{"state": "Draining"}"#),
        settle(),
        put("Draining again", on, r#"{"state": "Draining"}"#),
        pair("state: discovery does not show it", service("GET", "stock")),
        put("OutOfService", on, r#"{"state": "OutOfService"}"#),
        settle(),
        pair("instance: OutOfService", instance("GET", "stock-1")),
        put("Up, of this uid", "stock-1/state?uid=<<uid stock-1>>", r#"{"state": "Up"}"#),
        put("another uid", "stock-1/state?uid=another", r#"{"state": "Up"}"#),
        settle(),
        put("at a version", on, r#"{"state": "Draining"}"#)
            .header("if-match: \"<<version stock-1>>\""),
        put("at another version", on, r#"{"state": "Up"}"#).header("if-match: \"1\""),
        settle(),
        put("Up", on, r#"{"state": "Up"}"#),
        put("unknown instance", "nobody/state", r#"{"state": "Up"}"#),
        put("an unknown word", on, r#"{"state": "down"}"#),
        put("null", on, r#"{"state": null}"#),
        put("a number", on, r#"{"state": 1}"#),
        put("nothing", on, "{}"),
        put("twice", on, r#"{"state": "Up", "state": "Up"}"#),
        put("another field", on, r#"{"state": "Up", "why": "x"}"#),
        pair("state: no body", instance("PUT", on)),
        pair("state: DELETE", instance("DELETE", on)),
        settle(),
    ]
}
