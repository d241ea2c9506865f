//! The flags of `rollcall dev`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::ports;

/// Start a real Kubernetes API and a rollcall on this machine, to try things out.
#[derive(Debug, Clone, clap::Args)]
pub struct DevArgs {
    /// How many replicas to run; each next one listens one port further
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub replicas: u16,
    /// Keep all state in this folder and reuse it at the next start [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Where to answer HTTP; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub http_listen: SocketAddr,
    /// Where to answer DNS, over UDP and TCP
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:1053")]
    pub dns_listen: SocketAddr,
    /// Where to serve /readyz and /metrics
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    pub admin_listen: SocketAddr,
    /// Install no sample services
    #[arg(long)]
    pub no_samples: bool,
}

/// Where one replica listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// HTTP.
    pub http: SocketAddr,
    /// DNS.
    pub dns: SocketAddr,
    /// Probes and metrics.
    pub admin: SocketAddr,
}

impl DevArgs {
    /// Makes sure, before anything slow is started, that every port is free, and puts a free one for
    /// each 0. One answer for each replica.
    ///
    /// # Errors
    /// The first address that cannot be used, with its flag.
    pub fn addresses(&self) -> Result<Vec<Addresses>> {
        let one = |index| {
            Ok(Addresses {
                http: settle("--http-listen", self.http_listen, index)?,
                dns: settle("--dns-listen", self.dns_listen, index)?,
                admin: settle("--admin-listen", self.admin_listen, index)?,
            })
        };
        (0..self.replicas).map(one).collect()
    }
}

fn settle(flag: &str, first: SocketAddr, index: u16) -> Result<SocketAddr> {
    let mut address = first;
    if first.port() == 0 {
        address.set_port(ports::free().context("no free port on this machine")?.port());
    } else {
        let port = first.port().checked_add(index);
        address.set_port(
            port.with_context(|| format!("{flag} {first} leaves no port for replica {index}"))?,
        );
    }
    ports::available(address).with_context(|| {
        format!(
            "cannot listen on {address}: choose another address with {flag}, say {flag} {}:0",
            host(address)
        )
    })?;
    Ok(address)
}

/// The host part, as it is written before a port.
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
    fn a_port_in_use_is_refused_with_its_flag_and_zero_becomes_a_free_one() {
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
        assert!(addresses.iter().all(|one| one.http.port() != 0 && one.dns.port() != 0));
    }
}
