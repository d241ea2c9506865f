//! Which field manager owns which labels of an object, from `metadata.managedFields`.
//!
//! Owns: decoding that field, of which only the keys of labels are kept. Does not own: what follows from it
//! (`rollcall_model::registration`).

use std::collections::{BTreeMap, BTreeSet};

use rollcall_api::FIELD_MANAGER;
use serde::{Deserialize, de::IgnoredAny};

/// The field managers of an object.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct ManagedFields(Vec<Manager>);

/// A field manager. It is listed once for its applies and once for its other writes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Manager {
    #[serde(rename = "manager")]
    name: String,
    #[serde(rename = "fieldsV1")]
    owned: Owned,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Owned {
    #[serde(rename = "f:metadata")]
    metadata: OwnedMetadata,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct OwnedMetadata {
    /// The keys are `f:` and the key of the label; `.` stands for the map itself.
    #[serde(rename = "f:labels")]
    labels: BTreeMap<String, IgnoredAny>,
}

impl ManagedFields {
    /// The keys of the labels that registrations have set, by an apply or a merge patch, and that no other manager owns;
    /// sorted.
    pub(super) fn labels_of_registrations(&self) -> impl Iterator<Item = &str> {
        let mut keys: BTreeSet<&str> = self.labels(true).collect();
        if !keys.is_empty() {
            let others: BTreeSet<&str> = self.labels(false).collect();
            keys.retain(|key| !others.contains(key));
        }
        keys.into_iter()
    }

    /// The labels of rollcall's own manager, or those of all other managers.
    fn labels(&self, own: bool) -> impl Iterator<Item = &str> {
        let managers = self.0.iter().filter(move |it| (it.name == FIELD_MANAGER) == own);
        let labels = managers.flat_map(|it| it.owned.metadata.labels.keys());
        labels.filter_map(|field| field.strip_prefix("f:"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    fn manager(name: &str, operation: &str, labels: &[&str]) -> Value {
        let labels = labels.iter().map(|key| (format!("f:{key}"), json!({})));
        let labels: Map<_, _> = labels.chain([(".".to_owned(), json!({}))]).collect();
        json!({
            "manager": name, "operation": operation, "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:labels": labels}, "f:spec": {"f:service": {}}},
        })
    }

    fn of_registrations(managers: Value) -> Vec<String> {
        let managers: ManagedFields = serde_json::from_value(managers).unwrap();
        managers.labels_of_registrations().map(str::to_owned).collect()
    }

    #[test]
    fn label_of_a_registration_is_listed_unless_another_manager_owns_it() {
        assert_eq!(of_registrations(json!([])), [""; 0]);
        let applied = manager("rollcall", "Apply", &["track", "example.com/tier", "shared"]);
        let merged = manager("rollcall", "Update", &["track", "merged"]);
        let other = manager("kubectl", "Apply", &["team", "shared"]);
        let status = json!({"manager": "rollcall", "fieldsV1": {"f:status": {}}});
        assert_eq!(
            of_registrations(json!([applied, merged, other, status, {"manager": "bare"}])),
            ["example.com/tier", "merged", "track"]
        );
    }
}
