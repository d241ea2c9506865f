//! What `kubectl apply -k` installs, checked with the real kubectl on fresh control planes. They have no nodes, so no
//! pod runs. Instead of a pod, the tests start a replica with the variables of the Deployment and a token of its
//! ServiceAccount.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rollcall::dev::control_plane::Options;
use rollcall::dev::credentials::kubeconfig;
use rollcall::dev::launch::Program;
use rollcall::dev::{Child, ControlPlane, ports, replicas};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::control_plane::{binaries, launcher, state_dir};
use crate::support::eventually;
use crate::support::http::{call, call_as};

const CLUSTER: &str = "deploy/overlays/cluster";
const NAMESPACE: &str = "deploy/overlays/namespace";
const ACCOUNT: &str = "system:serviceaccount:rollcall-system:rollcall";

/// The bound for steps that take seconds on an idle machine.
const BOUND: Duration = Duration::from_secs(120);

/// kubectl reports a PodDisruptionBudget as `configured` whenever it is applied, even without a change, because it patches
/// the selector as a whole.
fn is_unchanged(line: &str, suffix: &str) -> bool {
    line.ends_with(suffix) || line.starts_with("poddisruptionbudget.policy/rollcall configured")
}

#[tokio::test]
async fn one_command_installs_everything_into_a_fresh_cluster_without_a_warning() {
    let cluster = FreshCluster::start("install-cluster").await;
    let rendered = count_lines(&cluster.kubectl(&["kustomize", CLUSTER]).await, "kind: ");
    let applied = cluster.apply(CLUSTER, &[]).await;
    assert_eq!(applied.len(), rendered, "{applied:#?}");
    assert!(applied.iter().all(|line| line.ends_with(" created")), "{applied:#?}");

    for (flags, suffix) in [(&[][..], " unchanged"), (DRY_RUN, " unchanged (server dry run)")] {
        let again = cluster.apply(CLUSTER, flags).await;
        assert!(again.iter().all(|line| is_unchanged(line, suffix)), "{again:#?}");
    }
    let samples = cluster.apply("deploy/samples", &[]).await;
    assert!(samples.iter().all(|line| line.ends_with(" created")), "{samples:#?}");
    cluster.assert_may("shop", true).await;
    cluster.check_replica("rollcall-system").await;
}

#[tokio::test]
async fn pods_of_the_deployment_meet_the_enforced_restricted_standard() {
    let cluster = FreshCluster::start("install-pods").await;
    cluster.apply(CLUSTER, &[]).await;
    let template = cluster.deployment().await["spec"]["template"].take();
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"]});
    pod["metadata"]["name"] = json!("rollcall-0");
    pod["spec"] = template["spec"].clone();
    let file = cluster.write("pod.json", &pod.to_string());
    let create = ["create", "-n", "rollcall-system", "--dry-run=server", "-f", &file];
    assert_eq!(cluster.kubectl(&create).await.trim(), "pod/rollcall-0 created (server dry run)");

    // The standard is enforced, so the test above would have shown a warning.
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    cluster.write("pod.json", &pod.to_string());
    let refused = cluster.run(&create).await;
    assert!(!refused.ok && refused.stderr.contains("violates PodSecurity"), "{refused:?}");
    let mut lax = cluster.deployment().await;
    lax["spec"]["template"]["spec"] = pod["spec"].clone();
    let file = cluster.write("lax.json", &lax.to_string());
    let warned = cluster.run(&["apply", "--dry-run=server", "-f", &file]).await;
    assert!(warned.ok && warned.stderr.contains("would violate PodSecurity"), "{warned:?}");
}

#[tokio::test]
async fn documented_overlay_sets_image_flag_and_network_policy() {
    let cluster = FreshCluster::start("install-own").await;
    let own = cluster.own_overlay();
    let applied = cluster.apply(&own, &[]).await;
    assert!(applied.iter().any(|line| line.starts_with("networkpolicy")), "{applied:#?}");
    let container = cluster.deployment().await["spec"]["template"]["spec"]["containers"][0].take();
    let image = format!("registry.example.com/rollcall:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(container["image"], image);
    let env = container["env"].as_array().unwrap();
    assert!(env.contains(&json!({"name": "ROLLCALL_LINGER_SECONDS", "value": "5"})), "{env:?}");
    assert!(env.iter().any(|variable| variable["name"] == "ROLLCALL_IDENTITY"), "{env:?}");
}

#[tokio::test]
async fn namespace_overlay_grants_rights_in_one_namespace_only() {
    let cluster = FreshCluster::start("install-namespace").await;
    for namespace in ["shop", "other"] {
        cluster.kubectl(&["create", "namespace", namespace]).await;
    }
    // A dry run on an empty cluster needs an existing namespace, because it does not create one.
    cluster.kubectl(&["apply", "-f", "deploy/rbac/namespace.yaml"]).await;
    let dry = cluster.apply(NAMESPACE, DRY_RUN).await;
    let created = dry.iter().filter(|line| line.ends_with(" created (server dry run)"));
    assert_eq!(created.count(), dry.len() - 1, "{dry:#?}");

    let applied = cluster.apply(NAMESPACE, &[]).await;
    assert_eq!(applied.len(), dry.len(), "{applied:#?}");
    let again = cluster.apply(NAMESPACE, &[]).await;
    assert!(again.iter().all(|line| is_unchanged(line, " unchanged")), "{again:#?}");
    cluster.assert_may("shop", true).await;
    cluster.assert_may("other", false).await;
    cluster.assert_may("rollcall-system", false).await;
    cluster.check_replica("shop").await;
}

#[tokio::test]
async fn every_kustomization_builds_and_the_overlays_name_this_version() {
    for folder in kustomizations().into_iter().map(|folder| buildable_folder(&folder)) {
        let built = run(Command::new("kubectl").arg("kustomize").arg(&folder)).await;
        assert!(built.ok && built.stderr.is_empty(), "{}: {built:?}", folder.display());
        assert!(built.stdout.contains("kind: "), "{}", folder.display());
    }
    let image = format!("image: rollcall:{}\n", env!("CARGO_PKG_VERSION"));
    for overlay in [CLUSTER, NAMESPACE] {
        let built = run(Command::new("kubectl").args(["kustomize", overlay])).await;
        assert_eq!(built.stdout.matches(&image).count(), 1, "{overlay} has no {image}");
    }
}

#[tokio::test]
async fn serve_knows_every_variable_of_the_deployment() {
    let rollcall = env!("CARGO_BIN_EXE_rollcall");
    let help = run(Command::new(rollcall).args(["serve", "--help"])).await.stdout;
    let known = variables(&help);
    assert!(known.contains("ROLLCALL_IDENTITY"), "{help}");
    for overlay in [CLUSTER, NAMESPACE] {
        let built = run(Command::new("kubectl").args(["kustomize", overlay])).await.stdout;
        let names = built.lines().filter_map(|line| line.trim().strip_prefix("- name: "));
        let set: BTreeSet<String> =
            names.filter(|name| name.starts_with("ROLLCALL_")).map(str::to_owned).collect();
        assert!(set.contains("ROLLCALL_IDENTITY"), "{overlay}");
        assert!(set.is_subset(&known), "{overlay} sets {set:?}, and serve knows {known:?}");
    }
}

const DRY_RUN: &[&str] = &["--dry-run=server"];

/// The names of the rollcall variables in a text.
fn variables(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
    words.filter(|word| word.starts_with("ROLLCALL_")).map(str::to_owned).collect()
}

/// The number of lines that begin with this.
fn count_lines(text: &str, beginning: &str) -> usize {
    text.lines().filter(|line| line.starts_with(beginning)).count()
}

/// Every folder of the repository that has a kustomization.
fn kustomizations() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("crds"), root.join("deploy")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        let inside = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        folders.extend(inside.filter(|path| path.is_dir()));
        found.extend(folder.join("kustomization.yaml").exists().then_some(folder));
    }
    assert!(found.len() > 5, "{found:?}");
    found
}

/// A component only changes other resources and cannot be built alone, so it is built together with the cluster
/// overlay.
fn buildable_folder(folder: &Path) -> PathBuf {
    let text = fs::read_to_string(folder.join("kustomization.yaml")).unwrap();
    if !text.contains("kind: Component") {
        return folder.to_owned();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = fs::canonicalize(state_dir("component")).unwrap();
    let own = own.join(folder.file_name().unwrap());
    fs::create_dir_all(&own).unwrap();
    let up = "../".repeat(own.components().count() - 1);
    let relative = |path: &Path| format!("{up}{}", path.to_str().unwrap().trim_start_matches('/'));
    let (base, folder) = (relative(&root.join(CLUSTER)), relative(folder));
    let text = format!("resources: [\"{base}\"]\ncomponents: [\"{folder}\"]\n");
    fs::write(own.join("kustomization.yaml"), text).unwrap();
    own
}

/// The output and result of a program.
#[derive(Debug)]
struct ProgramOutput {
    ok: bool,
    stdout: String,
    stderr: String,
}

async fn run(command: &mut Command) -> ProgramOutput {
    command.current_dir(env!("CARGO_MANIFEST_DIR")).kill_on_drop(true);
    let output =
        timeout(BOUND, command.output()).await.expect("the program ends").unwrap_or_else(|error| {
            panic!("{command:?}: {error}; the tests need kubectl in PATH, see README.md")
        });
    ProgramOutput {
        ok: output.status.success(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A control plane without an installation, for one test.
struct FreshCluster {
    plane: ControlPlane,
    dir: PathBuf,
}

impl FreshCluster {
    async fn start(name: &str) -> Self {
        let dir = state_dir(name);
        let options = Options {
            dir: dir.join("plane"),
            binaries: binaries().await,
            launcher: launcher(),
            apiserver_flags: Vec::new(),
        };
        let plane = ControlPlane::start(&options).await.unwrap_or_else(|error| panic!("{error}"));
        Self { plane, dir }
    }

    async fn run(&self, args: &[&str]) -> ProgramOutput {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.plane.kubeconfig);
        // kubectl caches discovery by address, and another API server may have had this address.
        command.arg("--cache-dir").arg(self.dir.join("cache")).args(args);
        run(&mut command).await
    }

    /// The output of a kubectl command that succeeds without printing warnings.
    async fn kubectl(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        assert!(output.ok && output.stderr.is_empty(), "kubectl {}: {output:?}", args.join(" "));
        output.stdout
    }

    /// Applies a folder with strict validation, and returns the line about each object.
    async fn apply(&self, folder: &str, flags: &[&str]) -> Vec<String> {
        let args = [&["apply", "--validate=strict", "-k", folder], flags].concat();
        self.kubectl(&args).await.lines().map(str::to_owned).collect()
    }

    async fn deployment(&self) -> Value {
        let get = ["get", "deployment", "rollcall", "-n", "rollcall-system", "-o", "json"];
        serde_json::from_str(&self.kubectl(&get).await).unwrap()
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.dir.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The overlay in docs/install.md, written outside the repository. kustomize accepts relative paths only.
    fn own_overlay(&self) -> String {
        let own = fs::canonicalize(&self.dir).unwrap().join("own");
        fs::create_dir_all(&own).unwrap();
        let up = "../".repeat(own.components().count() - 1);
        let repository = format!("{up}{}", env!("CARGO_MANIFEST_DIR").trim_start_matches('/'));
        let page = include_str!("../../docs/install.md");
        let (_, block) = page.split_once("```yaml\n").unwrap();
        let (kustomization, _) = block.split_once("```").unwrap();
        let adapted =
            kustomization.replace("- rollcall/deploy/", &format!("- {repository}/deploy/"));
        assert_ne!(adapted, kustomization);
        self.write("own/kustomization.yaml", &adapted);
        own.to_str().unwrap().to_owned()
    }

    /// Checks whether the ServiceAccount can manage the instances of a namespace.
    async fn assert_may(&self, namespace: &str, expected: bool) {
        for (verb, subresource) in
            [("list", ""), ("watch", ""), ("patch", ""), ("delete", ""), ("patch", "status")]
        {
            let ask = ["auth", "can-i", verb, "serviceinstances.rollcall.dev", "-n", namespace];
            let args = [&ask[..], &["--as", ACCOUNT, "--subresource", subresource]].concat();
            // The authorizer observes a new binding a moment later.
            eventually(&format!("{} is {expected}", args.join(" ")), BOUND, async || {
                let answer = self.run(&args).await;
                let decision = answer.stdout.trim();
                assert!(["yes", "no"].contains(&decision), "{answer:?}");
                ((decision == "yes") == expected).then_some(())
            })
            .await;
        }
    }

    /// Checks that a replica with the variables of the Deployment and a token of the ServiceAccount passes all probes and
    /// creates its own instance in this namespace.
    async fn check_replica(&self, namespace: &str) {
        let container = self.deployment().await["spec"]["template"]["spec"]["containers"][0].take();
        let (_replica, http, admin) = self.start_replica(&container).await;
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            let path = container[probe]["httpGet"]["path"].as_str().unwrap();
            eventually(&format!("{path} answers 200"), BOUND, async || {
                (replicas::status(admin, path).await == Some(200)).then_some(())
            })
            .await;
        }
        eventually("the replica's own instance exists", BOUND, async || {
            let args = ["get", "si", "rollcall-0", "-n", namespace, "-o", "name"];
            self.run(&args).await.ok.then_some(())
        })
        .await;
        self.check_workload_access(namespace, http).await;
    }

    /// Checks that callers need a token, and a right that a role of the installation grants.
    async fn check_workload_access(&self, namespace: &str, http: SocketAddr) {
        self.kubectl(&["create", "serviceaccount", "orders", "-n", namespace]).await;
        let account = format!("{namespace}:orders");
        let bind = ["create", "rolebinding", "orders", "-n", namespace, "--clusterrole"];
        let bind = [&bind[..], &["rollcall-workload", "--serviceaccount", &account]].concat();
        self.kubectl(&bind).await;
        let token = ["create", "token", "orders", "-n", namespace, "--audience", "rollcall"];
        let token = self.kubectl(&token).await;
        let path = format!("/v1/namespaces/{namespace}/instances/orders-1");
        let body = json!({"service": "orders", "addresses": ["10.0.0.7"]});
        assert_eq!(call(http, "PUT", &path, Some(body.clone())).await.status, 401);
        eventually("an account that is bound to the role can register", BOUND, async || {
            let call = call_as(token.trim(), http, ("PUT", &path), Some(body.clone())).await;
            (call.status == 201).then_some(())
        })
        .await;
    }

    async fn start_replica(&self, container: &Value) -> (Child, SocketAddr, SocketAddr) {
        let token = self.kubectl(&["create", "token", "rollcall", "-n", "rollcall-system"]).await;
        let file = kubeconfig(&self.plane.url, &self.plane.ca, "rollcall", token.trim());
        let file = self.write("account.kubeconfig", &file);
        let [http, dns, admin] = [(); 3].map(|()| ports::free().unwrap());
        let mut args: Vec<String> = serde_json::from_value(container["args"].clone()).unwrap();
        for (flag, value) in [
            ("--kubeconfig", file),
            ("--http-listen", http.to_string()),
            ("--dns-listen", dns.to_string()),
            ("--admin-listen", admin.to_string()),
        ] {
            args.extend([flag.to_owned(), value]);
        }
        let mut env = replicas::environment();
        for variable in container["env"].as_array().unwrap() {
            let name = variable["name"].as_str().unwrap().to_owned();
            env.push((name.leak(), Some(kubelet_value(variable).to_owned().leak())));
        }
        let program = Program {
            name: "rollcall serve".to_owned(),
            path: PathBuf::from(env!("CARGO_BIN_EXE_rollcall")),
            args: args.into_iter().map(Into::into).collect(),
            log: self.dir.join("rollcall.log"),
            dir: self.dir.clone(),
            env,
        };
        (launcher().start(&program).await.unwrap(), http, admin)
    }
}

/// The value that the kubelet sets a variable to.
fn kubelet_value(variable: &Value) -> &str {
    let field = &variable["valueFrom"]["fieldRef"]["fieldPath"];
    match field.as_str() {
        Some("metadata.name") => "rollcall-0",
        Some("metadata.namespace") => "rollcall-system",
        Some("status.podIP") => "127.0.0.1",
        Some("metadata.uid") => "", // no pod exists, so nothing depends on its uid
        Some(other) => panic!("the test has no value for {other}"),
        // The Secret is optional and does not exist here.
        None if variable["valueFrom"]["secretKeyRef"]["optional"] == true => "",
        None => variable["value"].as_str().unwrap(),
    }
}
