//! The flags of `rollcall dev`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::ports;

/// Start a real Kubernetes API and a rollcall on this machine, to try things out.
#[derive(Debug, Clone, clap::Args)]
pub struct DevArgs {
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

impl DevArgs {
    /// Makes sure, before anything slow is started, that every port is free, and puts a free one for
    /// each 0.
    ///
    /// # Errors
    /// The first address that cannot be used, with its flag.
    pub fn settle_ports(&mut self) -> Result<()> {
        let flags = [
            ("--http-listen", &mut self.http_listen),
            ("--dns-listen", &mut self.dns_listen),
            ("--admin-listen", &mut self.admin_listen),
        ];
        for (flag, address) in flags {
            if address.port() == 0 {
                let free = ports::free().context("no free port on this machine")?;
                address.set_port(free.port());
            }
            ports::available(*address).with_context(|| {
                format!("cannot listen on {address}: choose another address with {flag}, say {flag} {}:0", host(*address))
            })?;
        }
        Ok(())
    }
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
        let mut options = DevArgs {
            state_dir: None,
            http_listen: "127.0.0.1:0".parse().unwrap(),
            dns_listen: taken.local_addr().unwrap(),
            admin_listen: "127.0.0.1:0".parse().unwrap(),
            no_samples: false,
        };
        let error = options.settle_ports().unwrap_err().to_string();
        assert!(error.contains("--dns-listen"), "{error}");
        assert_ne!(options.http_listen.port(), 0);
    }
}
