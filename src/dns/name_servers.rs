//! Keeps the addresses of `ns.dns.<zone>` up to date.
//!
//! Owns: resolving the host names among `--dns-name-servers`. Does not own: the records (`zone`).

use std::{net::IpAddr, time::Duration};

use tokio::{
    net::lookup_host,
    time::{sleep, timeout},
};

use crate::config::NameServer;
use crate::dns::zone::Zone;

/// The interval between lookups of a host name, and the delay after a failed one.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// The deadline of one lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Updates the addresses of the zone's name server for as long as the process runs. If a lookup fails, the zone gets the
/// addresses of the other hosts; if all lookups fail, it keeps its addresses.
pub async fn refresh(zone: Zone, servers: Vec<NameServer>) {
    if servers.iter().all(|server| matches!(server, NameServer::Address(_))) {
        // The zone already has the fixed addresses. No deadline: there is nothing else to do.
        return std::future::pending().await;
    }
    let mut was_missing = false;
    loop {
        let (mut found, mut missing) = (Vec::new(), false);
        for server in &servers {
            match server {
                NameServer::Address(address) => found.push(*address),
                NameServer::Host(host) => match look_up(host).await {
                    Ok(addresses) => found.extend(addresses),
                    Err(reason) => {
                        missing = true;
                        if !was_missing {
                            let retry = "looking it up again every 5 s";
                            tracing::warn!(
                                host,
                                reason,
                                retry,
                                "cannot resolve a host of --dns-name-servers"
                            );
                        }
                    }
                },
            }
        }
        found.sort_unstable();
        found.dedup();
        if !found.is_empty() && *zone.addresses() != found {
            tracing::info!(?found, "the addresses of the name server changed");
            zone.set_addresses(found);
        }
        was_missing = missing;
        sleep(if missing { RETRY_DELAY } else { REFRESH_INTERVAL }).await;
    }
}

async fn look_up(host: &str) -> Result<Vec<IpAddr>, String> {
    match timeout(LOOKUP_TIMEOUT, lookup_host((host, 53))).await {
        Ok(Ok(found)) => Ok(found.map(|address| address.ip()).collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {LOOKUP_TIMEOUT:?}")),
    }
}
