//! Instances as JSON.
//!
//! Owns: the JSON of an instance in every response. Does not own: selection and order, and caching encoded instances
//! (`encoded_views`).

use std::{net::IpAddr, sync::Arc};

use rollcall_model::{
    instance::{Address, Facts, Health, InstanceKey, Phase, Port, Protocol, State},
    lease::{Lease, LeaseMode, Moment, Now, OnExpiry, Wall, millis},
    naming,
    view::Member,
};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use crate::http::{contract::values, time::Time};

/// An instance as discovery returns it; with `detail`, a single instance.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Instance")]
pub(super) struct InstanceJson<'a, D = ()> {
    /// The namespace of the instance.
    namespace: &'a str,
    /// The name of the instance in its namespace.
    name: &'a str,
    /// The uid of this incarnation.
    uid: &'a str,
    /// The service that the instance belongs to.
    service: &'a str,
    /// The IP addresses of the instance; absent when it has a hostname.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<values::Address>")]
    addresses: Option<&'a [IpAddr]>,
    /// The DNS name of the instance; absent when it has addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    hostname: Option<&'a str>,
    /// The ports of the instance.
    #[serde(serialize_with = "ports")]
    #[schemars(with = "Vec<PortJson<'static>>")]
    ports: &'a [Port],
    /// The version of the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    version: Option<&'a str>,
    /// The tags of the instance, sorted.
    tags: &'a [Arc<str>],
    /// The zone where the instance runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    zone: Option<&'a str>,
    /// The share of requests among instances of the same priority; 0 is for last resorts (RFC 2782).
    #[schemars(with = "values::Uint16")]
    weight: u16,
    /// Clients use lower priorities first.
    #[schemars(with = "values::Uint16")]
    priority: u16,
    /// Arbitrary strings for clients.
    #[serde(serialize_with = "pairs")]
    #[schemars(with = "values::StringMap")]
    attributes: &'a [(Arc<str>, Arc<str>)],
    /// Kubernetes labels.
    #[serde(serialize_with = "pairs")]
    #[schemars(with = "values::StringMap")]
    labels: &'a [(Arc<str>, Arc<str>)],
    /// The operator state.
    #[schemars(with = "values::State")]
    state: State,
    /// The health that the instance reports.
    #[schemars(with = "values::Health")]
    health: Health,
    /// The phase that follows from state, health and lease.
    #[schemars(with = "values::Phase")]
    phase: Phase,
    /// Held past the end of the lease, because too many leases ended together; absent when false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    held: bool,
    /// The DNS name of this instance, without the final dot.
    dns_name: String,
    /// The terms of the lease.
    pub(super) lease: LeaseJson,
    /// When the object was created.
    created_at: Time,
    #[serde(flatten)]
    #[schemars(skip)] // A single instance only.
    pub(super) detail: Option<D>,
}

/// The terms of a lease.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Lease")]
pub(super) struct LeaseJson {
    /// Whether the lease needs heartbeats.
    #[schemars(with = "values::LeaseMode")]
    mode: LeaseMode,
    /// How long a heartbeat renews the lease.
    #[schemars(with = "values::LeaseSeconds")]
    duration_seconds: u64,
    /// What happens to the expired object.
    #[schemars(with = "values::OnExpiry")]
    on_expiry: OnExpiry,
    /// How long an expired object stays before it is evicted.
    #[schemars(with = "values::EvictAfterSeconds")]
    evict_after_seconds: u64,
    #[serde(flatten)]
    #[schemars(skip)] // A single instance only.
    pub(super) renewal: Option<Renewal>,
}

/// The remaining time of a lease; all members are null for a permanent instance.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Renewal {
    /// When the lease ends unless it is renewed, by the replica's clock.
    expires_at: Option<Time>,
    /// The time until then, for clients with another clock; zero when it has passed.
    #[schemars(with = "Option<values::Millis>")]
    expires_in_ms: Option<u64>,
    /// When to send the next heartbeat: after a third of the lease, so that two lost heartbeats do no harm.
    #[schemars(with = "Option<values::RenewSeconds>")]
    renew_after_seconds: Option<Seconds>,
}

/// Seconds, written as an integer when there is no fraction.
#[derive(Clone, Copy, Debug)]
struct Seconds {
    millis: u32,
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.millis.is_multiple_of(1000) {
            serializer.serialize_u32(self.millis / 1000)
        } else {
            serializer.serialize_f64(f64::from(self.millis) / 1000.0)
        }
    }
}

impl Renewal {
    pub(super) fn new(lease: Lease, deadline: Option<Moment>, now: Now) -> Self {
        Self::ending(lease, deadline.map(|deadline| now.wall_of(deadline)), now)
    }

    /// For a lease that ends or ended at `end`.
    pub(super) fn ending(lease: Lease, end: Option<Wall>, now: Now) -> Self {
        let renew_after = u32::try_from(millis(lease.renew_after())).unwrap_or(u32::MAX);
        let left = |end: Wall| u64::try_from(end.0.saturating_sub(now.wall.0)).unwrap_or(0);
        Self {
            expires_at: end.map(Time),
            expires_in_ms: end.map(left),
            renew_after_seconds: end.map(|_| Seconds { millis: renew_after }),
        }
    }
}

/// The JSON of a member of a view.
pub(super) fn member_json(member: &Member, zone: &str) -> Vec<u8> {
    let json = InstanceJson::<()>::new(&member.facts, member.phase, member.held, zone);
    // Serializing strings and numbers under string keys cannot fail.
    serde_json::to_vec(&json).unwrap_or_default()
}

impl<'a, D> InstanceJson<'a, D> {
    pub(super) fn new(facts: &'a Facts, phase: Phase, held: bool, zone: &str) -> Self {
        let Facts {
            key: InstanceKey { namespace, name },
            uid,
            created,
            service,
            address,
            ports,
            version,
            tags,
            zone: own_zone,
            weight,
            priority,
            attributes,
            labels,
            state,
            health,
            // The phase includes it.
            stopping: _,
            lease,
        } = facts;
        let (addresses, hostname) = match address {
            Address::Ips(ips) => (Some(&**ips), None),
            Address::Hostname(hostname) => (None, Some(&**hostname)),
        };
        Self {
            namespace,
            name,
            uid,
            service,
            addresses,
            hostname,
            ports,
            version: version.as_deref(),
            tags,
            zone: own_zone.as_deref(),
            weight: *weight,
            priority: *priority,
            attributes,
            labels,
            state: *state,
            health: *health,
            phase,
            held,
            dns_name: naming::instance_name(name, service, namespace, zone),
            lease: LeaseJson::from(*lease),
            created_at: Time(*created),
            detail: None,
        }
    }
}

impl From<Lease> for LeaseJson {
    fn from(lease: Lease) -> Self {
        let Lease { mode, duration, on_expiry, evict_after } = lease;
        Self {
            mode,
            duration_seconds: duration.as_secs(),
            on_expiry,
            evict_after_seconds: evict_after.as_secs(),
            renewal: None,
        }
    }
}

/// A port of an instance.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Port")]
struct PortJson<'a> {
    /// The name of the port, unique within the instance.
    name: &'a str,
    /// The port number.
    #[schemars(with = "values::PortNumber")]
    port: u16,
    /// The transport protocol.
    #[schemars(with = "values::Protocol")]
    protocol: Protocol,
    /// The application protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    app_protocol: Option<&'a str>,
}

fn ports<S: Serializer>(ports: &[Port], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ports.iter().map(|port| {
        let Port { name, port, protocol, app_protocol } = port;
        PortJson { name, port: *port, protocol: *protocol, app_protocol: app_protocol.as_deref() }
    }))
}

fn pairs<S: Serializer>(pairs: &[(Arc<str>, Arc<str>)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(key, value)| (&**key, &**value)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use rollcall_core::slot::Slot;

    use super::*;
    use rollcall_core::slot::Source;
    use rollcall_model::instance::Instance;

    fn instance() -> Instance {
        Instance::sample("shop", "orders.1").with(|facts| {
            facts.ports = Arc::from([Port {
                name: "http".into(),
                port: 8080,
                protocol: Protocol::Tcp,
                app_protocol: None,
            }]);
            facts.tags = Arc::from(["canary".into()]);
            facts.zone = Some("eu-1a".into());
            facts.attributes = Arc::from([("team".into(), "\"blue\"".into())]);
        })
    }

    #[test]
    fn member_has_every_fact() {
        let record = Arc::new(instance());
        let slot = Arc::new(Slot::new(record.clone(), Moment(0), Source::Start, false));
        let shown = Member::new(record.facts.clone(), slot, Phase::Ready, false);
        let bytes = member_json(&shown, "rollcall.internal.");
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            value,
            json!({
                "namespace": "shop", "name": "orders.1", "uid": "u", "service": "orders",
                "addresses": ["10.0.0.7"],
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
                "tags": ["canary"], "zone": "eu-1a", "weight": 100, "priority": 0,
                "attributes": {"team": "\"blue\""}, "labels": {},
                "state": "Up", "health": "Passing", "phase": "Ready",
                "dnsName": value["dnsName"],
                "lease": {"mode": "Heartbeat", "durationSeconds": 30, "onExpiry": "Evict",
                          "evictAfterSeconds": 60},
                "createdAt": "1970-01-01T00:00:00.000Z",
            })
        );
        let dns_name = value["dnsName"].as_str().unwrap();
        assert!(dns_name.ends_with(".orders.shop.svc.rollcall.internal"), "{dns_name}");
    }

    #[test]
    fn renewal_has_end_and_time_of_the_next_heartbeat() {
        let now = Now { moment: Moment(1000), wall: Wall(0) };
        let lease = Lease { duration: Duration::from_secs(30), ..Lease::default() };
        let renewal = Renewal::new(lease, Some(Moment(31_000)), now);
        assert_eq!(
            serde_json::to_value(&renewal).unwrap(),
            json!({"expiresAt": "1970-01-01T00:00:30.000Z", "expiresInMs": 30_000,
                   "renewAfterSeconds": 10})
        );
        let short = Lease { duration: Duration::from_secs(2), ..Lease::default() };
        let passed = serde_json::to_value(Renewal::new(short, Some(Moment(500)), now)).unwrap();
        assert_eq!(
            (&passed["expiresInMs"], &passed["renewAfterSeconds"]),
            (&json!(0), &json!(0.666))
        );
        let permanent = serde_json::to_value(Renewal::new(short, None, now)).unwrap();
        assert_eq!(permanent["expiresAt"], Value::Null);
    }
}
