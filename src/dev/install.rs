//! Installs objects in a cluster, like `kubectl apply --server-side`.
//!
//! Owns: the order, the wait until definitions are served, and the retries for objects of a new kind. Does not own: the
//! manifests (`manifests`).

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiCapabilities, Scope, pinned_kind};
use kube::runtime::wait::{await_condition, conditions::is_crd_established};
use kube::{Client, ResourceExt as _};
use serde::Deserialize as _;
use thiserror::Error;
use tokio::time::{sleep, timeout};

/// The field manager of installed objects.
const FIELD_MANAGER: &str = "rollcall-dev";
/// Deadline of one call.
const CALL: Duration = Duration::from_secs(10);
/// Deadline until a definition is established, or an object of a new kind is accepted.
const SETTLE: Duration = Duration::from_secs(30);
/// Pause between two tries.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// An object was not installed.
#[derive(Debug, Error)]
pub enum InstallError {
    /// A document is not a Kubernetes object.
    #[error("cannot read a manifest: {0}")]
    Parse(#[from] serde_yaml_ng::Error),
    /// A document lacks a required field.
    #[error("a manifest has no {field}: it needs apiVersion, kind and metadata.name")]
    Incomplete {
        /// The missing field.
        field: &'static str,
    },
    /// The API server refused the object, or did not accept it in time.
    #[error("cannot install {object}: {why}")]
    Refused {
        /// Kind and name.
        object: String,
        /// The last error.
        why: String,
    },
}

/// Installs custom resource definitions and waits until each is served.
///
/// # Errors
/// [`InstallError::Refused`] with the message of the API server.
pub async fn install_crds(
    client: &Client,
    crds: &[CustomResourceDefinition],
) -> Result<(), InstallError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds {
        let name = crd.name_any();
        let refused = |why: String| InstallError::Refused { object: format!("CRD {name}"), why };
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(crd);
        let apply = api.patch(&name, &params, &patch);
        timeout(CALL, apply)
            .await
            .map_err(|_| refused(no_answer(CALL)))?
            .map_err(|error| refused(error.to_string()))?;
        let established = await_condition(api.clone(), &name, is_crd_established());
        timeout(SETTLE, established)
            .await
            .map_err(|_| refused(format!("it was not established within {} s", SETTLE.as_secs())))?
            .map_err(|error| refused(error.to_string()))?;
    }
    Ok(())
}

/// Applies every object of these YAML texts, each of one or more documents: namespaces first, the others in the given
/// order. Namespaced objects without a namespace go to `default`. Kustomizations, which are for `kubectl`, are skipped.
///
/// # Errors
/// When a document is not an object, or the API server refuses one.
pub async fn apply(client: &Client, documents: &[&str]) -> Result<(), InstallError> {
    let mut objects = Vec::new();
    for text in documents {
        objects.extend(parse(text)?);
    }
    objects.sort_by_key(|(kind, _)| kind.kind != "Namespace"); // a stable sort
    let mut known = HashMap::new();
    for (kind, object) in &objects {
        let name = format!("{} {}", kind.kind, object.name_any());
        let mut why = no_answer(SETTLE);
        let tries = async {
            loop {
                match try_apply(client, &mut known, kind, object).await {
                    Ok(()) => return Ok(()),
                    Err(Failure::Final(error)) => return Err(error),
                    Err(Failure::Retryable(error)) => why = error,
                }
                sleep(RETRY_AFTER).await;
            }
        };
        let refused = |why| InstallError::Refused { object: name.clone(), why };
        match timeout(SETTLE, tries).await {
            Ok(answer) => answer.map_err(refused)?,
            Err(_) => return Err(refused(why)),
        }
    }
    Ok(())
}

/// Why an object was not applied.
enum Failure {
    /// A retry cannot succeed.
    Final(String),
    /// A retry can succeed.
    Retryable(String),
}

type Kinds = HashMap<GroupVersionKind, (ApiResource, ApiCapabilities)>;

async fn try_apply(
    client: &Client,
    known: &mut Kinds,
    kind: &GroupVersionKind,
    object: &DynamicObject,
) -> Result<(), Failure> {
    if !known.contains_key(kind) {
        let found = timed(pinned_kind(client, kind)).await?;
        known.insert(kind.clone(), found);
    }
    let Some((resource, capabilities)) = known.get(kind) else { return Ok(()) };
    let namespace = object.namespace().unwrap_or_else(|| "default".to_owned());
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), resource),
        Scope::Namespaced => Api::namespaced_with(client.clone(), &namespace, resource),
    };
    let params = PatchParams::apply(FIELD_MANAGER).force();
    timed(api.patch(&object.name_any(), &params, &Patch::Apply(object))).await.map(|_| ())
}

/// Runs one call with its deadline. An invalid or forbidden object stays so, but a kind that is not found can be served
/// a moment later.
async fn timed<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match timeout(CALL, call).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 400 | 401 | 403 | 409 | 422) => {
            Err(Failure::Final(status.message.clone()))
        }
        Ok(Err(error)) => Err(Failure::Retryable(error.to_string())),
        Err(_) => Err(Failure::Retryable(no_answer(CALL))),
    }
}

fn no_answer(within: Duration) -> String {
    format!("no answer within {} s", within.as_secs())
}

fn parse(text: &str) -> Result<Vec<(GroupVersionKind, DynamicObject)>, InstallError> {
    let mut objects = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        // A document can be empty, for example after a final `---`.
        let Some(object) = Option::<DynamicObject>::deserialize(document)? else { continue };
        let missing = |field| InstallError::Incomplete { field };
        let types = object.types.as_ref().ok_or_else(|| missing("apiVersion or kind"))?;
        let kind = GroupVersionKind::try_from(types).map_err(|_| missing("valid apiVersion"))?;
        if kind.group == "kustomize.config.k8s.io" {
            continue;
        }
        if object.metadata.name.is_none() {
            return Err(missing("metadata.name"));
        }
        objects.push((kind, object));
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_several_objects_and_empty_documents_is_parsed() {
        let text = "---\n# only a comment\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n\
                    ---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: b}\nrules: []\n---\n";
        let objects = parse(text).unwrap();
        let kinds: Vec<&str> = objects.iter().map(|(kind, _)| kind.kind.as_str()).collect();
        assert_eq!(kinds, ["Namespace", "ClusterRole"]);
    }

    #[test]
    fn a_kustomization_is_skipped() {
        let text =
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: []\n";
        assert!(parse(text).unwrap().is_empty());
    }

    #[test]
    fn object_without_name_is_refused_with_the_missing_field() {
        let error = parse("apiVersion: v1\nkind: Namespace\n").unwrap_err();
        assert!(error.to_string().contains("metadata.name"), "{error}");
    }
}
