//! etcd is restored from a backup while replicas run: they detect it, list again and report it. Each scenario has its own
//! control plane, with a real etcd whose data folder is replaced.

use std::fs;
use std::path::{Path, PathBuf};

use rollcall::dev::Child;
use serde_json::{Value, json};

use crate::lease_lifecycle::BOUND;
use crate::support::Rollcall;
use crate::support::control_plane::{TestControlPlane, launcher, own, program_of};
use crate::support::eventually;
use crate::support::fleet::Fleet;
use crate::support::http::{call, try_call};
use crate::support::proxy::Mode;

/// The programs of a control plane whose data can be restored.
struct Store {
    etcd: Child,
    api_server: Child,
}

impl Store {
    /// Stops both programs, changes the data folder, and starts them again.
    async fn restart_with_change(
        programs: [&Child; 2],
        fleet: &Fleet,
        change: impl FnOnce(&Path),
    ) -> Self {
        let [etcd, api_server] = programs.map(program_of);
        for child in programs {
            child.kill();
            child.ended().await;
        }
        change(&etcd.dir.join("etcd"));
        let launcher = launcher();
        let (etcd, api_server) =
            (launcher.start(&etcd).await.unwrap(), launcher.start(&api_server).await.unwrap());
        eventually("the API server is back", BOUND, async || {
            fleet.ns.client.apiserver_version().await.ok().map(|_| ())
        })
        .await;
        Self { etcd, api_server }
    }

    async fn back_up(shared: &TestControlPlane, fleet: &Fleet, to: &Path) -> Self {
        let plane = &shared.control_plane;
        Self::restart_with_change([&plane.etcd, &plane.apiserver], fleet, |data| copy(data, to))
            .await
    }

    async fn restore(&self, fleet: &Fleet, from: &Path) -> Self {
        Self::restart_with_change([&self.etcd, &self.api_server], fleet, |data| {
            fs::remove_dir_all(data).unwrap();
            copy(from, data);
        })
        .await
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

fn path(fleet: &Fleet, name: &str) -> String {
    format!("/v1/namespaces/{}/instances/{name}", fleet.ns.name)
}

async fn register(fleet: &Fleet, name: &str, address: &str) {
    let lease = json!({"durationSeconds": 300});
    let body = json!({"service": "orders", "addresses": [address], "lease": lease});
    eventually("the instance is registered", BOUND, async || {
        let (replica, path) = (&fleet.replicas[0], path(fleet, name));
        let answer = try_call(replica.http, "PUT", &path, Some(body.clone())).await.ok()?;
        matches!(answer.status, 200 | 201).then_some(())
    })
    .await;
}

/// The addresses of the service in the answer of a replica.
async fn discoverable(fleet: &Fleet, replica: &Rollcall) -> Option<Vec<String>> {
    let path = format!("/v1/namespaces/{}/services/orders", fleet.ns.name);
    let answer = try_call(replica.http, "GET", &path, None).await.ok()?;
    let members = answer.json()["instances"].as_array()?.clone();
    let address = |it: &Value| it["addresses"][0].as_str().map(ToOwned::to_owned);
    let mut addresses: Vec<_> = members.iter().filter_map(address).collect();
    addresses.sort();
    Some(addresses)
}

async fn until_answered(fleet: &Fleet, expected: &[&str]) {
    for replica in &fleet.replicas {
        eventually(&format!("{} answers {expected:?}", replica.identity), BOUND, async || {
            let addresses = discoverable(fleet, replica).await?;
            (addresses == expected).then_some(())
        })
        .await;
    }
}

/// A replica's own entry in `/v1/cluster`.
async fn get_replica(replica: &Rollcall) -> Value {
    call(replica.http, "GET", "/v1/cluster", None).await.json()["replicas"][0].clone()
}

/// Restores etcd from a backup. `before_reconnect` runs before any replica reaches it again.
async fn check_restore(name: &str, before_reconnect: impl AsyncFnOnce(&Fleet)) {
    let shared = own(name, &[]).await;
    let fleet = Fleet::start_in(shared.clone(), name).await;
    register(&fleet, "kept", "10.0.0.1").await;
    register(&fleet, "moved", "10.0.0.2").await;
    register(&fleet, "left", "10.0.0.3").await;
    let backup: PathBuf = program_of(&shared.control_plane.etcd).dir.join("backup");
    let store = Store::back_up(&shared, &fleet, &backup).await;
    register(&fleet, "moved", "10.0.0.12").await;
    register(&fleet, "new", "10.0.0.4").await;
    eventually("the instance is deregistered", BOUND, async || {
        let replica = &fleet.replicas[1];
        let answer = try_call(replica.http, "DELETE", &path(&fleet, "left"), None).await.ok()?;
        matches!(answer.status, 200 | 204 | 404).then_some(())
    })
    .await;
    until_answered(&fleet, &["10.0.0.1", "10.0.0.12", "10.0.0.4"]).await;

    fleet.set_all(Mode::Cut);
    let _store = store.restore(&fleet, &backup).await;
    before_reconnect(&fleet).await;
    fleet.set_all(Mode::Pass);

    // An instance that was deregistered after the backup is discoverable again for one lease. An instance that was
    // registered after the backup must register again.
    until_answered(&fleet, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]).await;
    for replica in &fleet.replicas {
        let beat = format!("{}/heartbeat", path(&fleet, "new"));
        assert_eq!(call(replica.http, "PUT", &beat, None).await.status, 404);
        let state = get_replica(replica).await;
        assert!(state["epoch"].as_u64() >= Some(1), "{state}");
        assert!(state["stepBack"]["why"].is_string(), "{state}");
        assert!(replica.whole_log().contains("the store stepped back"), "{}", replica.log());
        assert!(replica.metric("rollcall_store_step_backs_total").await >= Some(1.0));
    }
    register(&fleet, "new", "10.0.0.5").await;
    until_answered(&fleet, &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.5"]).await;
    for replica in &fleet.replicas {
        eventually("heartbeats are answered 200 again", BOUND, async || {
            let beat = format!("{}/heartbeat", path(&fleet, "kept"));
            let answer = try_call(replica.http, "PUT", &beat, None).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restored_store_is_detected_and_listed_again() {
    check_restore("restored", async |_| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restored_store_is_detected_even_when_its_revision_is_already_higher() {
    check_restore("overtaken", async |fleet: &Fleet| {
        // More writes than the replicas made since the backup.
        for round in 0..400 {
            let patch = json!({"metadata": {"annotations": {"round": round.to_string()}}});
            let namespaces =
                kube::Api::<k8s_openapi::api::core::v1::Namespace>::all(fleet.ns.client.clone());
            let parameters = kube::api::PatchParams::default();
            namespaces
                .patch(&fleet.ns.name, &parameters, &kube::api::Patch::Merge(patch))
                .await
                .unwrap();
        }
    })
    .await;
}
