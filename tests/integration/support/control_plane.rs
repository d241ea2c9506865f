//! The control plane of a test run: one for the whole process, started by the first test that needs it, and separate
//! ones for tests that damage theirs.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;

use rollcall::dev::control_plane::Options;
use rollcall::dev::credentials::ROLLCALL_USER;
use rollcall::dev::launch::Program;
use rollcall::dev::{
    Binaries, Child, ControlPlane, Launcher, SearchPaths, install, manifests as deploy,
};
use rollcall_api::manifests;
use tokio::runtime::{Builder, Handle};

/// The API server's log of the replicas' requests, one JSON object a line, in the folder of the control plane.
const AUDIT_LOG: &str = "audit.log";

/// A control plane and its runtime. A shared control plane runs as long as the process, so it cannot use the runtime
/// of a test, which ends with the test.
pub struct TestControlPlane {
    pub control_plane: ControlPlane,
    pub runtime: Handle,
    /// The API server's log of the replicas' requests, one JSON object a line.
    pub audit_log: PathBuf,
}

/// The control plane of this test run. The first caller waits until it is ready. On a fresh machine it is built first, which
/// takes minutes and shows its progress.
pub async fn shared() -> Arc<TestControlPlane> {
    static SHARED: OnceLock<Arc<TestControlPlane>> = OnceLock::new();
    tokio::task::spawn_blocking(|| SHARED.get_or_init(start_shared).clone()).await.unwrap()
}

/// A control plane that no other test uses, with these additional flags of kube-apiserver. It ends with its test.
pub async fn own(name: &str, flags: &[&str]) -> Arc<TestControlPlane> {
    Arc::new(start_in(&format!("control-plane-{name}"), flags).await)
}

/// The command of a running program of a control plane, so that it can be started again unchanged.
pub fn program_of(child: &Child) -> Program {
    let process = Path::new("/proc").join(child.pid().to_string());
    let line = fs::read(process.join("cmdline")).unwrap();
    let args = line.split(|byte| *byte == 0).map(|arg| OsString::from_vec(arg.to_vec()));
    let mut args: Vec<_> = args.skip(1).collect();
    args.pop(); // each argument ends with a zero byte, so the last part is empty
    Program {
        name: child.name().to_owned(),
        path: fs::read_link(process.join("exe")).unwrap(),
        args,
        dir: fs::read_link(process.join("cwd")).unwrap(),
        log: child.log().to_owned(),
        env: Vec::new(),
    }
}

/// Starts programs through the executable under test.
pub fn launcher() -> Launcher {
    Launcher::new(PathBuf::from(env!("CARGO_BIN_EXE_rollcall")))
}

/// The programs of a control plane, built if necessary.
pub async fn binaries() -> Binaries {
    Binaries::find_or_build(&SearchPaths::from_env().unwrap(), &launcher()).await.unwrap()
}

/// A fresh folder for the state of one program. A later run removes it.
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

/// Removes the folders of earlier runs, whose processes have ended.
fn remove_stale(tmp: &Path) {
    for entry in fs::read_dir(tmp).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("it-") else { continue };
        if !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Makes the API server log the replicas' requests in `audit.log`.
fn audit_flags(dir: &Path) -> Vec<String> {
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

/// Starts a control plane, and installs the definitions and roles.
async fn start_in(name: &str, flags: &[&str]) -> TestControlPlane {
    let dir = state_dir(name);
    let audit_log = dir.join(AUDIT_LOG);
    let mut apiserver_flags = audit_flags(&dir);
    apiserver_flags.extend(flags.iter().map(ToString::to_string));
    let options =
        Options { apiserver_flags, dir, binaries: binaries().await, launcher: launcher() };
    let control_plane = ControlPlane::start(&options).await.unwrap_or_else(|e| panic!("{e}"));
    let client = control_plane.admin().await.unwrap();
    install::install_crds(&client, &manifests::crds()).await.unwrap();
    install::apply(&client, deploy::RBAC).await.unwrap();
    install::apply(&client, deploy::ROLES).await.unwrap();
    TestControlPlane { control_plane, runtime: Handle::current(), audit_log }
}

fn start_shared() -> Arc<TestControlPlane> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = thread::Builder::new().name("control-plane".to_owned());
    let run = move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            sender.send(Arc::new(start_in("control-plane", &[]).await)).unwrap();
            std::future::pending::<()>().await; // the child processes end with this process
        });
    };
    thread.spawn(run).unwrap();
    receiver.recv().expect("the control plane did not start; the error is above")
}
