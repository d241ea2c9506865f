//! Validates the flat body of a registration, and reports all invalid fields at once.
//!
//! Owns: the fields of the body and their defaults. Does not own: the bounds, which are those of the stored object
//! (`rules`).

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
    body::{Integer, MAX_ENTRIES, Object, Strings},
    contract::values,
    list::List,
    problem::{Flaw, Problem, ProblemKind},
    rules::{
        self, LEASE, MAX_ADDRESSES, MAX_ATTRIBUTE, MAX_ATTRIBUTES, MAX_PORT_NAME, MAX_PORTS,
        MAX_TAGS,
    },
};

/// The facts of an instance: its service, its addresses and ports, and the terms of its lease. Give exactly one of
/// `addresses` and `hostname`; null counts as absent.
// The schema does not require exactly one of them: with `oneOf` next to `properties`, generators drop the properties,
// or fail.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Registration")]
pub(super) struct RegistrationBody {
    /// The namespace of the instance.
    // In a batch only; otherwise namespace and name are in the path.
    #[schemars(with = "values::Label")]
    pub(super) namespace: Option<String>,
    /// The name of the instance in its namespace; by default it is derived from the service, the addresses and the
    /// first port.
    #[schemars(with = "Option<values::Subdomain>")]
    pub(super) name: Option<String>,
    /// The service that the instance belongs to; it cannot be changed.
    #[schemars(with = "values::Label")]
    service: Option<String>,
    /// The IP addresses of the instance. Give either these or a hostname.
    #[schemars(with = "Option<values::Addresses>")]
    addresses: Option<List<String, MAX_ADDRESSES>>,
    /// The DNS name of the instance, which clients resolve themselves. Give either this or addresses.
    #[schemars(with = "Option<values::Hostname>")]
    hostname: Option<String>,
    /// The ports of the instance, each with its own name.
    #[schemars(length(max = MAX_PORTS))]
    ports: Option<List<Object<PortBody>, MAX_PORTS>>,
    /// The version of the instance; discovery can filter by it.
    #[schemars(with = "Option<values::VisibleText>")]
    version: Option<String>,
    /// The tags of the instance; discovery can filter by them.
    #[schemars(with = "Option<values::Tags>")]
    tags: Option<List<String, MAX_TAGS>>,
    /// The zone where the instance runs; discovery can filter by it or prefer it.
    #[schemars(with = "Option<values::VisibleText>")]
    zone: Option<String>,
    #[schemars(with = "Option<values::Uint16>", description = format!(
        "The share of requests among instances of the same priority; 0 is for last resorts (RFC 2782). Default: {}.",
        defaults::WEIGHT
    ))]
    weight: Option<Integer>,
    #[schemars(
        with = "Option<values::Uint16>",
        description = format!("Clients use lower priorities first. Default: {}.", defaults::PRIORITY)
    )]
    priority: Option<Integer>,
    /// Arbitrary strings for clients.
    #[schemars(with = "Option<values::Attributes>")]
    attributes: Option<Strings>,
    /// Kubernetes labels, for selectors.
    #[schemars(with = "Option<values::Labels>")]
    labels: Option<Strings>,
    /// The health that the instance reports. By default the last reported health stays.
    #[schemars(with = "Option<values::HealthReport>")]
    health: Option<String>,
    #[schemars(description = lease_description(&Lease::default()))]
    lease: Option<Object<LeaseBody>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "RegistrationPort")]
pub(super) struct PortBody {
    /// The name of the port, unique within the instance; its DNS label is `_name`.
    #[schemars(with = "values::PortName")]
    name: Option<String>,
    /// The port number.
    #[schemars(with = "values::PortNumber")]
    port: Option<Integer>,
    #[schemars(
        with = "Option<values::Protocol>",
        description = format!("The transport protocol. Default: {}.", Protocol::default())
    )]
    protocol: Option<String>,
    /// The application protocol, as in a Kubernetes Service.
    #[schemars(with = "Option<values::AppProtocol>")]
    app_protocol: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "RegistrationLease")]
pub(super) struct LeaseBody {
    #[schemars(
        with = "Option<values::LeaseMode>",
        description = format!("Whether the lease needs heartbeats. Default: {}.", Lease::default().mode)
    )]
    mode: Option<String>,
    #[schemars(with = "Option<values::LeaseSeconds>", description = format!(
        "How long a heartbeat renews the lease, in seconds. Default: {}.",
        defaults::DURATION_SECONDS
    ))]
    duration_seconds: Option<Integer>,
    #[schemars(
        with = "Option<values::OnExpiry>",
        description = format!("What happens to the expired object. Default: {}.", defaults::ON_EXPIRY_OF_REGISTRATION)
    )]
    on_expiry: Option<String>,
    #[schemars(with = "Option<values::EvictAfterSeconds>", description = format!(
        "How long an expired object stays before it is evicted, in seconds; a heartbeat revives it. Default: {}.",
        defaults::EVICT_AFTER_SECONDS
    ))]
    evict_after_seconds: Option<Integer>,
}

/// The description of the field `lease` in the contract.
fn lease_description(default: &Lease) -> String {
    let Lease { mode, duration, on_expiry, evict_after } = default;
    let (duration, evict_after) = (duration.as_secs(), evict_after.as_secs());
    format!(
        "The terms of the lease. Without them an existing instance keeps its lease; a new instance gets {mode}, \
         {duration} s, {on_expiry} after {evict_after} s."
    )
}

impl RegistrationBody {
    /// Checks that the body of a single registration has neither namespace nor name: they are in the path, or, if the
    /// path does not name the instance, rollcall derives the name.
    ///
    /// # Errors
    /// 422 naming the field.
    pub(super) fn check_path_fields(&self, is_named: bool) -> Result<(), Problem> {
        const IN_PATH: &str = "unknown field; it is part of the path";
        let name = if is_named {
            IN_PATH
        } else {
            "unknown field; this call derives the name; to choose it, use PUT …/instances/{name}"
        };
        let fields = [("namespace", &self.namespace, IN_PATH), ("name", &self.name, name)];
        let given = fields.into_iter().filter(|(_, value, _)| value.is_some());
        let flaws: Vec<_> = given.map(|(field, _, detail)| Flaw::body(field, detail)).collect();
        if flaws.is_empty() {
            Ok(())
        } else {
            Err(Problem::from_flaws(ProblemKind::BadFields, flaws))
        }
    }
}

/// The flaws found so far.
#[derive(Debug, Default)]
struct Flaws(Vec<Flaw>);

/// Validates the body of a registration. The service can be omitted when the path names it.
///
/// # Errors
/// 422 with every invalid field.
pub(super) fn registration(
    body: RegistrationBody,
    in_path: Option<&str>,
) -> Result<Registration, Problem> {
    let RegistrationBody {
        // The caller of this function reads these fields.
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
        version: flaws.short_text("version", version),
        tags: flaws.tags(tags.unwrap_or_default()),
        zone: flaws.short_text("zone", zone),
        weight: flaws.check_u16("weight", weight, defaults::WEIGHT),
        priority: flaws.check_u16("priority", priority, defaults::PRIORITY),
        attributes: flaws.attributes(attributes.unwrap_or_default()),
        labels: flaws.labels(labels.unwrap_or_default()),
        health: health.and_then(|word| flaws.health("health", &word)),
        // The pod is identified by the token of the caller, and not by the body.
        pod: None,
        lease: lease.map(|Object(lease)| flaws.lease(&lease)),
        address: address.unwrap_or_else(|| Address::Ips(Arc::from([]))),
    };
    flaws.finish(registration)
}

/// Parses the health that a heartbeat reports.
///
/// # Errors
/// 422 naming the field `health`.
pub(super) fn health(word: &str) -> Result<HealthReport, Problem> {
    let mut flaws = Flaws::default();
    let report = flaws.health("health", word).unwrap_or(HealthReport::Passing);
    flaws.finish(report)
}

/// Validates a merge patch of the attributes; a null value removes its attribute.
///
/// # Errors
/// 422 naming each invalid attribute, or `attributes` if there are too many.
pub(super) fn patch(attributes: &BTreeMap<String, Option<String>>) -> Result<(), Problem> {
    let mut flaws = Flaws::default();
    if attributes.len() > MAX_ATTRIBUTES {
        flaws.add(
            "attributes",
            format!("must have at most {MAX_ATTRIBUTES} attributes in one patch"),
        );
    }
    for (key, value) in attributes {
        flaws.attribute(key, value.as_deref().unwrap_or_default());
    }
    flaws.finish(())
}

/// Validates the new length of a lease.
///
/// # Errors
/// 422 naming the field `durationSeconds`.
pub(super) fn duration(seconds: Option<Integer>) -> Result<Duration, Problem> {
    let mut flaws = Flaws::default();
    if seconds.is_none() {
        flaws.add("durationSeconds", "is missing; give the length of the lease in seconds");
    }
    let duration = flaws.seconds("durationSeconds", seconds, LEASE, Duration::ZERO);
    flaws.finish(duration)
}

impl Flaws {
    fn add(&mut self, field: impl Into<String>, detail: impl Into<std::borrow::Cow<'static, str>>) {
        self.0.push(Flaw::body(field, detail));
    }

    fn finish<T>(self, value: T) -> Result<T, Problem> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(Problem::from_flaws(ProblemKind::BadFields, self.0))
        }
    }

    fn service(&mut self, service: Option<String>, in_path: Option<&str>) -> String {
        match (&service, in_path) {
            (Some(given), Some(path)) if given != path => {
                self.add(
                    "service",
                    format!("does not match the path, which says {path}; leave it out"),
                );
            }
            (Some(given), None) if !naming::is_label(given) => self.add("service", rules::LABEL),
            (None, None) => {
                self.add("service", "is missing; name the service that the instance belongs to");
            }
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
                let given = if both.is_some() { "both are given" } else { "both are missing" };
                self.add(
                    "addresses",
                    format!("give exactly one of addresses and hostname; {given}"),
                );
                None
            }
        }
    }

    fn ips(&mut self, addresses: &List<String, MAX_ADDRESSES>) -> Option<Address> {
        let List { items: addresses, is_longer } = addresses;
        if addresses.is_empty() || *is_longer {
            self.add("addresses", format!("must have 1 to {MAX_ADDRESSES} IP addresses"));
            return None;
        }
        let mut ips: Vec<IpAddr> = Vec::with_capacity(addresses.len());
        for (i, address) in addresses.iter().enumerate() {
            match rules::parse_ip(address) {
                None => self.add(format!("addresses[{i}]"), rules::IP),
                Some(ip) if ips.contains(&ip) => {
                    self.add(
                        format!("addresses[{i}]"),
                        format!("{ip} is given twice; give it once"),
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
            self.add("ports", format!("must have at most {MAX_PORTS} ports"));
            return Vec::new();
        }
        let mut ports: Vec<Port> = Vec::with_capacity(bodies.len());
        for (i, Object(body)) in bodies.into_iter().enumerate() {
            let port = self.port(i, body);
            if !port.name.is_empty() && ports.iter().any(|other| other.name == port.name) {
                let detail = format!("{} is given twice; give each port its own name", port.name);
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
            None => self.add(field("name"), "is missing; give each port a name, such as http"),
            Some(name) if name.len() > MAX_PORT_NAME || !naming::is_label(name) => {
                let detail =
                    format!("{}; for a port at most {MAX_PORT_NAME} characters", rules::LABEL);
                self.add(field("name"), detail);
            }
            Some(_) => {}
        }
        let number = port.and_then(|Integer(port)| u16::try_from(port).ok());
        if number.is_none_or(|port| port == 0) {
            self.add(field("port"), "must be a number from 1 to 65535");
        }
        let protocol =
            protocol.as_deref().map_or_else(|| Some(Protocol::default()), Protocol::parse);
        if protocol.is_none() {
            self.add(field("protocol"), format!("must be {}", Protocol::listed()));
        }
        if app_protocol.as_ref().is_some_and(|word| !rules::is_visible_text(word, naming::MAX_NAME))
        {
            self.add(field("appProtocol"), rules::APP_PROTOCOL);
        }
        Port {
            name: name.unwrap_or_default().into(),
            port: number.unwrap_or_default(),
            protocol: protocol.unwrap_or_default(),
            app_protocol: app_protocol.map(Into::into),
        }
    }

    fn short_text(&mut self, field: &str, text: Option<String>) -> Option<String> {
        if text.as_ref().is_some_and(|text| !rules::is_visible_text(text, rules::MAX_SHORT_TEXT)) {
            self.add(field, rules::SHORT_TEXT);
        }
        text
    }

    fn tags(&mut self, tags: List<String, MAX_TAGS>) -> Vec<String> {
        let List { items: mut tags, is_longer } = tags;
        if is_longer {
            self.add("tags", format!("must have at most {MAX_TAGS} tags"));
            return Vec::new();
        }
        for (i, tag) in tags.iter().enumerate() {
            if !rules::is_visible_text(tag, rules::MAX_SHORT_TEXT) {
                self.add(format!("tags[{i}]"), rules::SHORT_TEXT);
            } else if tags.iter().take(i).any(|other| other == tag) {
                self.add(format!("tags[{i}]"), format!("{tag} is given twice; give it once"));
            }
        }
        tags.sort_unstable();
        tags
    }

    fn check_u16(&mut self, field: &str, number: Option<Integer>, default: u16) -> u16 {
        let Some(Integer(number)) = number else { return default };
        u16::try_from(number).unwrap_or_else(|_| {
            self.add(field, "must be a number from 0 to 65535");
            default
        })
    }

    fn attributes(&mut self, attributes: Strings) -> BTreeMap<String, String> {
        let attributes = attributes.entries;
        if attributes.len() > MAX_ATTRIBUTES {
            self.add("attributes", format!("must have at most {MAX_ATTRIBUTES} attributes"));
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
            let detail = format!("must have at most {MAX_ATTRIBUTE} characters");
            self.add(format!("attributes.{key}"), detail);
        }
    }

    fn labels(&mut self, labels: Strings) -> BTreeMap<String, String> {
        let Strings { entries: labels, has_more } = labels;
        if has_more {
            self.add("labels", format!("must have at most {MAX_ENTRIES} labels"));
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
        given: Option<Integer>,
        [least, most]: [i64; 2],
        default: Duration,
    ) -> Duration {
        let Some(Integer(seconds)) = given else { return default };
        if !(least..=most).contains(&seconds) {
            self.add(field, format!("must be a number of seconds from {least} to {most}"));
        }
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests;
