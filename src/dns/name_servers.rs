//! The addresses of `ns.dns.<zone>`, kept up to date.
//!
//! Owns: looking up the names among them again and again. Does not own: who asks for them (`zone`).

use std::{net::IpAddr, time::Duration};

use tokio::{
    net::lookup_host,
    time::{sleep, timeout},
};

use crate::config::NameServer;
use crate::dns::zone::Zone;

/// How often a name is looked up again, and how soon after it could not be.
const AGAIN: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(5);

/// How long one look-up may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps the zone's addresses up to date, for ever. While a host has none, the others are those of the zone; while none
/// has any, it stays as it was.
pub async fn keep(zone: Zone, servers: Vec<NameServer>) {
    if servers.iter().all(|server| matches!(server, NameServer::Address(_))) {
        // What never changes was given to the zone already. No deadline: it is for ever.
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
                    Err(why) => {
                        missing = true;
                        if !was_missing {
                            let again = "it is looked up again every 5 s";
                            tracing::warn!(host, why, again, "a name server has no address");
                        }
                    }
                },
            }
        }
        found.sort_unstable();
        found.dedup();
        if !found.is_empty() && *zone.addresses() != found {
            tracing::info!(?found, "the addresses of the name server");
            zone.set_addresses(found);
        }
        was_missing = missing;
        sleep(if missing { SOON } else { AGAIN }).await;
    }
}

async fn look_up(host: &str) -> Result<Vec<IpAddr>, String> {
    match timeout(PATIENCE, lookup_host((host, 53))).await {
        Ok(Ok(found)) => Ok(found.map(|address| address.ip()).collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("not answered within {PATIENCE:?}")),
    }
}
