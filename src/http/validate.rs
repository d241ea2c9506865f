//! From the flat body of a registration to the facts in it, with every bad field at once.
//!
//! Owns: the body's fields and their defaults. The bounds are those of the stored object (`rules`).

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use rollcall_model::defaults;
use rollcall_model::{
    instance::{Address, HealthReport, Port, Protocol},
    lease::{Lease, LeaseMode, OnExpiry},
    naming,
    registration::Registration,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::http::{
    body::{MAX_ENTRIES, Object, Strings, Whole},
    contract::words,
    list::List,
    problem::{Flaw, Kind, Problem},
    rules::{
        self, LEASE, MAX_ADDRESSES, MAX_ATTRIBUTE, MAX_ATTRIBUTES, MAX_PORT_NAME, MAX_PORTS,
        MAX_TAGS,
    },
};

/// What is to be known of an instance: where it is reached, what it is, and which life it has. Exactly one of
/// `addresses` and `hostname` is given; null is as good as nothing.
// The schema does not say so: generators lose the other properties, or fail, where `oneOf` stands beside `properties`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Registration")]
pub(super) struct RegistrationBody {
    /// Where it is registered.
    // In a batch; else both stand in the path.
    #[schemars(with = "words::Label")]
    pub(super) namespace: Option<String>,
    /// Its name there; without one it is made from the service, the addresses and the first port.
    #[schemars(with = "Option<words::Subdomain>")]
    pub(super) name: Option<String>,
    /// The service it belongs to, which never changes.
    #[schemars(with = "words::Label")]
    service: Option<String>,
    /// Where it is reached: this, or a hostname.
    #[schemars(with = "Option<words::Addresses>")]
    addresses: Option<List<String, MAX_ADDRESSES>>,
    /// Where it is reached: a DNS name that others resolve. This, or addresses.
    #[schemars(with = "Option<words::Hostname>")]
    hostname: Option<String>,
    /// Its ports, each with a name of its own.
    #[schemars(length(max = MAX_PORTS))]
    ports: Option<List<Object<PortBody>, MAX_PORTS>>,
    /// Its version, by which it can be asked for.
    #[schemars(with = "Option<words::Word>")]
    version: Option<String>,
    /// By which it can be asked for.
    #[schemars(with = "Option<words::Tags>")]
    tags: Option<List<String, MAX_TAGS>>,
    /// Where it runs, by which it can be asked for or preferred.
    #[schemars(with = "Option<words::Word>")]
    zone: Option<String>,
    #[schemars(with = "Option<words::Short>", description = format!(
        "Its part among those of its priority; 0 is the last resort (RFC 2782). {} unless said.",
        defaults::WEIGHT
    ))]
    weight: Option<Whole>,
    #[schemars(
        with = "Option<words::Short>",
        description = format!("Lower ones first. {} unless said.", defaults::PRIORITY)
    )]
    priority: Option<Whole>,
    /// Free strings for clients.
    #[schemars(with = "Option<words::Attributes>")]
    attributes: Option<Strings>,
    /// Kubernetes labels, for selectors.
    #[schemars(with = "Option<words::Labels>")]
    labels: Option<Strings>,
    /// What it says of itself. Left out, a word that a heartbeat has set stays.
    #[schemars(with = "Option<words::HealthReport>")]
    health: Option<String>,
    #[schemars(description = lease_says(&Lease::default()))]
    lease: Option<Object<LeaseBody>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "RegistrationPort")]
pub(super) struct PortBody {
    /// Unique within the instance; `_name` is its label in DNS.
    #[schemars(with = "words::PortName")]
    name: Option<String>,
    /// Its number.
    #[schemars(with = "words::PortNumber")]
    port: Option<Whole>,
    #[schemars(
        with = "Option<words::Protocol>",
        description = format!("{} unless said.", Protocol::default())
    )]
    protocol: Option<String>,
    /// What is spoken there, as in a Kubernetes Service.
    #[schemars(with = "Option<words::AppProtocol>")]
    app_protocol: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "RegistrationLease")]
pub(super) struct LeaseBody {
    #[schemars(
        with = "Option<words::LeaseMode>",
        description = format!("{} unless said.", Lease::default().mode)
    )]
    mode: Option<String>,
    #[schemars(with = "Option<words::LeaseSeconds>", description = format!(
        "How long a heartbeat is good for: {} unless said.",
        defaults::DURATION_SECONDS
    ))]
    duration_seconds: Option<Whole>,
    #[schemars(
        with = "Option<words::OnExpiry>",
        description = format!("{} unless said.", defaults::ON_EXPIRY_OF_REGISTRATION)
    )]
    on_expiry: Option<String>,
    #[schemars(with = "Option<words::EvictAfterSeconds>", description = format!(
        "How long an expired object stays to be seen, or to come back by a beat: {} unless said.",
        defaults::EVICT_AFTER_SECONDS
    ))]
    evict_after_seconds: Option<Whole>,
}

/// What the contract says of the field `lease`.
fn lease_says(default: &Lease) -> String {
    let Lease { mode, duration, on_expiry, evict_after } = default;
    let (duration, evict_after) = (duration.as_secs(), evict_after.as_secs());
    format!(
        "Which life it has. Left out, one that is there keeps its own, and a new one gets {mode}, {duration} s, \
         {on_expiry} after {evict_after} s."
    )
}

impl RegistrationBody {
    /// What says where it belongs by its path does not say it in its body; a path that does not name the instance leaves the
    /// name to rollcall.
    ///
    /// # Errors
    /// 422 naming the field.
    pub(super) fn is_of_one(&self, is_named: bool) -> Result<(), Problem> {
        const IN_PATH: &str = "unknown field; it stands in the path";
        let name = if is_named {
            IN_PATH
        } else {
            "unknown field; this call makes the name: to choose it, PUT …/instances/{name}"
        };
        let fields = [("namespace", &self.namespace, IN_PATH), ("name", &self.name, name)];
        let given = fields.into_iter().filter(|(_, value, _)| value.is_some());
        let flaws: Vec<_> = given.map(|(field, _, detail)| Flaw::body(field, detail)).collect();
        if flaws.is_empty() { Ok(()) } else { Err(Problem::of(Kind::BadFields, flaws)) }
    }
}

/// What is wrong so far.
#[derive(Debug, Default)]
struct Flaws(Vec<Flaw>);

/// The facts of a registration. A service named by the path needs no second mention.
///
/// # Errors
/// 422 with every field that is not as it must be.
pub(super) fn registration(
    body: RegistrationBody,
    in_path: Option<&str>,
) -> Result<Registration, Problem> {
    let RegistrationBody {
        // Where it is registered: its caller has read them.
        namespace: _,
        name: _,
        service,
        addresses,
        hostname,
        ports,
        version,
        tags,
        zone,
        weight,
        priority,
        attributes,
        labels,
        health,
        lease,
    } = body;
    let mut flaws = Flaws::default();
    let service = flaws.service(service, in_path);
    let address = flaws.address(addresses, hostname);
    let registration = Registration {
        service,
        ports: flaws.ports(ports.unwrap_or_default()),
        version: flaws.word("version", version),
        tags: flaws.tags(tags.unwrap_or_default()),
        zone: flaws.word("zone", zone),
        weight: flaws.within_u16("weight", weight, defaults::WEIGHT),
        priority: flaws.within_u16("priority", priority, defaults::PRIORITY),
        attributes: flaws.attributes(attributes.unwrap_or_default()),
        labels: flaws.labels(labels.unwrap_or_default()),
        health: health.and_then(|word| flaws.health("health", &word)),
        // The caller is no part of the body.
        pod: None,
        lease: lease.map(|Object(lease)| flaws.lease(&lease)),
        address: address.unwrap_or_else(|| Address::Ips(Arc::from([]))),
    };
    flaws.end(registration)
}

/// The word that a heartbeat or registration reports.
///
/// # Errors
/// 422 naming the field `health`.
pub(super) fn health(word: &str) -> Result<HealthReport, Problem> {
    let mut flaws = Flaws::default();
    let report = flaws.health("health", word).unwrap_or(HealthReport::Passing);
    flaws.end(report)
}

/// What a merge patch says of the attributes: a value, or that there is none.
///
/// # Errors
/// 422 naming each attribute, or `attributes` where there are too many.
pub(super) fn patch(attributes: &BTreeMap<String, Option<String>>) -> Result<(), Problem> {
    let mut flaws = Flaws::default();
    if attributes.len() > MAX_ATTRIBUTES {
        flaws.add("attributes", format!("at most {MAX_ATTRIBUTES} in one patch"));
    }
    for (key, value) in attributes {
        flaws.attribute(key, value.as_deref().unwrap_or_default());
    }
    flaws.end(())
}

/// How long a lease is to be.
///
/// # Errors
/// 422 naming the field `durationSeconds`.
pub(super) fn duration(seconds: Option<Whole>) -> Result<Duration, Problem> {
    let mut flaws = Flaws::default();
    if seconds.is_none() {
        flaws.add("durationSeconds", "is missing: say how many seconds a beat is to be good for");
    }
    let duration = flaws.seconds("durationSeconds", seconds, LEASE, Duration::ZERO);
    flaws.end(duration)
}

impl Flaws {
    fn add(&mut self, field: impl Into<String>, detail: impl Into<std::borrow::Cow<'static, str>>) {
        self.0.push(Flaw::body(field, detail));
    }

    fn end<T>(self, value: T) -> Result<T, Problem> {
        if self.0.is_empty() { Ok(value) } else { Err(Problem::of(Kind::BadFields, self.0)) }
    }

    fn service(&mut self, service: Option<String>, in_path: Option<&str>) -> String {
        match (&service, in_path) {
            (Some(given), Some(path)) if given != path => {
                self.add("service", format!("the path says {path}: say the same, or nothing"));
            }
            (Some(given), None) if !naming::is_label(given) => self.add("service", rules::LABEL),
            (None, None) => self.add("service", "is missing: name the service it belongs to"),
            _ => {}
        }
        service.or_else(|| in_path.map(str::to_owned)).unwrap_or_default()
    }

    fn address(
        &mut self,
        addresses: Option<List<String, MAX_ADDRESSES>>,
        hostname: Option<String>,
    ) -> Option<Address> {
        match (addresses, hostname) {
            (Some(addresses), None) => self.ips(&addresses),
            (None, Some(hostname)) => {
                if !rules::is_hostname(&hostname) {
                    self.add("hostname", rules::HOSTNAME);
                }
                Some(Address::Hostname(hostname.into()))
            }
            (both, _) => {
                let missing = if both.is_some() { "both are given" } else { "both are missing" };
                self.add(
                    "addresses",
                    format!("give exactly one of addresses and hostname; {missing}"),
                );
                None
            }
        }
    }

    fn ips(&mut self, addresses: &List<String, MAX_ADDRESSES>) -> Option<Address> {
        let List { items: addresses, is_longer } = addresses;
        if addresses.is_empty() || *is_longer {
            self.add("addresses", format!("must be 1 to {MAX_ADDRESSES} IP addresses"));
            return None;
        }
        let mut ips: Vec<IpAddr> = Vec::with_capacity(addresses.len());
        for (i, address) in addresses.iter().enumerate() {
            match rules::ip(address) {
                None => self.add(format!("addresses[{i}]"), rules::IP),
                Some(ip) if ips.contains(&ip) => {
                    self.add(
                        format!("addresses[{i}]"),
                        format!("{ip} is there twice; say it once"),
                    );
                }
                Some(ip) => ips.push(ip),
            }
        }
        Some(Address::Ips(ips.into()))
    }

    fn ports(&mut self, bodies: List<Object<PortBody>, MAX_PORTS>) -> Vec<Port> {
        let List { items: bodies, is_longer } = bodies;
        if is_longer {
            self.add("ports", format!("at most {MAX_PORTS} ports"));
            return Vec::new();
        }
        let mut ports: Vec<Port> = Vec::with_capacity(bodies.len());
        for (i, Object(body)) in bodies.into_iter().enumerate() {
            let port = self.port(i, body);
            if !port.name.is_empty() && ports.iter().any(|other| other.name == port.name) {
                let detail = format!("{} is there twice: give each port its own name", port.name);
                self.add(format!("ports[{i}].name"), detail);
            }
            ports.push(port);
        }
        ports
    }

    fn port(&mut self, i: usize, body: PortBody) -> Port {
        let PortBody { name, port, protocol, app_protocol } = body;
        let field = |name: &str| format!("ports[{i}].{name}");
        match &name {
            None => self.add(field("name"), "is missing: give each port a name, such as http"),
            Some(name) if name.len() > MAX_PORT_NAME || !naming::is_label(name) => {
                let detail = format!("{}; at most {MAX_PORT_NAME} of them", rules::LABEL);
                self.add(field("name"), detail);
            }
            Some(_) => {}
        }
        let number = port.and_then(|Whole(port)| u16::try_from(port).ok());
        if number.is_none_or(|port| port == 0) {
            self.add(field("port"), "must be a number from 1 to 65535");
        }
        let protocol =
            protocol.as_deref().map_or_else(|| Some(Protocol::default()), Protocol::parse);
        if protocol.is_none() {
            self.add(field("protocol"), format!("must be {}", Protocol::listed()));
        }
        if app_protocol.as_ref().is_some_and(|word| !rules::is_word(word, naming::MAX_NAME)) {
            self.add(field("appProtocol"), rules::APP_PROTOCOL);
        }
        Port {
            name: name.unwrap_or_default().into(),
            port: number.unwrap_or_default(),
            protocol: protocol.unwrap_or_default(),
            app_protocol: app_protocol.map(Into::into),
        }
    }

    fn word(&mut self, field: &str, word: Option<String>) -> Option<String> {
        if word.as_ref().is_some_and(|word| !rules::is_word(word, rules::MAX_WORD)) {
            self.add(field, rules::WORD);
        }
        word
    }

    fn tags(&mut self, tags: List<String, MAX_TAGS>) -> Vec<String> {
        let List { items: mut tags, is_longer } = tags;
        if is_longer {
            self.add("tags", format!("at most {MAX_TAGS} tags"));
            return Vec::new();
        }
        for (i, tag) in tags.iter().enumerate() {
            if !rules::is_word(tag, rules::MAX_WORD) {
                self.add(format!("tags[{i}]"), rules::WORD);
            } else if tags.iter().take(i).any(|other| other == tag) {
                self.add(format!("tags[{i}]"), format!("{tag} is there twice; say it once"));
            }
        }
        tags.sort_unstable();
        tags
    }

    fn within_u16(&mut self, field: &str, number: Option<Whole>, default: u16) -> u16 {
        let Some(Whole(number)) = number else { return default };
        u16::try_from(number).unwrap_or_else(|_| {
            self.add(field, "must be a number from 0 to 65535");
            default
        })
    }

    fn attributes(&mut self, attributes: Strings) -> BTreeMap<String, String> {
        let attributes = attributes.entries;
        if attributes.len() > MAX_ATTRIBUTES {
            self.add("attributes", format!("at most {MAX_ATTRIBUTES} attributes"));
        }
        for (key, value) in &attributes {
            self.attribute(key, value);
        }
        attributes
    }

    fn attribute(&mut self, key: &str, value: &str) {
        if !rules::is_attribute_key(key) {
            self.add(format!("attributes.{key}"), rules::ATTRIBUTE_KEY);
        }
        if value.chars().count() > MAX_ATTRIBUTE {
            let detail = format!("at most {MAX_ATTRIBUTE} characters");
            self.add(format!("attributes.{key}"), detail);
        }
    }

    fn labels(&mut self, labels: Strings) -> BTreeMap<String, String> {
        let Strings { entries: labels, are_more } = labels;
        if are_more {
            self.add("labels", format!("at most {MAX_ENTRIES} labels"));
        }
        for (key, value) in &labels {
            if !rules::is_label_key(key) {
                self.add(format!("labels.{key}"), rules::LABEL_KEY);
            }
            if !rules::is_label_value(value) {
                self.add(format!("labels.{key}"), rules::LABEL_VALUE);
            }
        }
        labels
    }

    fn health(&mut self, field: &str, word: &str) -> Option<HealthReport> {
        let report = HealthReport::parse(word);
        if report.is_none() {
            self.add(field, format!("must be {}", HealthReport::listed()));
        }
        report
    }

    fn lease(&mut self, body: &LeaseBody) -> Lease {
        let LeaseBody { mode, duration_seconds, on_expiry, evict_after_seconds } = body;
        let default = Lease::default();
        let mode = mode.as_deref().map_or(Some(default.mode), LeaseMode::parse);
        if mode.is_none() {
            self.add("lease.mode", format!("must be {}", LeaseMode::listed()));
        }
        let on_expiry = on_expiry.as_deref().map_or(Some(default.on_expiry), OnExpiry::parse);
        if on_expiry.is_none() {
            self.add("lease.onExpiry", format!("must be {}", OnExpiry::listed()));
        }
        let given = *duration_seconds;
        let duration = self.seconds("lease.durationSeconds", given, LEASE, default.duration);
        let given = *evict_after_seconds;
        let bounds = [0, LEASE[1]];
        let evict_after =
            self.seconds("lease.evictAfterSeconds", given, bounds, default.evict_after);
        Lease {
            mode: mode.unwrap_or(default.mode),
            duration,
            on_expiry: on_expiry.unwrap_or(default.on_expiry),
            evict_after,
        }
    }

    fn seconds(
        &mut self,
        field: &str,
        given: Option<Whole>,
        [least, most]: [i64; 2],
        default: Duration,
    ) -> Duration {
        let Some(Whole(seconds)) = given else { return default };
        if !(least..=most).contains(&seconds) {
            self.add(field, format!("must be a number of seconds from {least} to {most}"));
        }
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests;
