//! The zones that this server answers for.
//!
//! Owns: [`Zones`], built from the settings and the directory. Does not own: the answers (`answer`).

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use rollcall_core::directory::Directory;

use crate::config::{DnsSettings, NameServer};
use crate::dns::{
    reverse::ReverseZone,
    zone::{MAX_ZONE, Zone},
};

/// The forward zone and the reverse zones, with the directory and the settings that their answers depend on.
#[derive(Clone, Debug)]
pub struct Zones {
    /// The forward zone (`--zone`).
    pub zone: Zone,
    /// The zones in which addresses have PTR records (`--dns-reverse-zones`).
    pub reverse: Box<[ReverseZone]>,
    /// The views of all services.
    pub directory: Arc<Directory>,
    /// The DNS flags.
    pub settings: DnsSettings,
}

/// A zone that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    /// `--zone` is not a valid zone name.
    #[error(
        "--zone {zone:?} is not a valid zone: use lower-case letters, digits, hyphens and dots, at most \
         {MAX_ZONE} characters"
    )]
    Zone {
        /// The value of the flag.
        zone: String,
    },
    /// A network does not end at a label boundary.
    #[error(
        "--dns-reverse-zones {network} is not a reverse zone: use a prefix length that is a multiple of 8 bits for \
         IPv4 (10.0.0.0/8, 10.244.0.0/16) or of 4 for IPv6 (fd00::/8)"
    )]
    Reverse {
        /// The value of the flag.
        network: IpNet,
    },
}

impl Zones {
    /// Parses the zone, with or without a final dot, and the reverse zones of the settings.
    ///
    /// # Errors
    /// When one of them is not a valid zone.
    pub fn new(
        zone: &str,
        settings: DnsSettings,
        directory: Arc<Directory>,
    ) -> Result<Self, ZoneError> {
        let addresses: Vec<IpAddr> = settings.name_servers.iter().filter_map(address).collect();
        let zone = Zone::parse(zone, &addresses)
            .ok_or_else(|| ZoneError::Zone { zone: zone.to_owned() })?;
        let reverse = settings.reverse.iter().map(|network| {
            ReverseZone::new(*network).ok_or(ZoneError::Reverse { network: *network })
        });
        let reverse = reverse.collect::<Result<_, _>>()?;
        Ok(Self { zone, reverse, directory, settings })
    }
}

/// The address of a name server; `None` for a host name, which `name_servers` resolves.
fn address(server: &NameServer) -> Option<IpAddr> {
    match server {
        NameServer::Address(address) => Some(*address),
        NameServer::Host(_) => None,
    }
}
