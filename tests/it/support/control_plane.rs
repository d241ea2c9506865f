//! The control plane of a test run: one for the whole process, started by the first test that needs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;

use rollcall::api::manifests;
use rollcall::dev::control_plane::Options;
use rollcall::dev::credentials::ROLLCALL_USER;
use rollcall::dev::{Binaries, ControlPlane, Launcher, Places, install, manifests as deploy};
use tokio::runtime::{Builder, Handle};

/// What the replicas asked of the API server, one JSON object a line, in the folder of the control plane.
const AUDIT_LOG: &str = "audit.log";

/// The control plane, and a runtime that lives as long as the process: each test has its own, which
/// ends with it.
pub struct Shared {
    pub control_plane: ControlPlane,
    pub runtime: Handle,
    /// What the replicas asked of the API server, one JSON object a line.
    pub audit_log: PathBuf,
}

/// The control plane of this test run. The first caller waits for it to be ready; on a fresh machine it
/// is built first, which takes minutes and shows its progress.
pub async fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    tokio::task::spawn_blocking(|| SHARED.get_or_init(start)).await.unwrap()
}

/// Starts programs by means of the executable under test.
pub fn launcher() -> Launcher {
    Launcher::new(PathBuf::from(env!("CARGO_BIN_EXE_rollcall")))
}

/// The programs of a control plane, built if need be.
pub async fn binaries() -> Binaries {
    Binaries::find_or_build(&Places::from_env().unwrap(), &launcher()).await.unwrap()
}

/// A fresh folder for the state of one thing, removed by a later run.
pub fn state_dir(name: &str) -> PathBuf {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    let root = ROOT.get_or_init(|| {
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        remove_stale(tmp);
        tmp.join(format!("it-{}", std::process::id()))
    });
    let dir = root.join(name);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Removes what earlier runs left. Theirs ended with them, so nobody uses it.
fn remove_stale(tmp: &Path) {
    for entry in fs::read_dir(tmp).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("it-") else { continue };
        if !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Has the API server write down what the replicas ask of it, in `audit.log`.
fn audit(dir: &Path) -> Vec<String> {
    let policy = serde_json::json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "users": [ROLLCALL_USER]}, {"level": "None"}],
    });
    fs::write(dir.join("audit-policy.json"), policy.to_string()).unwrap();
    ["--audit-policy-file", "audit-policy.json", "--audit-log-path", AUDIT_LOG]
        .map(Into::into)
        .into()
}

fn start() -> Shared {
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = thread::Builder::new().name("control-plane".to_owned());
    let run = move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = state_dir("control-plane");
            let audit_log = dir.join(AUDIT_LOG);
            let options = Options {
                apiserver_flags: audit(&dir),
                dir,
                binaries: binaries().await,
                launcher: launcher(),
            };
            let control_plane =
                ControlPlane::start(&options).await.unwrap_or_else(|e| panic!("{e}"));
            let client = control_plane.admin().await.unwrap();
            install::install_crds(&client, &manifests::crds()).await.unwrap();
            install::apply(&client, deploy::RBAC).await.unwrap();
            install::apply(&client, deploy::ROLES).await.unwrap();
            let runtime = Handle::current();
            sender.send(Shared { control_plane, runtime, audit_log }).unwrap();
            std::future::pending::<()>().await; // the children end with the process
        });
    };
    thread.spawn(run).unwrap();
    receiver.recv().expect("the control plane did not start; its error is above")
}
