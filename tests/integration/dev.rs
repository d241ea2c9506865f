//! The control plane and `rollcall dev`: it starts, grants its users their rights, keeps its state, and ends with the
//! process that started it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenReview};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use rollcall::dev::child::Signal;
use rollcall::dev::control_plane::Options;
use rollcall::dev::launch::Program;
use rollcall::dev::{Child, ControlPlane};
use rollcall_api::ServiceInstance;
use serde_json::{Value, json};

use crate::support::control_plane::{binaries, launcher, shared, state_dir};
use crate::support::{Rollcall, eventually, namespace};

/// The bound for steps that take seconds on an idle machine.
const BOUND: Duration = Duration::from_secs(180);

#[tokio::test]
async fn deleted_namespace_disappears() {
    let home = namespace("deleted").await;
    let api: Api<Namespace> = Api::all(home.client.clone());
    api.delete(&home.name, &DeleteParams::default()).await.unwrap();
    eventually("the namespace is gone", BOUND, async || {
        api.get_opt(&home.name).await.unwrap().is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn rollcall_user_has_exactly_the_rights_of_its_role() {
    let home = namespace("rbac").await;
    let client = shared().await.control_plane.rollcall().await.unwrap();
    let instances: Api<ServiceInstance> = Api::all(client.clone());
    instances.list(&ListParams::default()).await.unwrap();

    let secrets: Api<Secret> = Api::namespaced(client.clone(), &home.name);
    assert_forbidden(secrets.list(&ListParams::default()).await);
    let namespaces: Api<Namespace> = Api::all(client);
    assert_forbidden(namespaces.delete(&home.name, &DeleteParams::default()).await);
}

#[tokio::test]
async fn tokens_for_an_audience_are_issued_and_reviewed() {
    let home = namespace("tokens").await;
    let accounts: Api<ServiceAccount> = home.api();
    eventually("the default ServiceAccount exists", BOUND, async || {
        accounts.get_opt("default").await.unwrap()
    })
    .await;
    let request = json!({"metadata": {}, "spec": {"audiences": ["rollcall"]}});
    let request: TokenRequest = serde_json::from_value(request).unwrap();
    let params = PostParams::default();
    let issued = accounts.create_token_request("default", &params, &request).await.unwrap();
    let token = issued.status.unwrap().token;

    let reviews: Api<TokenReview> = Api::all(home.client.clone());
    for (audience, good) in [("rollcall", true), ("another", false)] {
        let review = json!({"metadata": {}, "spec": {"token": token, "audiences": [audience]}});
        let review = serde_json::from_value(review).unwrap();
        let answer = reviews.create(&params, &review).await.unwrap().status.unwrap();
        assert_eq!(answer.authenticated.unwrap_or_default(), good, "{audience}: {answer:?}");
    }
}

#[tokio::test]
async fn restarted_control_plane_keeps_its_objects() {
    let options = Options {
        dir: state_dir("again"),
        binaries: binaries().await,
        launcher: launcher(),
        apiserver_flags: Vec::new(),
    };
    let first = ControlPlane::start(&options).await.unwrap();
    let object = serde_json::from_value(json!({"metadata": {"name": "kept"}})).unwrap();
    namespaces(&first).await.create(&PostParams::default(), &object).await.unwrap();
    let pids = [&first.etcd, &first.apiserver, &first.controller_manager].map(Child::pid);
    first.stop().await;
    assert!(pids.iter().all(|pid| is_gone(*pid)), "one of {pids:?} still runs");

    let second = ControlPlane::start(&options).await.unwrap();
    namespaces(&second).await.get("kept").await.unwrap();
    second.stop().await;
}

#[tokio::test]
async fn all_child_processes_end_when_dev_is_killed() {
    let dev = Dev::start("killed", &[]).await;
    let pids = dev.pids();
    dev.child.kill();
    dev.child.ended().await;
    eventually("all its child processes have ended", BOUND, async || {
        pids.iter().all(|pid| is_gone(*pid)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn killed_replica_is_restarted_and_sigterm_ends_everything() {
    let dev = Dev::start("ended", &[]).await;
    let replica = dev.json()["replicas"][0].clone();
    assert_eq!(replica["identity"], "rollcall-0");
    let pid = rustix::process::Pid::from_raw(replica["pid"].as_i64().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    eventually("a new process has replaced it", BOUND, async || {
        let now = &dev.json()["replicas"][0];
        (now["pid"] != replica["pid"] && now["http"] == replica["http"]).then_some(())
    })
    .await;

    let pids = dev.pids();
    dev.child.signal(Signal::TERM);
    let end = eventually("rollcall dev ends", BOUND, async || dev.child.has_ended()).await;
    assert_eq!(end, "exit status: 0", "{}", dev.child.exit_report(&end));
    assert!(pids.iter().all(|pid| is_gone(*pid)), "one of {pids:?} still runs");
    assert!(!dev.dir.join("dev.json").exists());
}

#[tokio::test]
async fn samples_are_installed_unless_disabled() {
    for (name, flags, expected) in [("samples", &[][..], true), ("bare", &["--no-samples"], false)]
    {
        let dev = Dev::start(name, flags).await;
        let instances: Api<ServiceInstance> = Api::namespaced(dev.client().await, "shop");
        let found = instances.list(&ListParams::default()).await.unwrap();
        assert_eq!(found.items.iter().any(|i| i.spec.service == "orders"), expected, "{name}");
    }
}

#[tokio::test]
async fn port_in_use_is_reported_with_its_flag_before_anything_starts() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let child = Dev::spawn("port", &["--admin-listen", &address]).await;
    child.ended().await;
    let log = fs::read_to_string(child.log()).unwrap();
    assert!(log.contains("--admin-listen") && log.contains(&address), "{log}");
    assert!(!child.log().parent().unwrap().join("state").exists());
}

#[tokio::test]
async fn restarted_test_replica_keeps_its_addresses() {
    let home = namespace("replica").await;
    let mut rollcall = Rollcall::start(&home).await;
    let first = rollcall.pid();
    rollcall.stall();
    rollcall.resume();
    rollcall.until_ready().await;
    rollcall.restart().await;
    assert!(is_gone(first));
    assert_ne!(rollcall.pid(), first);
    rollcall.terminate().await;
    assert!(is_gone(rollcall.pid()));
}

async fn namespaces(control_plane: &ControlPlane) -> Api<Namespace> {
    Api::all(control_plane.admin().await.unwrap())
}

fn assert_forbidden<T: std::fmt::Debug>(answer: kube::Result<T>) {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 403 => {}
        other => panic!("not forbidden: {other:?}"),
    }
}

/// Whether no process with this id is running. A zombie is not running.
fn is_gone(pid: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

/// A running `rollcall dev` with its own state folder, on free ports.
struct Dev {
    child: Child,
    dir: PathBuf,
}

impl Dev {
    async fn start(name: &str, flags: &[&str]) -> Self {
        binaries().await; // built once, with visible progress, outside the bound below
        let child = Self::spawn(name, flags).await;
        let dir = child.log().parent().unwrap().join("state");
        let dev = Self { child, dir };
        eventually("rollcall dev is ready", BOUND, async || {
            if let Some(end) = dev.child.has_ended() {
                panic!("{}", dev.child.exit_report(&end));
            }
            dev.dir.join("dev.json").exists().then_some(())
        })
        .await;
        dev
    }

    async fn spawn(name: &str, flags: &[&str]) -> Child {
        let dir = state_dir(&format!("dev-{name}"));
        let mut args = vec!["dev", "--state-dir", "state"];
        for flag in ["--http-listen", "--dns-listen", "--admin-listen"] {
            if !flags.contains(&flag) {
                args.extend([flag, "127.0.0.1:0"]);
            }
        }
        args.extend(flags);
        let program = Program {
            name: "rollcall dev".to_owned(),
            path: PathBuf::from(env!("CARGO_BIN_EXE_rollcall")),
            args: args.iter().map(Into::into).collect(),
            log: dir.join("dev.log"),
            dir,
            env: Vec::new(),
        };
        launcher().start(&program).await.unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&fs::read(self.dir.join("dev.json")).unwrap()).unwrap()
    }

    /// The process ids of all its child processes.
    fn pids(&self) -> Vec<u32> {
        let json = self.json();
        let pid = |name: &str| json[name]["pid"].clone();
        let mut pids = vec![pid("etcd"), pid("apiserver"), pid("controllerManager")];
        pids.extend(json["replicas"].as_array().unwrap().iter().map(|r| r["pid"].clone()));
        pids.iter().map(|pid| u32::try_from(pid.as_u64().unwrap()).unwrap()).collect()
    }

    async fn client(&self) -> Client {
        let file = kube::config::Kubeconfig::read_from(self.dir.join("kubeconfig")).unwrap();
        let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await.unwrap();
        Client::try_from(config).unwrap()
    }
}
