//! DNS beyond where it listens and for which zone: its flags, and one validated value of them. Does not own: what
//! they do (`dns`).

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    time::Duration,
};

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use rollcall_model::naming;

use crate::config::error::{ConfigError, check};

/// What a service answers that has nobody to offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Empty {
    /// No error and no records
    #[default]
    #[value(name = "nodata")]
    NoData,
    /// NXDOMAIN, for all names of the service
    #[value(name = "nxdomain")]
    NxDomain,
    /// The Expired and Critical ones, unless their state takes them out
    Last,
}

/// The flags.
#[derive(Args, Clone, Debug)]
pub struct DnsArgs {
    /// Where resolvers reach this service: addresses, or names that are looked up every minute, for
    /// `ns.dns.<zone>` [default: --advertise-address]
    #[arg(long, env = "ROLLCALL_DNS_NAME_SERVERS", value_delimiter = ',', value_name = "HOST")]
    pub dns_name_servers: Vec<String>,
    /// Networks whose addresses are answered with names (PTR), for example 10.244.0.0/16,fd00::/8
    #[arg(long, env = "ROLLCALL_DNS_REVERSE_ZONES", value_delimiter = ',', value_name = "CIDR")]
    pub dns_reverse_zones: Vec<String>,
    /// What a service answers that has nobody to offer
    #[arg(long, env = "ROLLCALL_DNS_EMPTY", default_value = "nodata")]
    pub dns_empty: Empty,
    /// The most instances in an answer: each client has the same part of a service for a minute [default:
    /// all]
    #[arg(long, env = "ROLLCALL_DNS_MAX_ANSWERS", value_name = "COUNT")]
    pub dns_max_answers: Option<NonZeroUsize>,
    /// Networks that may ask [default: all]
    #[arg(long, env = "ROLLCALL_DNS_ALLOW", value_delimiter = ',', value_name = "CIDR")]
    pub dns_allow: Vec<String>,
    /// Networks that may transfer the zone (AXFR) [default: none]
    #[arg(long, env = "ROLLCALL_DNS_TRANSFER", value_delimiter = ',', value_name = "CIDR")]
    pub dns_transfer: Vec<String>,
    /// Secondaries that are told of changes (NOTIFY), for example 10.0.0.53:53
    #[arg(long, env = "ROLLCALL_DNS_NOTIFY", value_delimiter = ',', value_name = "ADDRESS:PORT")]
    pub dns_notify: Vec<SocketAddr>,
    /// Errors and NXDOMAIN a second that go to one /24 or /56 by UDP without a cookie; the others are cut, and
    /// asked for again by TCP; 0: no bound
    #[arg(long, env = "ROLLCALL_DNS_ERROR_RATE", default_value_t = 500, value_name = "RATE")]
    pub dns_error_rate: u32,
    /// 32 hexadecimal digits, the same on every replica, that DNS cookies are made by [default: each its
    /// own]
    #[arg(long, env = "ROLLCALL_DNS_COOKIE_SECRET", hide_env_values = true, value_name = "HEX")]
    pub dns_cookie_secret: Option<String>,
    /// The largest UDP answer to who has shown no cookie, in octets
    #[arg(
        long,
        env = "ROLLCALL_DNS_COOKIELESS_SIZE",
        default_value_t = 1232,
        value_name = "OCTETS"
    )]
    #[arg(value_parser = clap::value_parser!(u16).range(512..=1232))]
    pub dns_cookieless_size: u16,
    /// TCP connections at once; one address may have a quarter of them
    #[arg(long, env = "ROLLCALL_DNS_CONNECTIONS", default_value_t = 1024, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub dns_connections: u32,
    /// One in so many queries is logged while --log has rollcall::dns::query=debug; with =trace each
    #[arg(long, env = "ROLLCALL_DNS_LOG_EVERY", default_value_t = 100, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub dns_log_every: u32,
}

/// Where a name server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameServer {
    /// There.
    Address(IpAddr),
    /// Where the resolver of this machine says: the Service of rollcall's DNS.
    Host(String),
}

/// The settings of DNS beyond where it listens and for which zone: the flags, validated.
#[derive(Clone, Debug)]
pub struct DnsSettings {
    /// Where resolvers reach this service.
    pub name_servers: Vec<NameServer>,
    /// Networks whose addresses are answered with names; each ends where a label of its zone does.
    pub reverse: Vec<IpNet>,
    /// What a service answers that has nobody to offer.
    pub empty: Empty,
    /// How many instances an answer has at most, if there is a ceiling.
    pub ceiling: Option<NonZeroUsize>,
    /// Networks that may ask; all when none is named.
    pub allow: Vec<IpNet>,
    /// Networks that may transfer the zone; none when none is named.
    pub transfer: Vec<IpNet>,
    /// Secondaries that are told of changes.
    pub notify: Vec<SocketAddr>,
    /// Errors and denials a second that go whole to one /24 or /56 over UDP; 0 is no bound.
    pub error_rate: u32,
    /// The secret of cookies, the same on every replica; none makes one up.
    pub cookie_secret: Option<[u8; 16]>,
    /// The largest UDP message in answer to a query without a cookie of ours, in bytes.
    pub cookieless: u16,
    /// Connections at once.
    pub connections: usize,
    /// How long a connection may be idle.
    pub idle: Duration,
    /// One in so many queries is logged while that is switched on.
    pub log_every: u32,
}

/// A connection on which nothing is asked for this long is closed (RFC 7766 §6.2.3); clients are told
/// (RFC 7828).
const IDLE: Duration = Duration::from_secs(10);

const CIDR: &str = "give networks by their length in bits, for example 10.0.0.0/8,fd00::/8";
const REVERSE: &str = "a reverse zone ends where a label does: give a length that is a multiple of 8 bits for IPv4 \
                       (10.244.0.0/16), of 4 for IPv6 (fd00::/8)";
const HOST: &str = "give IP addresses or host names, for example rollcall-dns or 10.96.0.53";
const SECRET: &str = "give 32 hexadecimal digits, for example those of `openssl rand -hex 16`";
const NOTIFY: &str = "give addresses that can be reached, each with its port";

impl DnsArgs {
    /// Checks every flag. Without a name server, resolvers reach this service at `advertised`.
    ///
    /// # Errors
    /// Names the flag, its value and what to give instead.
    pub(super) fn validate(&self, advertised: IpAddr) -> Result<DnsSettings, ConfigError> {
        let servers = present(&self.dns_name_servers).map(name_server);
        let mut name_servers = servers.collect::<Result<Vec<_>, _>>()?;
        if name_servers.is_empty() {
            name_servers.push(NameServer::Address(advertised));
        }
        let reverse = networks("dns-reverse-zones", &self.dns_reverse_zones)?;
        for network in &reverse {
            let is_zone = naming::reverse_labels(*network).is_some();
            check("dns-reverse-zones", &network.to_string(), is_zone, REVERSE)?;
        }
        for address in &self.dns_notify {
            let reachable = !address.ip().is_unspecified() && address.port() != 0;
            check("dns-notify", &address.to_string(), reachable, NOTIFY)?;
        }
        let secret = self.dns_cookie_secret.as_deref().filter(|secret| !secret.is_empty());
        let cookie_secret = secret.and_then(octets);
        // What was given is not repeated: it may be in a log then.
        check("dns-cookie-secret", "…", secret.is_none() || cookie_secret.is_some(), SECRET)?;
        Ok(DnsSettings {
            name_servers,
            reverse,
            empty: self.dns_empty,
            ceiling: self.dns_max_answers,
            allow: networks("dns-allow", &self.dns_allow)?,
            transfer: networks("dns-transfer", &self.dns_transfer)?,
            notify: self.dns_notify.clone(),
            error_rate: self.dns_error_rate,
            cookie_secret,
            cookieless: self.dns_cookieless_size,
            connections: usize::try_from(self.dns_connections).unwrap_or(usize::MAX),
            idle: IDLE,
            log_every: self.dns_log_every,
        })
    }
}

/// An empty variable is as good as none.
fn present(values: &[String]) -> impl Iterator<Item = &str> {
    values.iter().map(|value| value.trim()).filter(|value| !value.is_empty())
}

fn name_server(text: &str) -> Result<NameServer, ConfigError> {
    if let Ok(address) = text.parse() {
        return Ok(NameServer::Address(address));
    }
    let host = text.trim_end_matches('.').to_ascii_lowercase();
    check("dns-name-servers", text, naming::is_subdomain(&host), HOST)?;
    Ok(NameServer::Host(text.to_owned()))
}

/// Networks; a single address is one of its own.
fn networks(flag: &'static str, values: &[String]) -> Result<Vec<IpNet>, ConfigError> {
    let read = |value: &str| {
        let network = value.parse::<IpNet>().ok();
        network.or_else(|| value.parse::<IpAddr>().ok().map(IpNet::from)).map(|net| net.trunc())
    };
    let wrong = |value: &str| ConfigError::Value { flag, value: value.to_owned(), fix: CIDR };
    present(values).map(|value| read(value).ok_or_else(|| wrong(value))).collect()
}

fn octets(secret: &str) -> Option<[u8; 16]> {
    let digits = secret.len() == 32 && secret.bytes().all(|digit| digit.is_ascii_hexdigit());
    digits.then(|| u128::from_str_radix(secret, 16).ok().map(u128::to_be_bytes)).flatten()
}
