//! Compares rollcall with r-nacos, the fastest other registry that we know of: `cargo install rnacos`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    Request, SERVERS, Server,
    common::{
        ask::eventually,
        compare::compare,
        process::{cpu_per, memory, pin},
    },
    http1,
};

/// The number of instances for the measurement of memory.
const MANY: usize = 10_000;

/// A running r-nacos with its own folder.
struct Nacos {
    child: Child,
    server: Server,
    dir: PathBuf,
}

impl Nacos {
    fn start() -> Option<Self> {
        let dir =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nacos-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let program = std::env::var_os("RNACOS").unwrap_or_else(|| "rnacos".into());
        let address: SocketAddr = "127.0.0.1:18848".parse().unwrap();
        let child = Command::new(program)
            .env("RNACOS_HTTP_PORT", address.port().to_string())
            .env("RNACOS_CONFIG_DB_DIR", &dir)
            .env("RNACOS_INIT_ADMIN_PASSWORD", "bench-bench")
            // By default it logs every request; rollcall does not.
            .env("RUST_LOG", "error")
            // The ten discovered instances get no heartbeats.
            .env("RNACOS_NAMING_HEALTH_TIMEOUT_SECOND", "3600")
            .env("RNACOS_NAMING_INSTANCE_TIMEOUT_SECOND", "7200")
            .current_dir(&dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let server = Server { pid: child.id(), address };
        let ready = || std::net::TcpStream::connect(address).ok();
        eventually(Duration::from_secs(60), ready);
        // It elects its leader a moment after it starts.
        std::thread::sleep(Duration::from_secs(3));
        Some(Self { child, server, dir })
    }
}

impl Drop for Nacos {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A heartbeat and a discovery of ten instances, with both servers.
pub fn run(open: Server) {
    let Some(nacos) = Nacos::start() else {
        return println!(
            "rnacos is not installed: run cargo install rnacos, or set RNACOS to its path"
        );
    };
    pin(nacos.server.pid, SERVERS);
    for at in 0..10 {
        register(nacos.server.address, "beats", at);
    }
    let theirs = [
        Request::new(
            "PUT",
            "/nacos/v1/ns/instance/beat?serviceName=beats&groupName=DEFAULT_GROUP&ip=10.0.0.0&port=8080",
        ),
        Request::new("GET", "/nacos/v1/ns/instance/list?serviceName=beats&healthyOnly=true"),
    ];
    let ours = [
        Request::new("PUT", "/v1/namespaces/bench/instances/beats-0/heartbeat"),
        Request::new("GET", "/v1/namespaces/bench/services/beats"),
    ];
    for ((name, ours), theirs) in ["heartbeat", "discover of 10"].iter().zip(&ours).zip(&theirs) {
        http1::until(nacos.server.address, theirs, 200);
        let round = |is_ours: bool, pace: Option<Duration>| {
            let (server, request) = if is_ours { (open, ours) } else { (nacos.server, theirs) };
            cpu_per(server.pid, || http1::run(server.address, request, pace))
        };
        compare(name, "r-nacos", |is_ours| round(is_ours, None));
        let (own_pace, nacos_pace) =
            (http1::half_pace(open.address, ours), http1::half_pace(nacos.server.address, theirs));
        compare(&format!("{name}, each at half of its rate"), "r-nacos", |is_ours| {
            round(is_ours, Some(if is_ours { own_pace } else { nacos_pace }))
        });
        // This is slow for rollcall: most of its CPU time is spent on wake-ups.
        compare(&format!("{name}, both at half of r-nacos' rate"), "r-nacos", |is_ours| {
            round(is_ours, Some(nacos_pace))
        });
    }
    let discovered = http1::once(nacos.server.address, &theirs[1]);
    assert_eq!(discovered.matches("\"instanceId\"").count(), 10, "{discovered}");
    for at in 0..MANY {
        register(nacos.server.address, &format!("s{}", at / 10), at % 10);
    }
    println!("r-nacos with {MANY} instances: {:.1} MiB", memory(nacos.server.pid, "VmRSS"));
}

fn register(address: SocketAddr, service: &str, at: usize) {
    let path = format!(
        "/nacos/v1/ns/instance?serviceName={service}&ip=10.0.0.{at}&port=8080&ephemeral=true"
    );
    http1::until(address, &Request::new("POST", path), 200);
}
