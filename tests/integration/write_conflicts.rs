//! Writes that lose a race with a deletion, a new registration, or another replica's write of the same name.
//!
//! A proxy in front of the real API server holds the replica's write back until the other write is done.

use std::time::Duration;

use kube::api::{Api, DeleteParams, Patch, PatchParams};
use rollcall_api::ServiceInstance;
use serde_json::{Value, json};

use crate::lease_lifecycle::{create, manifest};
use crate::support::http::{Answer, call, call_with};
use crate::support::http_proxy::{Fault, HttpProxy};
use crate::support::{Namespace, Rollcall, eventually, namespace};

/// The name of the instance in every race.
const NAME: &str = "a";

/// A replica whose writes can be held back.
struct Race {
    rollcall: Rollcall,
    proxy: HttpProxy,
    api: Api<ServiceInstance>,
    path: String,
}

/// The competing write while the replica's write is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CompetingWrite {
    Deleted,
    DeletedAndCreated,
    Changed,
}

impl Race {
    async fn in_namespace(ns: &mut Namespace, identity: &str) -> Self {
        let direct = ns.rollcall_kubeconfig.clone();
        let (proxy, path) =
            HttpProxy::in_front_of(&direct, &format!("{}-{identity}", ns.name)).await;
        ns.rollcall_kubeconfig = path;
        let rollcall = Rollcall::start_with(ns, identity, &[]).await;
        ns.rollcall_kubeconfig = direct;
        let path = format!("/v1/namespaces/{}/instances/{NAME}", ns.name);
        Self { rollcall, proxy, api: ns.api(), path }
    }

    async fn new(prefix: &str) -> (Namespace, Self) {
        let mut ns = namespace(prefix).await;
        let race = Self::in_namespace(&mut ns, "rollcall-0").await;
        (ns, race)
    }

    /// Waits until the replica knows of the last deletion. Otherwise it takes the same registration for a heartbeat.
    async fn until_unknown(&self) {
        eventually("the deletion is known", Duration::from_secs(60), async || {
            let known = call(self.rollcall.http, "GET", &self.path, None).await;
            (known.status == 404).then_some(())
        })
        .await;
    }

    /// Registers the instance, and returns its uid and ETag.
    async fn register_first(&self) -> (String, String) {
        self.until_unknown().await;
        let body = registration(json!({"version": "1", "attributes": {"team": "blue"}}));
        let answer = call(self.rollcall.http, "PUT", &self.path, Some(body)).await;
        assert_eq!(answer.status, 201, "{}", answer.json());
        let uid = answer.json()["uid"].as_str().unwrap().to_owned();
        // The controller writes the status independently, which changes the version.
        let settled = eventually("the status is written", Duration::from_secs(60), async || {
            let stored = self.api.get(NAME).await.unwrap();
            let etag = format!("\"{}\"", stored.metadata.resource_version?);
            let known = call(self.rollcall.http, "GET", &self.path, None).await;
            (stored.status.is_some() && known.header("etag") == etag).then_some(etag)
        });
        (uid, settled.await)
    }

    /// Sends a call whose write arrives after the competing write. Returns its answer, and the object as the competing
    /// write left it.
    async fn send_late_write(
        &self,
        ns: &Namespace,
        (method, path): (&str, &str),
        header: (&str, &str),
        body: &Value,
        competing: CompetingWrite,
    ) -> (Answer, Option<ServiceInstance>) {
        self.proxy.set(Fault::HeldWrites(NAME));
        let call = format!("{method} {path}");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let asked = call_with(self.rollcall.http, &call, header, &body);
        let other = async {
            self.proxy.until_held().await;
            if competing == CompetingWrite::Changed {
                let patch = Patch::Merge(json!({"metadata": {"labels": {"changed": "yes"}}}));
                self.api.patch(NAME, &PatchParams::default(), &patch).await.unwrap();
            } else {
                self.api.delete(NAME, &DeleteParams::default()).await.unwrap();
            }
            if competing == CompetingWrite::DeletedAndCreated {
                create(ns, &manifest(NAME, "web", json!({"mode": "Permanent"}))).await;
            }
            let before = self.api.get_opt(NAME).await.unwrap();
            self.proxy.set(Fault::None);
            before
        };
        tokio::join!(asked, other)
    }
}

/// The body of a registration with these additional fields.
fn registration(more: Value) -> Value {
    let mut registration =
        json!({"service": "web", "addresses": ["10.0.0.7"], "lease": {"durationSeconds": 600}});
    registration.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    registration
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn write_for_a_uid_never_touches_or_creates_another_incarnation() {
    let (ns, race) = Race::new("uid-race").await;
    let calls = [
        // An apply that keeps every field; an apply that leaves a field out; a merge patch, because the health changes.
        ("PUT", "", registration(json!({"version": "2", "attributes": {"team": "blue"}}))),
        ("PUT", "", registration(json!({"weight": 7}))),
        ("PUT", "", registration(json!({"version": "1", "health": "Warning"}))),
        ("PUT", "", json!({"service": "web", "hostname": "db.example.com"})),
        ("PUT", "/lease", json!({"durationSeconds": 60})),
        ("PUT", "/state", json!({"state": "Draining"})),
        ("PATCH", "/attributes", json!({"team": "green"})),
        ("PUT", "/heartbeat", json!({"health": "Warning"})),
        ("DELETE", "", json!(null)),
    ];
    for (method, suffix, body) in calls {
        for competing in [CompetingWrite::Deleted, CompetingWrite::DeletedAndCreated] {
            let (uid, _) = race.register_first().await;
            let path = format!("{}{suffix}?uid={uid}", race.path);
            let (answer, before) =
                race.send_late_write(&ns, (method, &path), JSON, &body, competing).await;
            let shown = format!("{method} {suffix} {body} {competing:?}: {}", answer.json());
            let after = race.api.get_opt(NAME).await.unwrap();
            match before {
                None => {
                    assert_eq!(answer.status, 404, "{shown}");
                    assert!(after.is_none(), "{shown}");
                }
                Some(before) => {
                    assert_eq!(answer.status, 412, "{shown}");
                    let problem = answer.json();
                    assert_eq!(problem["type"], "tag:rollcall.dev,2026:other-incarnation");
                    assert_eq!(problem["uid"], before.metadata.uid.clone().unwrap());
                    let after = after.unwrap();
                    assert_eq!(after.metadata.uid, before.metadata.uid, "{shown}");
                    assert_eq!(after.metadata.annotations, before.metadata.annotations, "{shown}");
                    assert_eq!(after.metadata.labels, before.metadata.labels, "{shown}");
                    let spec =
                        |object: &ServiceInstance| serde_json::to_value(&object.spec).unwrap();
                    assert_eq!(spec(&after), spec(&before), "{shown}");
                    race.api.delete(NAME, &DeleteParams::default()).await.unwrap();
                }
            }
        }
    }
}

#[tokio::test]
async fn registration_without_a_uid_succeeds_after_a_deletion() {
    let (ns, race) = Race::new("no-uid-race").await;
    for body in [
        registration(json!({"weight": 7})),
        registration(json!({"version": "1", "health": "Warning"})),
    ] {
        for (competing, status) in
            [(CompetingWrite::Deleted, 201), (CompetingWrite::DeletedAndCreated, 200)]
        {
            race.register_first().await;
            let put = ("PUT", &*race.path);
            let (answer, before) = race.send_late_write(&ns, put, JSON, &body, competing).await;
            let shown = format!("{body} {competing:?}: {}", answer.json());
            assert_eq!(answer.status, status, "{shown}");
            let after = race.api.get(NAME).await.unwrap();
            assert_eq!(before.is_some(), status == 200, "{shown}");
            assert_eq!(answer.json()["uid"], after.metadata.uid.unwrap(), "{shown}");
            race.api.delete(NAME, &DeleteParams::default()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn deletion_that_loses_a_race_reports_the_existing_object() {
    let (ns, race) = Race::new("delete-race").await;
    for (competing, condition, status, kind) in [
        (CompetingWrite::Deleted, "", 404, "unknown-instance"),
        (CompetingWrite::Deleted, "*", 404, "unknown-instance"),
        (CompetingWrite::Deleted, "etag", 404, "unknown-instance"),
        (CompetingWrite::DeletedAndCreated, "", 412, "other-incarnation"),
        (CompetingWrite::DeletedAndCreated, "*", 412, "other-incarnation"),
        (CompetingWrite::DeletedAndCreated, "etag", 412, "other-incarnation"),
        (CompetingWrite::Changed, "etag", 412, "other-version"),
        (CompetingWrite::Changed, "", 204, ""),
        (CompetingWrite::Changed, "*", 204, ""),
    ] {
        let (_, etag) = race.register_first().await;
        let condition = match condition {
            "" => JSON,
            "etag" => ("if-match", &*etag),
            any => ("if-match", any),
        };
        let delete = ("DELETE", &*race.path);
        let (answer, before) =
            race.send_late_write(&ns, delete, condition, &json!(null), competing).await;
        let shown = format!("{condition:?} {competing:?}: {} {}", answer.status, answer.json());
        assert_eq!(answer.status, status, "{shown}");
        if !kind.is_empty() {
            assert_eq!(answer.json()["type"], format!("tag:rollcall.dev,2026:{kind}"), "{shown}");
        }
        let after = race.api.get_opt(NAME).await.unwrap();
        assert_eq!(after.is_some(), before.is_some() && status != 204, "{shown}");
        if after.is_some() {
            race.api.delete(NAME, &DeleteParams::default()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn only_the_replica_that_creates_the_object_answers_201() {
    let mut ns = namespace("created-once").await;
    let a = Race::in_namespace(&mut ns, "rollcall-0").await;
    let b = Race::in_namespace(&mut ns, "rollcall-1").await;
    for in_batch in [false, true] {
        let register = async |race: &Race| {
            if !in_batch {
                return call(race.rollcall.http, "PUT", &race.path, Some(registration(json!({}))))
                    .await
                    .status;
            }
            let one = registration(json!({"namespace": ns.name, "name": NAME}));
            let batch = Some(json!({"instances": [one]}));
            let answer = call(race.rollcall.http, "POST", "/v1/instances", batch).await.json();
            u16::try_from(answer["results"][0]["status"].as_u64().unwrap()).unwrap()
        };
        for race in [&a, &b] {
            race.proxy.set(Fault::HeldWrites(NAME));
        }
        let release = async {
            tokio::join!(a.proxy.until_held(), b.proxy.until_held());
            a.proxy.set(Fault::None);
            b.proxy.set(Fault::None);
        };
        let (first, second, ()) = tokio::join!(register(&a), register(&b), release);
        let mut statuses = [first, second];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 201], "in a batch: {in_batch}");
        a.api.delete(NAME, &DeleteParams::default()).await.unwrap();
        for race in [&a, &b] {
            race.until_unknown().await;
        }
    }
}
