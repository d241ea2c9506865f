//! The configuration of a replica.
//!
//! Owns: the flags of `rollcall serve`, their `ROLLCALL_…` variables, and their validation into one [`Config`].
//! Does not own: what the settings do (the modules that read them).

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

pub use dns::{DnsArgs, DnsSettings, EmptyAnswer, NameServer};
pub use error::ConfigError;

/// Which callers may write over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// Callers with a bearer token for the audience `rollcall` and with rights granted by RBAC
    Token,
    /// Every caller that reaches the port: for `rollcall dev` and tests
    None,
}

/// How the caller behind a token is identified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuthTokens {
    /// One TokenReview per token: the API server rejects the token of a deleted pod
    Review,
    /// Signatures are verified with the API server's public keys: no call per token, but a token is valid until it
    /// expires
    Jwks,
}

/// The flags of `rollcall serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// DNS zone that this server answers for
    #[arg(long, env = "ROLLCALL_ZONE", default_value = "rollcall.internal")]
    pub zone: String,
    /// Address and port of the HTTP server
    #[arg(long, env = "ROLLCALL_HTTP_LISTEN", default_value = "0.0.0.0:8080", value_parser = parse_listen_address)]
    pub http_listen: SocketAddr,
    /// Address and port of the DNS server, UDP and TCP
    #[arg(long, env = "ROLLCALL_DNS_LISTEN", default_value = "0.0.0.0:1053", value_parser = parse_listen_address)]
    pub dns_listen: SocketAddr,
    /// Address and port of the admin server: probes, metrics and the log level
    #[arg(long, env = "ROLLCALL_ADMIN_LISTEN", default_value = "0.0.0.0:9090", value_parser = parse_listen_address)]
    pub admin_listen: SocketAddr,
    /// Name of this replica, unique among the replicas (required); in a pod, use the name of the pod
    #[arg(long, env = "ROLLCALL_IDENTITY", default_value = "", hide_default_value = true)]
    pub identity: String,
    /// Address at which clients reach this replica [default: the address of --http-listen, or
    /// 127.0.0.1 if that is 0.0.0.0 or ::]
    #[arg(long, env = "ROLLCALL_ADVERTISE_ADDRESS")]
    pub advertise_address: Option<IpAddr>,
    /// UID of the pod of this replica: Kubernetes deletes the replica's ledger together with the pod
    #[arg(long, env = "ROLLCALL_POD_UID")]
    pub pod_uid: Option<String>,
    /// Namespace that rollcall itself runs in
    #[arg(long, env = "ROLLCALL_OWN_NAMESPACE", default_value = "rollcall-system")]
    pub own_namespace: String,
    /// Serve the instances of this namespace only [default: all namespaces]
    #[arg(long, env = "ROLLCALL_WATCH_NAMESPACE")]
    pub watch_namespace: Option<String>,
    /// Kubeconfig file for the Kubernetes API [default: $KUBECONFIG, else ~/.kube/config, else the
    /// ServiceAccount of the pod]
    #[arg(long, env = "ROLLCALL_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Which callers may write over HTTP
    #[arg(long, env = "ROLLCALL_AUTH", default_value = "token")]
    pub auth: Auth,
    /// How bearer tokens are verified
    #[arg(long, env = "ROLLCALL_AUTH_TOKENS", default_value = "review")]
    pub auth_tokens: AuthTokens,
    /// Require a token and rights for reads over HTTP as well
    #[arg(long, env = "ROLLCALL_READ_AUTH", value_parser = BoolishValueParser::new())]
    pub read_auth: bool,
    /// HTTP requests per second and caller, with bursts of twice as many; callers without a token are
    /// distinguished by their address; 0 means no limit
    #[arg(long, env = "ROLLCALL_HTTP_CALLER_RATE", default_value_t = 10_000, value_name = "RATE")]
    pub http_caller_rate: u32,
    /// HTTP writes per second and namespace, with bursts of twice as many; 0 means no limit
    #[arg(
        long,
        env = "ROLLCALL_HTTP_NAMESPACE_RATE",
        default_value_t = 1_000,
        value_name = "RATE"
    )]
    pub http_namespace_rate: u32,
    /// Certificate chain (PEM): with it, --http-listen serves HTTPS only. The files are checked every 10 s, and
    /// renewed ones are used without a restart
    #[arg(long, env = "ROLLCALL_HTTP_TLS_CERT", value_name = "FILE")]
    pub http_tls_cert: Option<PathBuf>,
    /// Private key (PEM) of the certificate in --http-tls-cert
    #[arg(long, env = "ROLLCALL_HTTP_TLS_KEY", value_name = "FILE")]
    pub http_tls_key: Option<PathBuf>,
    /// Certificate authorities (PEM): every client must present a certificate signed by one of them
    #[arg(long, env = "ROLLCALL_HTTP_TLS_CLIENT_CA", value_name = "FILE")]
    pub http_tls_client_ca: Option<PathBuf>,
    /// Seconds for which the DNS server continues to answer at shutdown, after everything else has stopped
    #[arg(long, env = "ROLLCALL_LINGER_SECONDS", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u64).range(..=60))]
    pub linger_seconds: u64,
    /// Log filter, for example info or info,rollcall::kubernetes=debug
    #[arg(long, env = "ROLLCALL_LOG", default_value = "info")]
    pub log: String,
    /// Format of the log
    #[arg(long, env = "ROLLCALL_LOG_FORMAT", default_value = "text")]
    pub log_format: Format,
    /// Further flags of the DNS server.
    #[command(flatten)]
    pub dns: DnsArgs,
}

/// Rate limits of HTTP. 0 means no limit.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Requests per second and caller.
    pub caller: u32,
    /// Writes per second and namespace.
    pub namespace: u32,
}

/// The certificate files of HTTPS.
#[derive(Clone, Debug)]
pub struct HttpTls {
    /// The certificate chain, with the certificate of the server first.
    pub certificate: PathBuf,
    /// The private key of that certificate.
    pub key: PathBuf,
    /// The authorities that sign client certificates, if clients must present one.
    pub client_ca: Option<PathBuf>,
}

/// A validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The DNS zone, in lower case and without the final dot.
    pub zone: String,
    /// Where the HTTP server listens.
    pub http_listen: SocketAddr,
    /// Where the DNS server listens.
    pub dns_listen: SocketAddr,
    /// Where the admin server listens.
    pub admin_listen: SocketAddr,
    /// The replica's own `ServiceInstance`: in the namespace that it watches, or else in rollcall's own namespace.
    pub own: InstanceKey,
    /// Distinguishes this process from other, also earlier, processes with the same identity.
    pub boot: String,
    /// UID of the pod of this replica, if it runs in a pod.
    pub pod_uid: Option<String>,
    /// Namespace of rollcall itself, of the leader's Lease and of the ledgers.
    pub own_namespace: String,
    /// Address at which clients reach this replica.
    pub advertise_address: IpAddr,
    /// The one namespace that is served; `None` means all.
    pub scope: Option<String>,
    /// Which callers may write over HTTP.
    pub auth: Auth,
    /// How bearer tokens are verified.
    pub auth_tokens: AuthTokens,
    /// Whether reads need a token as well.
    pub read_auth: bool,
    /// Rate limits of HTTP.
    pub http_rates: Rates,
    /// The certificate files of HTTPS; without them the server speaks plain HTTP.
    pub http_tls: Option<HttpTls>,
    /// An explicit kubeconfig file.
    pub kubeconfig: Option<PathBuf>,
    /// How long the DNS server continues to answer at shutdown, after everything else has stopped.
    pub linger: Duration,
    /// Further settings of the DNS server.
    pub dns: DnsSettings,
}

impl ServeArgs {
    /// Checks every flag before anything is bound.
    ///
    /// # Errors
    /// Names the flag, its value and the fix.
    pub fn validate(&self) -> Result<Config, ConfigError> {
        let zone = self.zone.trim_end_matches('.').to_ascii_lowercase();
        // A domain name has at most 253 bytes. The longest name in the zone has three labels of 63 bytes (instance,
        // service, namespace) and `svc`; the rest is left for the zone.
        check("zone", &zone, naming::is_subdomain(&zone) && zone.len() <= 56, ZONE)?;
        check("identity", &self.identity, naming::is_subdomain(&self.identity), IDENTITY)?;
        check("own-namespace", &self.own_namespace, naming::is_label(&self.own_namespace), LABEL)?;
        if let Some(scope) = &self.watch_namespace {
            check("watch-namespace", scope, naming::is_label(scope), LABEL)?;
        }
        let conflict = self.read_auth && self.auth == Auth::None;
        check("auth", "none", !conflict, READ_AUTH)?;
        let conflict = self.auth_tokens == AuthTokens::Jwks && self.auth == Auth::None;
        check("auth", "none", !conflict, AUTH_TOKENS)?;
        if let Some(address) = self.advertise_address {
            let reachable = !address.is_unspecified() && !address.is_multicast();
            check("advertise-address", &address.to_string(), reachable, ADVERTISE)?;
        }
        let advertise_address =
            self.advertise_address.unwrap_or_else(|| default_advertise_address(self.http_listen));
        let namespace = self.watch_namespace.as_deref().unwrap_or(&self.own_namespace);
        Ok(Config {
            zone,
            http_listen: self.http_listen,
            dns_listen: self.dns_listen,
            admin_listen: self.admin_listen,
            own: InstanceKey::new(namespace, &self.identity),
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

/// Parses an address to listen on, for clap. Port 0 is rejected because clients must know the port.
fn parse_listen_address(text: &str) -> Result<SocketAddr, String> {
    let fix = "give an IP address and a port, for example 0.0.0.0:8080";
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(format!("{fix}: clients must know the port")),
        Ok(address) => Ok(address),
        Err(_) => Err(fix.to_owned()),
    }
}

/// Environment variables that begin with `ROLLCALL_` but are not known: most likely misspelt.
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
const READ_AUTH: &str =
    "--read-auth requires tokens, and --auth none does not check them: remove one of the two";
const AUTH_TOKENS: &str = "--auth-tokens jwks verifies tokens, and --auth none does not check them: remove one of the two";
const ADVERTISE: &str = "give an address that clients can reach; in a pod, the address of the pod";
const IDENTITY: &str =
    "give a DNS name in lower case, for example rollcall-0 (or set ROLLCALL_IDENTITY)";
const TLS_KEY: &str = "give the private key of the certificate in --http-tls-cert";
const TLS_CERT: &str = "give a certificate chain, for example /tls/tls.crt";
const LABEL: &str = "give the name of a namespace, for example rollcall-system";

fn default_advertise_address(listen: SocketAddr) -> IpAddr {
    if listen.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { listen.ip() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches as _;

    impl ServeArgs {
        /// Parses `flags`, after the flags that every test needs.
        pub(crate) fn from_flags(flags: &[&str]) -> Self {
            let all = ["serve", "--identity", "r-0", "--auth", "none"];
            let command = Self::augment_args(Command::new("serve"));
            let matches = command.get_matches_from(all.iter().chain(flags));
            Self::from_arg_matches(&matches).unwrap()
        }
    }

    fn parse(flags: &[&str]) -> Result<Config, ConfigError> {
        ServeArgs::from_flags(flags).validate()
    }

    #[test]
    fn invalid_flag_error_names_flag_value_and_fix() {
        for (flags, flag) in [
            (["--zone", "no_zone"], "--zone \"no_zone\""),
            (["--own-namespace", "A"], "--own-namespace \"A\""),
            (["--watch-namespace", "a.b"], "--watch-namespace \"a.b\""),
            (["--advertise-address", "0.0.0.0"], "--advertise-address \"0.0.0.0\""),
            (["--advertise-address", "ff02::1"], "--advertise-address \"ff02::1\""),
            (["--dns-allow", "10.0.0.0/8,10.0.0.0/33"], "--dns-allow \"10.0.0.0/33\""),
            (["--dns-transfer", "no_network"], "--dns-transfer \"no_network\""),
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
    fn networks_hosts_and_secrets_are_parsed() {
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
    fn own_instance_is_in_the_watched_namespace() {
        let config = parse(&["--watch-namespace", "shop", "--zone", "Example.Org."]).unwrap();
        assert_eq!(config.own, InstanceKey::new("shop", "r-0"));
        assert_eq!(config.zone, "example.org");
        assert_eq!(parse(&[]).unwrap().own, InstanceKey::new("rollcall-system", "r-0"));
    }
}
