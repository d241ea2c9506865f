//! Examples of request and response bodies. A test in `document` validates them against their schemas.

use serde_json::{Value, json};

use crate::http::problem::ProblemKind;

/// The example for a schema of a body.
pub(super) fn for_schema(schema: &str) -> Option<Value> {
    Some(match schema {
        "Registration" => registration(json!({"service": "orders"})),
        "RegistrationOfService" => registration(json!({})),
        "RegistrationBatch" => json!({"instances": [
            registration(json!({"namespace": "shop", "name": "orders-1", "service": "orders"})),
            {"namespace": "shop", "service": "ledger", "hostname": "ledger.example.com", "lease": {"mode": "Permanent"}},
        ]}),
        "RegistrationBatchResult" => {
            json!({"created": 1, "registered": 0, "failed": 1, "results": [
                {"namespace": "shop", "name": "orders-1", "status": 201, "uid": UID},
                {"namespace": "shop", "name": "orders-2", "status": 422, "problem": problem(ProblemKind::BadFields)},
            ]})
        }
        "Heartbeat" => json!({"health": "Warning", "note": "the disk is nearly full"}),
        "HeartbeatBatch" => json!({"instances": [
            {"namespace": "shop", "name": "orders-1", "health": "Passing"},
            {"namespace": "shop", "name": "ledger"},
        ]}),
        "HeartbeatBatchResult" => json!({
            "renewed": 1, "recorded": 0,
            "unknown": [{"namespace": "shop", "name": "ledger", "reason": "there is no instance ledger"}],
            "gone": [], "refused": [],
        }),
        "LeaseLength" => json!({"durationSeconds": 300}),
        "AttributesPatch" => json!({"team": "blue", "old": null}),
        "StateChange" => json!({"state": "Draining"}),
        "Renewal" => renewal(),
        "InstanceDetail" => detail(),
        "Discovery" => set(),
        "WatchEvent" => json!({"event": "snapshot", "data": set().to_string(), "id": REVISION}),
        "Services" => json!({"services": [{
            "namespace": "shop", "service": "orders", "revision": REVISION, "instances": 1,
            "phases": {"Terminating": 0, "Expired": 0, "OutOfService": 0, "Draining": 0, "Stopping": 0, "Critical": 0, "Warning": 0, "Ready": 1},
        }]}),
        _ => return None,
    })
}

pub(super) fn problem(kind: ProblemKind) -> Value {
    let mut problem = json!({
        "type": kind.uri(),
        "title": kind.title(),
        "status": kind.status().as_u16(),
        "detail": "what is wrong with this request, and what to do about it",
    });
    let extensions = match kind {
        ProblemKind::BadFields => json!({
            "detail": "weight: must be a number from 0 to 65535",
            "errors": [{"in": "body", "field": "weight", "detail": "must be a number from 0 to 65535"}],
        }),
        ProblemKind::Forbidden => json!({
            "user": "system:serviceaccount:shop:orders", "verb": "update",
            "resource": "serviceinstances/heartbeat", "namespace": "shop",
        }),
        ProblemKind::Evicted => {
            json!({"evictedAt": TIME, "reason": "no heartbeat within its lease"})
        }
        ProblemKind::OtherIncarnation => json!({"uid": UID}),
        ProblemKind::OtherVersion => json!({"resourceVersion": "4711"}),
        _ => return problem,
    };
    if let (Some(problem), Value::Object(extensions)) = (problem.as_object_mut(), extensions) {
        problem.extend(extensions);
    }
    problem
}

/// One line of the snapshot.
pub(super) fn line() -> String {
    format!("{}\n", instance())
}

const UID: &str = "5c8f1f6e-6a0b-4f0e-9d53-3f6f7f3c2a11";
const REVISION: &str = "8f14e45fceea167a";
const TIME: &str = "2026-01-02T03:04:05.678Z";

/// Adds the fields that every registration of the examples has.
fn registration(mut fields: Value) -> Value {
    let common = json!({
        "addresses": ["10.0.0.7"],
        "ports": [{"name": "http", "port": 8080}],
        "version": "2.3.1",
        "attributes": {"team": "blue"},
        "lease": {"durationSeconds": 30},
    });
    if let (Some(fields), Value::Object(common)) = (fields.as_object_mut(), common) {
        fields.extend(common);
    }
    fields
}

fn set() -> Value {
    json!({"namespace": "shop", "service": "orders", "revision": REVISION, "instances": [instance()]})
}

fn instance() -> Value {
    json!({
        "namespace": "shop", "name": "orders-1", "uid": UID, "service": "orders",
        "addresses": ["10.0.0.7"],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "version": "2.3.1", "tags": [], "weight": 100, "priority": 0,
        "attributes": {"team": "blue"}, "labels": {},
        "state": "Up", "health": "Passing", "phase": "Ready",
        "dnsName": "orders-1.orders.shop.svc.rollcall.internal",
        "lease": {"mode": "Heartbeat", "durationSeconds": 30, "onExpiry": "Evict", "evictAfterSeconds": 60},
        "createdAt": TIME,
    })
}

fn renewal() -> Value {
    json!({"expiresAt": "2026-01-02T03:04:35.678Z", "expiresInMs": 30_000, "renewAfterSeconds": 10})
}

fn detail() -> Value {
    let mut detail = instance();
    if let (Some(lease), Value::Object(renewal)) =
        (detail.pointer_mut("/lease").and_then(Value::as_object_mut), renewal())
    {
        lease.extend(renewal);
    }
    let extensions = json!({
        "resourceVersion": "4711",
        "lastHeartbeat": {"at": TIME, "source": "http", "replica": "rollcall-0"},
        "verdict": {
            "horizon": TIME, "notBefore": null, "evictsAt": null,
            "stored": {"phase": "Ready", "reason": "LeaseRenewed"},
        },
        "why": "Ready: its state is Up and its health is Passing; its lease runs until 2026-01-02T03:04:35.678Z",
    });
    if let (Some(detail), Value::Object(extensions)) = (detail.as_object_mut(), extensions) {
        detail.extend(extensions);
    }
    detail
}
