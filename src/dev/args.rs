//! The flags of `rollcall dev`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::ports;

/// Run a real Kubernetes control plane and rollcall on this machine, to try rollcall out.
#[derive(Debug, Clone, clap::Args)]
pub struct DevArgs {
    /// Number of replicas; each further replica listens on the next port
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub replicas: u16,
    /// Keep all state in this directory and reuse it at the next start [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Address and port of the HTTP server; port 0 chooses a free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub http_listen: SocketAddr,
    /// Address and port of the DNS server, UDP and TCP
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:1053")]
    pub dns_listen: SocketAddr,
    /// Address and port of the admin server: probes, metrics and the log level
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    pub admin_listen: SocketAddr,
    /// Do not install the sample services
    #[arg(long)]
    pub no_samples: bool,
}

/// Where one replica listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Address of the HTTP server.
    pub http: SocketAddr,
    /// Address of the DNS server.
    pub dns: SocketAddr,
    /// Address of the admin server.
    pub admin: SocketAddr,
}

impl DevArgs {
    /// Returns the addresses of each replica, with a free port for each 0. Checks that every port is free before
    /// anything slow is started.
    ///
    /// # Errors
    /// Names the first address that cannot be used, and its flag.
    pub fn addresses(&self) -> Result<Vec<Addresses>> {
        let for_replica = |index| {
            Ok(Addresses {
                http: choose_address("--http-listen", self.http_listen, index)?,
                dns: choose_address("--dns-listen", self.dns_listen, index)?,
                admin: choose_address("--admin-listen", self.admin_listen, index)?,
            })
        };
        (0..self.replicas).map(for_replica).collect()
    }
}

fn choose_address(flag: &str, first: SocketAddr, index: u16) -> Result<SocketAddr> {
    let mut address = first;
    if first.port() == 0 {
        address.set_port(ports::free().context("cannot find a free port on this machine")?.port());
    } else {
        let port = first.port().checked_add(index);
        address.set_port(port.with_context(|| {
            format!("{flag} {first} leaves no port for replica {index}: choose a lower port")
        })?);
    }
    ports::available(address).with_context(|| {
        format!(
            "cannot listen on {address}: choose another address with {flag}, for example {flag} {}:0",
            host(address)
        )
    })?;
    Ok(address)
}

/// The host part of an address, with brackets around IPv6.
fn host(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => v4.ip().to_string(),
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_in_use_is_refused_with_its_flag_and_port_zero_becomes_a_free_one() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let options = DevArgs {
            replicas: 2,
            state_dir: None,
            http_listen: "127.0.0.1:0".parse().unwrap(),
            dns_listen: taken.local_addr().unwrap(),
            admin_listen: "127.0.0.1:0".parse().unwrap(),
            no_samples: false,
        };
        let error = options.addresses().unwrap_err().to_string();
        assert!(error.contains("--dns-listen"), "{error}");
        let options = DevArgs { dns_listen: "127.0.0.1:0".parse().unwrap(), ..options };
        let addresses = options.addresses().unwrap();
        assert_eq!(addresses.len(), 2);
        assert!(
            addresses.iter().all(|replica| replica.http.port() != 0 && replica.dns.port() != 0)
        );
    }
}
