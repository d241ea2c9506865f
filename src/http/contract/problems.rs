//! Problems in the contract: which of them a call may answer with, by status.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::{Map, Value, json};

use super::{examples, headers, names, schemas};
use crate::http::{operation::Operation, problem::Kind};

/// Every answer that is a problem, by the name of the component.
pub(super) fn components(operations: &[Operation]) -> Map<String, Value> {
    let of_none =
        [Kind::UnknownRoute, Kind::MethodNotAllowed].map(|kind| (status(kind), vec![kind]));
    let all = operations.iter().flat_map(by_status).chain(of_none);
    all.map(|(status, kinds)| (name(&kinds), response(status, &kinds))).collect()
}

/// The answers to a call that are problems, by status.
pub(super) fn responses(operation: &Operation) -> Map<String, Value> {
    let reference =
        |kinds: &[Kind]| json!({"$ref": format!("#/components/responses/{}", name(kinds))});
    by_status(operation)
        .iter()
        .map(|(status, kinds)| (status.to_string(), reference(kinds)))
        .collect()
}

fn by_status(operation: &Operation) -> BTreeMap<u16, Vec<Kind>> {
    let mut by_status: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
    for kind in operation.problems() {
        let kinds = by_status.entry(status(kind)).or_default();
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    by_status
}

fn status(kind: Kind) -> u16 {
    kind.status().as_u16()
}

/// The kinds in CamelCase, as the name of a component.
fn name(kinds: &[Kind]) -> String {
    let camel = |kind: &Kind| {
        let words = names::camel(kind.words().0);
        // A refusal of Kubernetes means another thing with each status.
        if let Kind::Refused(status) = kind { format!("{words}{status}") } else { words }
    };
    kinds.iter().map(camel).collect::<Vec<_>>().join("Or")
}

/// All that may be behind a status. The member `status` of the body is that of the answer.
fn response(status: u16, kinds: &[Kind]) -> Value {
    let titles: Vec<_> =
        kinds.iter().map(|kind| format!("{}: {}.", kind.words().0, says(*kind))).collect();
    let types: Vec<_> = kinds.iter().copied().map(Kind::uri).collect();
    let examples: Map<_, _> = kinds
        .iter()
        .map(|kind| (kind.words().0.to_owned(), json!({"value": examples::problem(*kind)})))
        .collect();
    let mut with = headers::response(headers::of_problem(status));
    if kinds.contains(&Kind::Terminating) {
        // What is refused for another reason will be refused again.
        with.insert("Retry-After".to_owned(), headers::optional("Retry-After"));
    }
    json!({
        "description": titles.join(" "),
        "headers": with,
        "content": {"application/problem+json": {
            "schema": {"$ref": schemas::reference("Problem")},
            "examples": examples,
        }},
        // Members beside the reference would say this to a validator, and make a generator fail or write a type for
        // each answer. The tests read it here.
        "x-problem-types": types,
    })
}

/// What a person should know of a kind.
fn says(kind: Kind) -> Cow<'static, str> {
    match kind {
        Kind::Refused(400) => "the Kubernetes API cannot read what it was sent, and says why".into(),
        Kind::Refused(403) => "a policy, a quota or a webhook of the cluster refuses it, and says why".into(),
        Kind::Refused(409) => {
            "the instance is Permanent and has no lease to renew, or changes faster than it can be stored".into()
        }
        Kind::Refused(421) => "this replica looks after another namespace only (--watch-namespace)".into(),
        Kind::Refused(422) => "the Kubernetes API refuses what is to be stored, and says why".into(),
        Kind::Refused(502) => "what is stored under this name cannot be read by this version".into(),
        _ => kind.words().1.into(),
    }
}
