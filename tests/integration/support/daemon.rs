//! Third-party DNS servers, each a process that ends with its test: unbound and dnsmasq in front of rollcall, NSD as a
//! secondary of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hickory_proto::rr::RecordType;
use rollcall::dev::launch::Program;
use rollcall::dev::{Child, ports};

use super::control_plane::{launcher, state_dir};
use super::{dns, eventually};

/// The time from the start to the first answer, on a busy machine.
const BOUND: Duration = Duration::from_secs(30);

/// How unbound reaches a zone.
#[derive(Clone, Copy, Debug)]
pub enum Upstream {
    /// It asks an authority (`stub-zone`).
    Stub,
    /// It asks another resolver (`forward-zone`).
    Forward,
}

/// A DNS server on a free port of 127.0.0.1. Dropping it kills it, and prints the end of its log when the test panics.
pub struct Daemon {
    /// Where it answers, over UDP and TCP.
    pub address: SocketAddr,
    child: Child,
}

impl Daemon {
    /// An unbound that validates, checks case (0x20), takes an NXDOMAIN as valid for all names below, does not change TTLs,
    /// and asks `server` about these zones.
    pub async fn unbound(name: &str, server: SocketAddr, zones: &[(&str, Upstream)]) -> Self {
        let address = ports::free().unwrap();
        let mut text = format!(
            "server:\n interface: 127.0.0.1\n port: {}\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n \
             do-daemonize: no\n use-syslog: no\n verbosity: 1\n num-threads: 1\n do-ip6: no\n \
             trust-anchor: \". DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D\"\n \
             access-control: 127.0.0.0/8 allow\n do-not-query-localhost: no\n use-caps-for-id: yes\n \
             harden-below-nxdomain: yes\n qname-minimisation-strict: yes\n cache-min-ttl: 0\n",
            address.port()
        );
        for (zone, _) in zones {
            text += &format!(" domain-insecure: \"{zone}\"\n local-zone: \"{zone}\" nodefault\n");
        }
        for (zone, upstream) in zones {
            let (clause, flag) = match upstream {
                Upstream::Stub => ("stub-zone", "stub-addr"),
                Upstream::Forward => ("forward-zone", "forward-addr"),
            };
            let (ip, port) = (server.ip(), server.port());
            text += &format!("{clause}:\n name: \"{zone}\"\n {flag}: {ip}@{port}\n");
        }
        let args = ["-d", "-p", "-c", "unbound.conf"];
        Self::start(name, ("unbound", "unbound"), (address, &text), &args, zones[0].0).await
    }

    /// A dnsmasq that forwards everything below `zone` to `server`.
    pub async fn dnsmasq(name: &str, server: SocketAddr, zone: &str) -> Self {
        let address = ports::free().unwrap();
        let text = format!(
            "port={}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\nuser=\ngroup=\npid-file=\n\
             log-facility=-\nserver=/{zone}/{}#{}\n",
            address.port(),
            server.ip(),
            server.port()
        );
        let args = ["--keep-in-foreground", "--conf-file=dnsmasq.conf"];
        Self::start(name, ("dnsmasq", "dnsmasq-base"), (address, &text), &args, zone).await
    }

    /// An NSD at `address` that transfers `zone` from `server`. `transfer` is `AXFR`, or empty for IXFR
    /// first. It accepts a NOTIFY from this machine.
    pub async fn nsd(
        name: &str,
        (address, server): (SocketAddr, SocketAddr),
        transfer: &str,
        zone: &str,
    ) -> Self {
        let text = format!(
            "server:\n ip-address: 127.0.0.1\n port: {}\n server-count: 1\n username: \"\"\n chroot: \"\"\n \
             zonesdir: \".\"\n pidfile: \"\"\n database: \"\"\n zonelistfile: \"zones\"\n xfrdfile: \"xfrd\"\n \
             xfrdir: \".\"\nremote-control:\n control-enable: no\nzone:\n name: {zone}\n zonefile: \"zone\"\n \
             request-xfr: {transfer} {}@{} NOKEY\n allow-notify: 127.0.0.0/8 NOKEY\n",
            address.port(),
            server.ip(),
            server.port()
        );
        Self::start(name, ("nsd", "nsd"), (address, &text), &["-d", "-c", "nsd.conf"], zone).await
    }

    async fn start(
        name: &str,
        (command, package): (&str, &str),
        (address, config): (SocketAddr, &str),
        args: &[&str],
        zone: &str,
    ) -> Self {
        let dir = state_dir(&format!("{command}-{name}"));
        std::fs::write(dir.join(format!("{command}.conf")), config).unwrap();
        let program = Program {
            name: format!("{command} ({name})"),
            path: find(command, package),
            args: args.iter().map(Into::into).collect(),
            log: dir.join("log"),
            dir,
            env: Vec::new(),
        };
        let child = launcher().start(&program).await.unwrap();
        let daemon = Self { address, child };
        eventually(&format!("{command} answers"), BOUND, async || {
            if let Some(end) = daemon.child.has_ended() {
                panic!("{}", daemon.child.exit_report(&end));
            }
            dns::ask(address, zone, RecordType::SOA).await.map(|_| ())
        })
        .await;
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.child.exit_report("only this text, from the test"));
        }
    }
}

/// Finds a program. Debian installs servers in folders that are in the PATH of root only.
fn find(command: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|folder| folder.join(command)).find(|file| Path::is_file(file));
    found.unwrap_or_else(|| {
        panic!("these tests need `{command}` (Debian: apt-get install {package})")
    })
}
