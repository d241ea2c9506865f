//! Problems in the contract: the problems of each call, by status.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::{Map, Value, json};

use super::{examples, headers, names, schemas};
use crate::http::{operation::Operation, problem::ProblemKind};

/// The response objects of all problems, by component name.
pub(super) fn components(operations: &[Operation]) -> Map<String, Value> {
    let of_no_operation = [ProblemKind::UnknownRoute, ProblemKind::MethodNotAllowed]
        .map(|kind| (status(kind), vec![kind]));
    let all = operations.iter().flat_map(by_status).chain(of_no_operation);
    all.map(|(status, kinds)| (name(&kinds), response(status, &kinds))).collect()
}

/// References to the problems of a call, by status.
pub(super) fn responses(operation: &Operation) -> Map<String, Value> {
    let reference =
        |kinds: &[ProblemKind]| json!({"$ref": format!("#/components/responses/{}", name(kinds))});
    by_status(operation)
        .iter()
        .map(|(status, kinds)| (status.to_string(), reference(kinds)))
        .collect()
}

fn by_status(operation: &Operation) -> BTreeMap<u16, Vec<ProblemKind>> {
    let mut by_status: BTreeMap<u16, Vec<ProblemKind>> = BTreeMap::new();
    for kind in operation.problems() {
        let kinds = by_status.entry(status(kind)).or_default();
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    by_status
}

fn status(kind: ProblemKind) -> u16 {
    kind.status().as_u16()
}

/// The kinds in CamelCase, as the name of a component.
fn name(kinds: &[ProblemKind]) -> String {
    let camel = |kind: &ProblemKind| {
        let name = names::camel_case(kind.slug());
        // The meaning of a refusal depends on its status.
        if let ProblemKind::Refused(status) = kind { format!("{name}{status}") } else { name }
    };
    kinds.iter().map(camel).collect::<Vec<_>>().join("Or")
}

/// One response object for all problems with this status.
fn response(status: u16, kinds: &[ProblemKind]) -> Value {
    let descriptions: Vec<_> =
        kinds.iter().map(|kind| format!("{}: {}.", kind.slug(), description(*kind))).collect();
    let types: Vec<_> = kinds.iter().copied().map(ProblemKind::uri).collect();
    let examples: Map<_, _> = kinds
        .iter()
        .map(|kind| (kind.slug().to_owned(), json!({"value": examples::problem(*kind)})))
        .collect();
    let mut response_headers = headers::response(headers::for_problem(status));
    if kinds.contains(&ProblemKind::Terminating) {
        // Optional: after a 409 for another reason, a retry would be refused again.
        response_headers.insert("Retry-After".to_owned(), headers::optional("Retry-After"));
    }
    json!({
        "description": descriptions.join(" "),
        "headers": response_headers,
        "content": {"application/problem+json": {
            "schema": {"$ref": schemas::reference("Problem")},
            "examples": examples,
        }},
        // A validator would need this next to the reference, but there it makes generators fail, or generate a type for
        // each response. The tests read it here.
        "x-problem-types": types,
    })
}

/// The description of a kind.
fn description(kind: ProblemKind) -> Cow<'static, str> {
    match kind {
        ProblemKind::Refused(400) => {
            "the Kubernetes API could not read the request; detail has its reason".into()
        }
        ProblemKind::Refused(403) => {
            "a policy, a quota or a webhook of the cluster refused the request; detail has its \
                               reason"
                .into()
        }
        ProblemKind::Refused(409) => {
            "the lease is Permanent, or the instance changes faster than the write can be stored"
                .into()
        }
        ProblemKind::Refused(421) => {
            "this replica serves another namespace only (--watch-namespace)".into()
        }
        ProblemKind::Refused(422) => {
            "the Kubernetes API refused the object; detail has its reason".into()
        }
        ProblemKind::Refused(502) => {
            "this version of rollcall cannot read the stored object".into()
        }
        _ => kind.title().into(),
    }
}
