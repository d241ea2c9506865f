//! The flags of the DNS server other than its zone and its address, and their validation. Does not own: what the
//! settings do (`dns`).

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    time::Duration,
};

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use rollcall_model::naming;

use crate::config::error::{ConfigError, check};

/// What DNS answers for a service without a discoverable instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum EmptyAnswer {
    /// NOERROR without records
    #[default]
    #[value(name = "nodata")]
    NoData,
    /// NXDOMAIN, for every name of the service
    #[value(name = "nxdomain")]
    NxDomain,
    /// The Expired and Critical instances whose operator state is Up
    Last,
}

/// The flags of the DNS server.
#[derive(Args, Clone, Debug)]
pub struct DnsArgs {
    /// Addresses at which resolvers reach this server, for the name `ns.dns.<zone>`; host names are resolved
    /// again every minute [default: --advertise-address]
    #[arg(long, env = "ROLLCALL_DNS_NAME_SERVERS", value_delimiter = ',', value_name = "HOST")]
    pub dns_name_servers: Vec<String>,
    /// Networks for which this server answers reverse lookups (PTR), for example 10.244.0.0/16,fd00::/8
    #[arg(long, env = "ROLLCALL_DNS_REVERSE_ZONES", value_delimiter = ',', value_name = "CIDR")]
    pub dns_reverse_zones: Vec<String>,
    /// What to answer for a service without a discoverable instance
    #[arg(long, env = "ROLLCALL_DNS_EMPTY", default_value = "nodata")]
    pub dns_empty: EmptyAnswer,
    /// Maximum number of instances in an answer; each client gets the same subset of a service for a minute
    /// [default: all]
    #[arg(long, env = "ROLLCALL_DNS_MAX_ANSWERS", value_name = "COUNT")]
    pub dns_max_answers: Option<NonZeroUsize>,
    /// Networks that may send queries [default: all]
    #[arg(long, env = "ROLLCALL_DNS_ALLOW", value_delimiter = ',', value_name = "CIDR")]
    pub dns_allow: Vec<String>,
    /// Networks that may transfer the zone (AXFR) [default: none]
    #[arg(long, env = "ROLLCALL_DNS_TRANSFER", value_delimiter = ',', value_name = "CIDR")]
    pub dns_transfer: Vec<String>,
    /// Secondary servers to notify of changes (NOTIFY), for example 10.0.0.53:53
    #[arg(long, env = "ROLLCALL_DNS_NOTIFY", value_delimiter = ',', value_name = "ADDRESS:PORT")]
    pub dns_notify: Vec<SocketAddr>,
    /// Errors and NXDOMAIN answers per second to one /24 or /56 over UDP without a cookie; answers beyond that
    /// are truncated, so that clients ask again over TCP; 0 means no limit
    #[arg(long, env = "ROLLCALL_DNS_ERROR_RATE", default_value_t = 500, value_name = "RATE")]
    pub dns_error_rate: u32,
    /// Secret for DNS cookies: 32 hexadecimal digits, the same on every replica [default: a random secret on
    /// each replica]
    #[arg(long, env = "ROLLCALL_DNS_COOKIE_SECRET", hide_env_values = true, value_name = "HEX")]
    pub dns_cookie_secret: Option<String>,
    /// Maximum size in bytes of a UDP answer to a client without a valid cookie
    #[arg(
        long,
        env = "ROLLCALL_DNS_COOKIELESS_SIZE",
        default_value_t = 1232,
        value_name = "BYTES"
    )]
    #[arg(value_parser = clap::value_parser!(u16).range(512..=1232))]
    pub dns_cookieless_size: u16,
    /// Maximum number of open TCP connections; one address can have a quarter of them
    #[arg(long, env = "ROLLCALL_DNS_CONNECTIONS", default_value_t = 1024, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub dns_connections: u32,
    /// Log one in this many queries while --log contains rollcall::dns::query=debug; =trace logs every query
    #[arg(long, env = "ROLLCALL_DNS_LOG_EVERY", default_value_t = 100, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub dns_log_every: u32,
}

/// The address of a name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameServer {
    /// A fixed IP address.
    Address(IpAddr),
    /// A host name that the resolver of this machine resolves: usually the Service of rollcall's DNS.
    Host(String),
}

/// The validated settings of the DNS server other than its zone and its address.
#[derive(Clone, Debug)]
pub struct DnsSettings {
    /// Where resolvers reach this server.
    pub name_servers: Vec<NameServer>,
    /// Networks for which reverse lookups are answered; each prefix ends on a label boundary of its zone.
    pub reverse: Vec<IpNet>,
    /// What to answer for a service without a discoverable instance.
    pub empty: EmptyAnswer,
    /// Maximum number of instances in an answer, if there is one.
    pub ceiling: Option<NonZeroUsize>,
    /// Networks that may send queries; empty means all.
    pub allow: Vec<IpNet>,
    /// Networks that may transfer the zone; empty means none.
    pub transfer: Vec<IpNet>,
    /// Secondary servers to notify of changes.
    pub notify: Vec<SocketAddr>,
    /// Errors and NXDOMAIN answers per second that are sent whole to one /24 or /56 over UDP; 0 means no limit.
    pub error_rate: u32,
    /// The secret of DNS cookies, the same on every replica; `None` means a random one.
    pub cookie_secret: Option<[u8; 16]>,
    /// Maximum size in bytes of a UDP answer to a query without a valid cookie.
    pub cookieless: u16,
    /// Maximum number of open TCP connections.
    pub connections: usize,
    /// How long a TCP connection can be idle before it is closed.
    pub idle: Duration,
    /// One in this many queries is logged while query logging is on.
    pub log_every: u32,
}

/// A connection without a query for this long is closed (RFC 7766 §6.2.3). Clients learn the value from the
/// edns-tcp-keepalive option (RFC 7828).
const IDLE: Duration = Duration::from_secs(10);

const CIDR: &str = "give networks in CIDR notation, for example 10.0.0.0/8,fd00::/8";
const REVERSE: &str = "a reverse zone ends on a label boundary: give a prefix length that is a multiple of 8 for IPv4 \
                       (10.244.0.0/16), of 4 for IPv6 (fd00::/8)";
const HOST: &str = "give IP addresses or host names, for example rollcall-dns or 10.96.0.53";
const SECRET: &str = "give 32 hexadecimal digits, for example the output of `openssl rand -hex 16`";
const NOTIFY: &str = "give reachable addresses, each with its port";

impl DnsArgs {
    /// Checks every flag. If no name server is given, resolvers reach this server at `advertised`.
    ///
    /// # Errors
    /// Names the flag, its value and the fix.
    pub(super) fn validate(&self, advertised: IpAddr) -> Result<DnsSettings, ConfigError> {
        let servers = non_empty(&self.dns_name_servers).map(parse_name_server);
        let mut name_servers = servers.collect::<Result<Vec<_>, _>>()?;
        if name_servers.is_empty() {
            name_servers.push(NameServer::Address(advertised));
        }
        let reverse = parse_networks("dns-reverse-zones", &self.dns_reverse_zones)?;
        for network in &reverse {
            let is_zone = naming::reverse_labels(*network).is_some();
            check("dns-reverse-zones", &network.to_string(), is_zone, REVERSE)?;
        }
        for address in &self.dns_notify {
            let reachable = !address.ip().is_unspecified() && address.port() != 0;
            check("dns-notify", &address.to_string(), reachable, NOTIFY)?;
        }
        let secret = self.dns_cookie_secret.as_deref().filter(|secret| !secret.is_empty());
        let cookie_secret = secret.and_then(parse_secret);
        // The error does not repeat the value, because a secret must not reach the log.
        check("dns-cookie-secret", "…", secret.is_none() || cookie_secret.is_some(), SECRET)?;
        Ok(DnsSettings {
            name_servers,
            reverse,
            empty: self.dns_empty,
            ceiling: self.dns_max_answers,
            allow: parse_networks("dns-allow", &self.dns_allow)?,
            transfer: parse_networks("dns-transfer", &self.dns_transfer)?,
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

/// Trims the values and skips empty ones, because an empty variable counts as not set.
fn non_empty(values: &[String]) -> impl Iterator<Item = &str> {
    values.iter().map(|value| value.trim()).filter(|value| !value.is_empty())
}

fn parse_name_server(text: &str) -> Result<NameServer, ConfigError> {
    if let Ok(address) = text.parse() {
        return Ok(NameServer::Address(address));
    }
    let host = text.trim_end_matches('.').to_ascii_lowercase();
    check("dns-name-servers", text, naming::is_subdomain(&host), HOST)?;
    Ok(NameServer::Host(text.to_owned()))
}

/// Parses networks; a single address is a network of one address.
fn parse_networks(flag: &'static str, values: &[String]) -> Result<Vec<IpNet>, ConfigError> {
    let parse = |value: &str| {
        let network = value.parse::<IpNet>().ok();
        network.or_else(|| value.parse::<IpAddr>().ok().map(IpNet::from)).map(|net| net.trunc())
    };
    let error = |value: &str| ConfigError::Value { flag, value: value.to_owned(), fix: CIDR };
    non_empty(values).map(|value| parse(value).ok_or_else(|| error(value))).collect()
}

fn parse_secret(secret: &str) -> Option<[u8; 16]> {
    let digits = secret.len() == 32 && secret.bytes().all(|digit| digit.is_ascii_hexdigit());
    digits.then(|| u128::from_str_radix(secret, 16).ok().map(u128::to_be_bytes)).flatten()
}
