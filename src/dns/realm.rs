//! What is answered for, and how.
//!
//! Owns: [`Realm`], made of the settings and the directory. Does not own: what a name in it answers (`answer`).

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use rollcall_core::directory::Directory;

use crate::config::{DnsSettings, NameServer};
use crate::dns::{
    reverse::Reverse,
    zone::{MAX_ZONE, Zone},
};

/// What is answered for, and how.
#[derive(Clone, Debug)]
pub struct Realm {
    /// The zone.
    pub zone: Zone,
    /// Where addresses are answered.
    pub reverse: Box<[Reverse]>,
    /// What is known.
    pub directory: Arc<Directory>,
    /// How it is answered, and to which networks.
    pub settings: DnsSettings,
}

/// A zone that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RealmError {
    /// The zone is no name to serve.
    #[error(
        "--zone {zone:?} cannot be served: a zone is made of lower-case letters, digits, hyphens \
         and dots, {MAX_ZONE} characters at most"
    )]
    Zone {
        /// What was given.
        zone: String,
    },
    /// A network is no reverse zone.
    #[error(
        "--dns-reverse-zones {network}: a reverse zone ends where a label does, so give a multiple of 8 bits for \
         IPv4 (10.0.0.0/8, 10.244.0.0/16) and of 4 for IPv6 (fd00::/8)"
    )]
    Reverse {
        /// What was given.
        network: IpNet,
    },
}

impl Realm {
    /// The zone of this name, with or without the root's dot, and the reverse zones of the settings.
    ///
    /// # Errors
    /// When one of them cannot be served.
    pub fn new(
        zone: &str,
        settings: DnsSettings,
        directory: Arc<Directory>,
    ) -> Result<Self, RealmError> {
        let addresses: Vec<IpAddr> = settings.name_servers.iter().filter_map(address).collect();
        let zone = Zone::parse(zone, &addresses)
            .ok_or_else(|| RealmError::Zone { zone: zone.to_owned() })?;
        let reverse = settings
            .reverse
            .iter()
            .map(|network| Reverse::new(*network).ok_or(RealmError::Reverse { network: *network }));
        let reverse = reverse.collect::<Result<_, _>>()?;
        Ok(Self { zone, reverse, directory, settings })
    }
}

/// The address of a name server; none while it has to be looked up (`name_servers`).
fn address(server: &NameServer) -> Option<IpAddr> {
    match server {
        NameServer::Address(address) => Some(*address),
        NameServer::Host(_) => None,
    }
}
