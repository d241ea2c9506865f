//! The configuration of a replica: flags, their `ROLLCALL_…` variables, and one validated value.

mod dns;
mod error;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Arg, Args, Command, ValueEnum, builder::BoolishValueParser};
use rollcall_model::{instance::InstanceKey, naming};

use crate::config::error::{check, missing};
use crate::telemetry::logs::Format;

pub use dns::{DnsArgs, DnsSettings, Empty, NameServer};
pub use error::ConfigError;

/// Who may write over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// Whose token says so: a bearer token of the audience `rollcall`, and rights by RBAC.
    Token,
    /// Anybody who reaches the port: for `rollcall dev` and tests.
    None,
}

/// How it is found out whose a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuthTokens {
    /// The API server is asked about each (TokenReview), and knows when its pod is gone
    Review,
    /// By the keys that the API server publishes: no call a token, and each is good until it ends
    Jwks,
}

/// The flags of `rollcall serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// DNS zone that the registry answers for
    #[arg(long, env = "ROLLCALL_ZONE", default_value = "rollcall.internal")]
    pub zone: String,
    /// Where to answer HTTP
    #[arg(long, env = "ROLLCALL_HTTP_LISTEN", default_value = "0.0.0.0:8080", value_parser = listen)]
    pub http_listen: SocketAddr,
    /// Where to answer DNS, by UDP and TCP
    #[arg(long, env = "ROLLCALL_DNS_LISTEN", default_value = "0.0.0.0:1053", value_parser = listen)]
    pub dns_listen: SocketAddr,
    /// Where to answer probes and metrics
    #[arg(long, env = "ROLLCALL_ADMIN_LISTEN", default_value = "0.0.0.0:9090", value_parser = listen)]
    pub admin_listen: SocketAddr,
    /// Name of this replica, unique among the replicas; in a pod its name
    #[arg(long, env = "ROLLCALL_IDENTITY", default_value = "", hide_default_value = true)]
    pub identity: String,
    /// Address at which others reach this replica [default: that of --http-listen, or 127.0.0.1 when
    /// that is any]
    #[arg(long, env = "ROLLCALL_ADVERTISE_ADDRESS")]
    pub advertise_address: Option<IpAddr>,
    /// Uid of the pod that this replica is in: what it keeps for itself goes with it
    #[arg(long, env = "ROLLCALL_POD_UID")]
    pub pod_uid: Option<String>,
    /// Namespace that rollcall itself lives in
    #[arg(long, env = "ROLLCALL_OWN_NAMESPACE", default_value = "rollcall-system")]
    pub own_namespace: String,
    /// Look after this namespace only [default: all]
    #[arg(long, env = "ROLLCALL_WATCH_NAMESPACE")]
    pub watch_namespace: Option<String>,
    /// How to reach the Kubernetes API [default: $KUBECONFIG, else ~/.kube/config, else the pod's
    /// ServiceAccount]
    #[arg(long, env = "ROLLCALL_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Who may write over HTTP
    #[arg(long, env = "ROLLCALL_AUTH", default_value = "token")]
    pub auth: Auth,
    /// How it is found out whose a token is
    #[arg(long, env = "ROLLCALL_AUTH_TOKENS", default_value = "review")]
    pub auth_tokens: AuthTokens,
    /// Ask for a token and rights to read over HTTP, too
    #[arg(long, env = "ROLLCALL_READ_AUTH", value_parser = BoolishValueParser::new())]
    pub read_auth: bool,
    /// Requests a second of one caller over HTTP, and twice as many at once; without a token a caller is an
    /// address; 0: no bound
    #[arg(long, env = "ROLLCALL_HTTP_CALLER_RATE", default_value_t = 10_000, value_name = "RATE")]
    pub http_caller_rate: u32,
    /// Writes a second over HTTP in one namespace, and twice as many at once; 0: no bound
    #[arg(
        long,
        env = "ROLLCALL_HTTP_NAMESPACE_RATE",
        default_value_t = 1_000,
        value_name = "RATE"
    )]
    pub http_namespace_rate: u32,
    /// Certificate chain (PEM) for HTTP: with it there is only HTTPS at --http-listen. The files are looked at every
    /// 10 s, and new ones are used without a restart
    #[arg(long, env = "ROLLCALL_HTTP_TLS_CERT", value_name = "FILE")]
    pub http_tls_cert: Option<PathBuf>,
    /// Private key (PEM) of that certificate
    #[arg(long, env = "ROLLCALL_HTTP_TLS_KEY", value_name = "FILE")]
    pub http_tls_key: Option<PathBuf>,
    /// Authorities (PEM) one of which has to have signed a certificate of every client
    #[arg(long, env = "ROLLCALL_HTTP_TLS_CLIENT_CA", value_name = "FILE")]
    pub http_tls_client_ca: Option<PathBuf>,
    /// How long DNS is still answered when everything else has ended
    #[arg(long, env = "ROLLCALL_LINGER_SECONDS", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u64).range(..=60))]
    pub linger_seconds: u64,
    /// What to log, for example info or info,rollcall::kubernetes=debug
    #[arg(long, env = "ROLLCALL_LOG", default_value = "info")]
    pub log: String,
    /// How to write the log
    #[arg(long, env = "ROLLCALL_LOG_FORMAT", default_value = "text")]
    pub log_format: Format,
    /// The rest of DNS.
    #[command(flatten)]
    pub dns: DnsArgs,
}

/// How much may be asked for over HTTP. 0 is no bound.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Requests a second of one caller.
    pub caller: u32,
    /// Writes a second in one namespace.
    pub namespace: u32,
}

/// The files of TLS over HTTP.
#[derive(Clone, Debug)]
pub struct HttpTls {
    /// The certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who signs the certificates of clients, if they need one.
    pub client_ca: Option<PathBuf>,
}

/// A validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Lower case, without the root's dot.
    pub zone: String,
    /// HTTP.
    pub http_listen: SocketAddr,
    /// DNS.
    pub dns_listen: SocketAddr,
    /// Probes and metrics.
    pub admin_listen: SocketAddr,
    /// The replica's own `ServiceInstance`: in the namespace that it watches, or in its own.
    pub own: InstanceKey,
    /// Tells this process from others of the same identity, earlier ones among them.
    pub boot: String,
    /// The pod that it is in, if it is in one.
    pub pod_uid: Option<String>,
    /// Where rollcall itself lives, the Lease of its leader, and the ledgers.
    pub own_namespace: String,
    /// Where others reach this replica.
    pub advertise_address: IpAddr,
    /// One namespace, or all.
    pub scope: Option<String>,
    /// Who may write over HTTP.
    pub auth: Auth,
    /// How it is found out whose a token is.
    pub auth_tokens: AuthTokens,
    /// Whether reads need a token, too.
    pub read_auth: bool,
    /// How much may be asked for over HTTP.
    pub http_rates: Rates,
    /// Certificate and key; without them there is no TLS.
    pub http_tls: Option<HttpTls>,
    /// How to reach the Kubernetes API, if not by what is found.
    pub kubeconfig: Option<PathBuf>,
    /// How long DNS is still answered when everything else has ended.
    pub linger: Duration,
    /// The rest of DNS.
    pub dns: DnsSettings,
}

impl ServeArgs {
    /// Checks every flag before anything is bound.
    ///
    /// # Errors
    /// Names the flag, its value and what to give instead.
    pub fn validate(&self) -> Result<Config, ConfigError> {
        let zone = self.zone.trim_end_matches('.').to_ascii_lowercase();
        // The longest name in the zone has labels of 63 octets for instance, service and
        // namespace, and `svc`: what is left of 253 octets is the zone's.
        check("zone", &zone, naming::is_subdomain(&zone) && zone.len() <= 56, ZONE)?;
        check("identity", &self.identity, naming::is_subdomain(&self.identity), IDENTITY)?;
        check("own-namespace", &self.own_namespace, naming::is_label(&self.own_namespace), LABEL)?;
        if let Some(scope) = &self.watch_namespace {
            check("watch-namespace", scope, naming::is_label(scope), LABEL)?;
        }
        let pointless = self.read_auth && self.auth == Auth::None;
        check("auth", "none", !pointless, READ_AUTH)?;
        let pointless = self.auth_tokens == AuthTokens::Jwks && self.auth == Auth::None;
        check("auth", "none", !pointless, AUTH_TOKENS)?;
        if let Some(address) = self.advertise_address {
            let reachable = !address.is_unspecified() && !address.is_multicast();
            check("advertise-address", &address.to_string(), reachable, ADVERTISE)?;
        }
        let advertise_address =
            self.advertise_address.unwrap_or_else(|| reachable(self.http_listen));
        let home = self.watch_namespace.as_deref().unwrap_or(&self.own_namespace);
        Ok(Config {
            zone,
            http_listen: self.http_listen,
            dns_listen: self.dns_listen,
            admin_listen: self.admin_listen,
            own: InstanceKey::new(home, &self.identity),
            boot: format!("{:08x}", fastrand::u32(..)),
            pod_uid: self.pod_uid.clone().filter(|uid| !uid.is_empty()),
            own_namespace: self.own_namespace.clone(),
            advertise_address,
            scope: self.watch_namespace.clone(),
            auth: self.auth,
            auth_tokens: self.auth_tokens,
            read_auth: self.read_auth,
            http_rates: Rates {
                caller: self.http_caller_rate,
                namespace: self.http_namespace_rate,
            },
            http_tls: self.tls()?,
            kubeconfig: self.kubeconfig.clone(),
            linger: Duration::from_secs(self.linger_seconds),
            dns: self.dns.validate(advertise_address)?,
        })
    }
}

impl ServeArgs {
    fn tls(&self) -> Result<Option<HttpTls>, ConfigError> {
        let named =
            |file: &Option<PathBuf>| file.clone().filter(|file| !file.as_os_str().is_empty());
        let client_ca = named(&self.http_tls_client_ca);
        match (named(&self.http_tls_cert), named(&self.http_tls_key)) {
            (Some(certificate), Some(key)) => Ok(Some(HttpTls { certificate, key, client_ca })),
            (Some(_), None) => Err(missing("http-tls-key", TLS_KEY)),
            (None, Some(_)) => Err(missing("http-tls-cert", TLS_CERT)),
            (None, None) if client_ca.is_some() => Err(missing("http-tls-cert", TLS_CERT)),
            (None, None) => Ok(None),
        }
    }
}

/// An address to listen on, for clap.
fn listen(text: &str) -> Result<SocketAddr, String> {
    let fix = "give an IP address and a port, for example 0.0.0.0:8080";
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(format!("{fix}: others have to know the port")),
        Ok(address) => Ok(address),
        Err(_) => Err(fix.to_owned()),
    }
}

/// Variables that look like ours and are none: most likely misspelt, and without effect.
#[must_use]
pub fn unknown_variables() -> Vec<String> {
    let command = ServeArgs::augment_args(Command::new("serve"));
    let known: Vec<_> = command.get_arguments().filter_map(Arg::get_env).collect();
    let names = std::env::vars_os().map(|(name, _)| name);
    names
        .filter(|name| !known.contains(&name.as_os_str()))
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.starts_with("ROLLCALL_"))
        .collect()
}

const ZONE: &str = "give a DNS name of at most 56 characters, for example rollcall.internal";
const READ_AUTH: &str = "with --read-auth callers are asked for tokens: leave one of them out";
const AUTH_TOKENS: &str =
    "with --auth-tokens jwks callers are asked for tokens: leave one of them out";
const ADVERTISE: &str = "give an address that others can reach; in a pod that of the pod";
const IDENTITY: &str =
    "give a DNS name in lower case, for example rollcall-0 (or set ROLLCALL_IDENTITY)";
const TLS_KEY: &str = "give the private key that goes with --http-tls-cert";
const TLS_CERT: &str = "give a certificate chain, for example /tls/tls.crt";
const LABEL: &str = "give the name of a namespace, for example rollcall-system";

fn reachable(listen: SocketAddr) -> IpAddr {
    if listen.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { listen.ip() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches as _;

    impl ServeArgs {
        /// Of these flags, with those that a test of others needs.
        pub(crate) fn of(flags: &[&str]) -> Self {
            let all = ["serve", "--identity", "r-0", "--auth", "none"];
            let command = Self::augment_args(Command::new("serve"));
            let matches = command.get_matches_from(all.iter().chain(flags));
            Self::from_arg_matches(&matches).unwrap()
        }
    }

    fn parse(flags: &[&str]) -> Result<Config, ConfigError> {
        ServeArgs::of(flags).validate()
    }

    #[test]
    fn a_bad_flag_is_named_with_its_value_and_the_fix() {
        for (flags, flag) in [
            (["--zone", "no_zone"], "--zone \"no_zone\""),
            (["--own-namespace", "A"], "--own-namespace \"A\""),
            (["--watch-namespace", "a.b"], "--watch-namespace \"a.b\""),
            (["--advertise-address", "0.0.0.0"], "--advertise-address \"0.0.0.0\""),
            (["--advertise-address", "ff02::1"], "--advertise-address \"ff02::1\""),
            (["--dns-allow", "10.0.0.0/8,10.0.0.0/33"], "--dns-allow \"10.0.0.0/33\""),
            (["--dns-transfer", "everybody"], "--dns-transfer \"everybody\""),
            (["--dns-name-servers", "no_host"], "--dns-name-servers \"no_host\""),
            (["--dns-reverse-zones", "10.0.0.0/12"], "--dns-reverse-zones \"10.0.0.0/12\""),
            (["--dns-reverse-zones", "::/0"], "--dns-reverse-zones \"::/0\""),
            (["--dns-cookie-secret", "1234"], "--dns-cookie-secret \"…\""),
            (["--dns-notify", "0.0.0.0:53"], "--dns-notify \"0.0.0.0:53\""),
        ] {
            let error = parse(&flags).unwrap_err().to_string();
            assert!(error.starts_with(flag) && error.contains("give "), "{error}");
        }
        for (flags, flag) in [
            (["--http-tls-cert", "a"], "--http-tls-key"),
            (["--http-tls-key", "a"], "--http-tls-cert"),
            (["--http-tls-client-ca", "a"], "--http-tls-cert"),
        ] {
            let error = parse(&flags).unwrap_err().to_string();
            assert!(error.starts_with(flag) && error.contains("give "), "{error}");
        }
        for flags in [&["--read-auth"][..], &["--auth-tokens", "jwks"]] {
            let error = parse(flags).unwrap_err().to_string();
            assert!(error.contains(flags[0]) && error.contains("--auth \"none\""), "{error}");
        }
    }

    #[test]
    fn networks_hosts_and_secrets_are_read() {
        let zones = ["--dns-reverse-zones", "10.244.7.0/16,fd00::/8"];
        let hosts = ["--dns-name-servers", "rollcall-dns,10.96.0.53, ::1"];
        let secret = "000102030405060708090a0b0c0d0e0f";
        let rest = ["--dns-allow", "192.0.2.1", "--dns-cookie-secret", secret];
        let dns = parse(&[&zones[..], &hosts[..], &rest[..]].concat()).unwrap().dns;
        assert_eq!(
            dns.reverse.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.244.0.0/16", "fd00::/8"]
        );
        assert_eq!(dns.allow[0].to_string(), "192.0.2.1/32");
        let address = |text: &str| NameServer::Address(text.parse().unwrap());
        let host = NameServer::Host("rollcall-dns".to_owned());
        assert_eq!(dns.name_servers, [host, address("10.96.0.53"), address("::1")]);
        assert_eq!(dns.cookie_secret.unwrap()[15], 15);
        let advertised = parse(&["--advertise-address", "192.0.2.9"]).unwrap();
        assert_eq!(advertised.dns.name_servers, [address("192.0.2.9")], "by default");
        assert!(parse(&["--dns-allow", ""]).unwrap().dns.allow.is_empty());
    }

    #[test]
    fn a_replica_lives_in_the_namespace_that_it_watches() {
        let config = parse(&["--watch-namespace", "shop", "--zone", "Example.Org."]).unwrap();
        assert_eq!(config.own, InstanceKey::new("shop", "r-0"));
        assert_eq!(config.zone, "example.org");
        assert_eq!(parse(&[]).unwrap().own, InstanceKey::new("rollcall-system", "r-0"));
    }
}
