//! Partial objects, as a write sends them: each field is set, removed or left as it is.
//!
//! Owns: their types, which mirror the stored kinds with every field optional. Does not own: which fields a
//! write sends (the caller), and sending.

use std::collections::BTreeMap;

use kube::core::TypeMeta;
use rollcall_model::vocabulary::{Health, LeaseMode, OnExpiry, Phase, State};
use serde::{Serialize, Serializer};

use super::instance::Port;

/// What a write does to a field. `Keep` leaves the field out of the request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Edit<T> {
    /// Leaves the field as it is. In a server-side apply this claims no ownership, and gives up earlier
    /// ownership.
    #[default]
    Keep,
    /// Removes the field by sending null. Only for a merge patch (RFC 7396): server-side apply removes what
    /// is left out.
    Remove,
    /// Sets the field.
    Set(T),
}

impl<T> Edit<T> {
    fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// Sets the field, or removes it if there is no value.
    #[must_use]
    pub fn set_or_remove(value: Option<T>) -> Self {
        value.map_or(Self::Remove, Self::Set)
    }

    /// Replaces `Keep` with `Remove`.
    #[must_use]
    pub fn or_remove(self) -> Self {
        if self.is_keep() { Self::Remove } else { self }
    }
}

/// Sets the field if there is a value, and keeps it otherwise.
impl<T> From<Option<T>> for Edit<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Keep, Self::Set)
    }
}

impl<T: Serialize> Serialize for Edit<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Keep | Self::Remove => serializer.serialize_none(),
            Self::Set(value) => value.serialize(serializer),
        }
    }
}

/// A partial [`ServiceInstance`](super::ServiceInstance), for a server-side apply or a merge patch.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ServiceInstancePatch {
    /// `apiVersion` and `kind`; required in an apply.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub types: Option<TypeMeta>,
    /// The fields of `metadata`.
    pub metadata: MetadataPatch,
    /// The fields of `spec`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<SpecPatch>,
    /// The fields of `status`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusPatch>,
}

/// The fields of `metadata` that rollcall writes.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MetadataPatch {
    /// The object's name; required in an apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The incarnation that the object must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The version that the object must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Labels with their values; `None` removes a label.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
    /// Annotations with their values; `None` removes an annotation.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<&'static str, Option<String>>,
}

/// A partial [`ServiceInstanceSpec`](super::ServiceInstanceSpec).
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of ServiceInstanceSpec")]
pub struct SpecPatch {
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub service: Edit<String>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub addresses: Edit<Vec<String>>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub hostname: Edit<String>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub ports: Edit<Vec<Port>>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub version: Edit<String>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub tags: Edit<Vec<String>>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub zone: Edit<String>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub weight: Edit<u16>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub priority: Edit<u16>,
    /// Attributes with their values; `None` removes an attribute.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Option<String>>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub state: Edit<State>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub lease: Edit<LeasePatch>,
}

/// A partial [`Lease`](super::Lease).
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of Lease")]
pub struct LeasePatch {
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub mode: Edit<LeaseMode>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub duration_seconds: Edit<u32>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub on_expiry: Edit<OnExpiry>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub evict_after_seconds: Edit<u32>,
}

/// A partial [`ServiceInstanceStatus`](super::ServiceInstanceStatus).
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of ServiceInstanceStatus")]
pub struct StatusPatch {
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub phase: Edit<Phase>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub conditions: Edit<Vec<WrittenCondition>>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub observed_generation: Edit<i64>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub observed_heartbeat: Edit<String>,
    /// RFC 3339. This is text because the time type of `k8s-openapi` writes no milliseconds.
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub last_heartbeat_time: Edit<String>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub dns_name: Edit<String>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub addresses: Edit<String>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub ports: Edit<String>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub installation: Edit<String>,
    #[serde(skip_serializing_if = "Edit::is_keep")]
    pub health: Edit<Health>,
}

/// A condition as it is written: a Kubernetes condition with milliseconds in its time.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WrittenCondition {
    /// The type of the condition.
    #[serde(rename = "type")]
    pub type_: String,
    /// Whether it holds: `True`, `False` or `Unknown`.
    pub status: String,
    /// The reason in one word, for programs.
    pub reason: String,
    /// The reason in a sentence, for users.
    pub message: String,
    /// When the status last changed (RFC 3339).
    pub last_transition_time: String,
    /// The `metadata.generation` that the condition is based on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::bounds::properties;

    fn members(value: impl Serialize) -> Vec<String> {
        let value = serde_json::to_value(value).unwrap();
        value.as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn patches_have_every_field_of_the_schema() {
        let lease = LeasePatch {
            mode: Edit::Remove,
            duration_seconds: Edit::Remove,
            on_expiry: Edit::Remove,
            evict_after_seconds: Edit::Remove,
        };
        assert_eq!(members(&lease), properties(".spec.lease"));
        let spec = SpecPatch {
            service: Edit::Remove,
            addresses: Edit::Remove,
            hostname: Edit::Remove,
            ports: Edit::Remove,
            version: Edit::Remove,
            tags: Edit::Remove,
            zone: Edit::Remove,
            weight: Edit::Remove,
            priority: Edit::Remove,
            attributes: [("a".to_owned(), None)].into(),
            state: Edit::Remove,
            lease: Edit::Set(lease),
        };
        assert_eq!(members(&spec), properties(".spec"));
        let condition = WrittenCondition {
            type_: String::new(),
            status: String::new(),
            reason: String::new(),
            message: String::new(),
            last_transition_time: String::new(),
            observed_generation: Some(1),
        };
        assert_eq!(members(&condition), properties(".status.conditions[]"));
        let status = StatusPatch {
            phase: Edit::Remove,
            conditions: Edit::Remove,
            observed_generation: Edit::Remove,
            observed_heartbeat: Edit::Remove,
            last_heartbeat_time: Edit::Remove,
            dns_name: Edit::Remove,
            addresses: Edit::Remove,
            ports: Edit::Remove,
            installation: Edit::Remove,
            health: Edit::Remove,
        };
        assert_eq!(members(&status), properties(".status"));
    }

    #[test]
    fn an_edit_keeps_removes_or_sets() {
        let spec =
            SpecPatch { version: Edit::Remove, weight: Edit::Set(7), ..SpecPatch::default() };
        assert_eq!(
            serde_json::to_value(spec).unwrap(),
            json!({"version": Value::Null, "weight": 7})
        );
        assert_eq!(Edit::<u16>::from(None), Edit::Keep);
        assert_eq!(Edit::from(None::<u16>).or_remove(), Edit::Remove);
        assert_eq!(Edit::set_or_remove(Some(7)).or_remove(), Edit::Set(7));
    }
}
