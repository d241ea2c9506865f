//! Requests above the rate limits of a caller and of a namespace.

use super::pair::{Pair, Replica, json, raw};

/// Each request when the bucket of two is empty, all in one write so that the bucket does not refill in between.
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
        // A request that is refused earlier for another reason is not counted.
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
        raw("rate of a caller", callers, lines.len()).to(Replica::CallerRate),
        json("rate of writes: a batch", "POST /v1/instances", batch).to(Replica::NamespaceRate),
        raw("rate of writes: one by one", writes, 5).to(Replica::NamespaceRate),
    ]
}
