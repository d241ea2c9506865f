//! More than one caller, or one namespace, may ask for.

use super::pair::{Pair, Replica, json, raw};

/// Each request once the bucket of two is empty, in one write, so that no time passes between them.
pub(super) fn pairs() -> Vec<Pair> {
    let request = |line: &str| format!("{line} HTTP/1.1\r\nhost: a\r\nx-request-id: r\r\n\r\n");
    let instance = "/v1/namespaces/<<ns>>/instances/a";
    let lines = [
        "GET /v1/services?a".to_owned(),
        "GET /v1/services?a".to_owned(),
        "GET /v1/services?a".to_owned(),
        format!("GET {instance}"),
        format!("PUT {instance}/heartbeat"),
        format!("DELETE {instance}"),
        "GET /v1/namespaces/<<ns>>/services/a?wait=1s".to_owned(),
        "GET /".to_owned(),
        "GET /openapi.json".to_owned(),
        "GET /v1/cluster?a".to_owned(),
        // What is refused for another reason before is not counted.
        "GET /nothing".to_owned(),
        "PUT /v1/services".to_owned(),
        format!("PUT {instance}_/state"),
    ];
    let callers: String = lines.iter().map(|line| request(line)).collect();
    let write = format!("DELETE {instance}");
    let writes =
        [&write, &write, &write, &format!("PUT {instance}/heartbeat"), &format!("GET {instance}")];
    let writes: String = writes.iter().map(|line| request(line)).collect();
    let one = |name: &str| {
        format!(
            r#"{{"namespace": "<<ns>>", "name": "{name}", "service": "a", "hostname": "a.example"}}"#
        )
    };
    let batch = format!(r#"{{"instances": [{}, {}, {}]}}"#, one("a"), one("b"), one("c"));
    vec![
        raw("rate of a caller", callers, lines.len()).on(Replica::CallerRate),
        json("rate of writes: a batch", "POST /v1/instances", batch).on(Replica::NamespaceRate),
        raw("rate of writes: one by one", writes, 5).on(Replica::NamespaceRate),
    ]
}
