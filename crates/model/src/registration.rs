//! Registrations: what a client reports about the instance that it registers.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    instance::{Address, Facts, Health, HealthReport, Instance, Pairs, Port, State},
    lease::Lease,
};

/// The facts of a registration. The operator's `state` is not one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The service it belongs to; a DNS label.
    pub service: String,
    /// Where it is reached.
    pub address: Address,
    /// Its named ports.
    pub ports: Vec<Port>,
    /// Its version.
    pub version: Option<String>,
    /// Its tags, sorted, each once.
    pub tags: Vec<String>,
    /// Its zone.
    pub zone: Option<String>,
    /// Share of the traffic within its priority.
    pub weight: u16,
    /// Instances with a lower number are called first.
    pub priority: u16,
    /// Free-form strings.
    pub attributes: BTreeMap<String, String>,
    /// Labels of the object.
    pub labels: BTreeMap<String, String>,
    /// The health that it reports; `None` reports nothing.
    pub health: Option<HealthReport>,
    /// Uid of the pod that registers itself with a token bound to it.
    pub pod: Option<Arc<str>>,
    /// The terms of the lease; `None` keeps the stored terms, or takes the default.
    pub lease: Option<Lease>,
}

impl Registration {
    /// Whether `instance` already has all these facts and no others, so that repeating them is only a
    /// heartbeat. Labels that other clients have put on the object are ignored.
    #[must_use]
    pub fn is_met_by(&self, instance: &Instance) -> bool {
        let Self {
            service,
            address,
            ports,
            version,
            tags,
            zone,
            weight,
            priority,
            attributes,
            labels,
            health,
            pod,
            lease,
        } = self;
        let same =
            |want: &Option<String>, has: &Option<Arc<str>>| want.as_deref() == has.as_deref();
        **service == *instance.service
            && *address == instance.address
            && **ports == *instance.ports
            && same(version, &instance.version)
            && tags.iter().map(|tag| &**tag).eq(instance.tags.iter().map(|tag| &**tag))
            && same(zone, &instance.zone)
            && (*weight, *priority) == (instance.weight, instance.priority)
            && has_pairs(attributes, &instance.attributes)
            && labels.iter().all(|(key, value)| {
                instance.labels.iter().any(|(k, v)| **k == **key && **v == **value)
            })
            && self.stale_labels(instance).next().is_none()
            && health.is_none_or(|health| instance.reports(health))
            && pod.as_ref().is_none_or(|pod| instance.registered_by.as_ref() == Some(pod))
            && lease.is_none_or(|lease| lease == instance.lease)
    }

    /// Whether this registration takes `instance` over, because it comes from another pod than the one
    /// that `instance` belongs to.
    #[must_use]
    pub fn takes_over(&self, instance: &Instance) -> bool {
        self.pod.as_deref().is_some_and(|pod| instance.is_of_another_pod(pod))
    }

    /// Whether a plain apply would be wrong because of what `instance` has reported: it is stopping, it
    /// has a health that this registration leaves out, or it was draining and now belongs to another pod.
    /// An apply could lose such a state, or keep one that must end.
    #[must_use]
    pub fn clears_reported_state(&self, instance: &Instance) -> bool {
        let is_unwell = instance.health != Health::Passing || instance.unknown_health.is_some();
        instance.stopping
            || (self.health.and_then(HealthReport::health).is_none() && is_unwell)
            || (instance.state == State::Draining && self.takes_over(instance))
    }

    /// The labels that earlier registrations have set on `instance`, and that this one leaves out.
    pub fn stale_labels<'a>(
        &'a self,
        instance: &'a Instance,
    ) -> impl Iterator<Item = &'a Arc<str>> {
        instance.registered_labels.iter().filter(|key| !self.labels.contains_key(&***key))
    }

    /// Whether `instance` has facts, or labels of a registration, that this registration lacks.
    /// Server-side apply would keep those that another field manager has set.
    #[must_use]
    pub fn has_stale_facts(&self, instance: &Instance) -> bool {
        let Facts {
            address,
            ports,
            version,
            tags,
            zone,
            attributes,
            // A registration always sets these, so an apply replaces the values of other managers.
            service: _,
            weight: _,
            priority: _,
            lease: _,
            // These belong to the object, not to its spec.
            key: _,
            uid: _,
            created: _,
            // Labels of other clients stay.
            labels: _,
            // A health that is left out keeps the reported one, and the operator's state is not part of a
            // registration.
            health: _,
            state: _,
            stopping,
        } = &*instance.facts;
        let hostname = |address: &Address| matches!(address, Address::Hostname(_));
        (*stopping && self.health == Some(HealthReport::Passing))
            || (self.version.is_none() && version.is_some())
            || (self.zone.is_none() && zone.is_some())
            || hostname(&self.address) != hostname(address)
            // Ports are merged by name, so a port of another manager stays, and so does a protocol that is
            // left out.
            || self.ports != **ports
            || tags.iter().any(|tag| !self.tags.iter().any(|own| **own == **tag))
            || attributes.iter().any(|(key, _)| !self.attributes.contains_key(&**key))
            || self.stale_labels(instance).next().is_some()
    }
}

fn has_pairs(want: &BTreeMap<String, String>, has: &Pairs) -> bool {
    let pairs = |(key, value): &(Arc<str>, Arc<str>)| (key.to_string(), value.to_string());
    want.len() == has.len() && has.iter().map(pairs).eq(want.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{defaults, instance::Protocol};

    /// A registration with an address and nothing else.
    fn minimal() -> Registration {
        let instance = Instance::sample("shop", "a");
        Registration {
            service: instance.service.to_string(),
            address: instance.address.clone(),
            ports: Vec::new(),
            version: None,
            tags: Vec::new(),
            zone: None,
            weight: defaults::WEIGHT,
            priority: defaults::PRIORITY,
            attributes: BTreeMap::new(),
            labels: BTreeMap::new(),
            health: None,
            pod: None,
            lease: Some(Lease::default()),
        }
    }

    type Edit<'a> = &'a dyn Fn(&mut Facts);

    fn pair() -> Pairs {
        Arc::new([("a".into(), "b".into())])
    }

    #[test]
    fn omitted_fact_needs_a_write_and_stale_facts_are_detected() {
        let port =
            Port { name: "http".into(), port: 80, protocol: Protocol::Tcp, app_protocol: None };
        let changes: [(&str, bool, Edit<'_>); 10] = [
            ("address", true, &|facts| facts.address = Address::Hostname("db.example".into())),
            ("version", true, &|facts| facts.version = Some("1".into())),
            ("tags", true, &|facts| facts.tags = Arc::new(["1".into()])),
            ("zone", true, &|facts| facts.zone = Some("1".into())),
            ("attributes", true, &|facts| facts.attributes = pair()),
            ("addresses", false, &|facts| facts.address = Address::Ips(Arc::new([]))),
            ("ports", true, &|facts| facts.ports = Arc::new([port.clone()])),
            ("weight", false, &|facts| facts.weight = 1),
            ("priority", false, &|facts| facts.priority = 1),
            ("lease", false, &|facts| facts.lease.evict_after = std::time::Duration::ZERO),
        ];
        let base = Instance::sample("shop", "a");
        assert!(minimal().is_met_by(&base) && !minimal().has_stale_facts(&base));
        for (field, left_over, change) in changes {
            let changed = base.clone().with(change);
            assert!(!minimal().is_met_by(&changed), "{field}");
            assert_eq!(minimal().has_stale_facts(&changed), left_over, "{field}");
        }
    }

    #[test]
    fn omitted_values_and_values_of_others_need_no_write() {
        let others: [&dyn Fn(&mut Facts); 3] = [
            &|facts| facts.health = Health::Warning,
            &|facts| facts.state = State::Draining,
            &|facts| facts.labels = pair(),
        ];
        for change in others {
            let changed = Instance::sample("shop", "a").with(change);
            assert!(minimal().is_met_by(&changed) && !minimal().has_stale_facts(&changed));
        }
        let keeps = Registration { lease: None, ..minimal() };
        let longer = |facts: &mut Facts| facts.lease.duration *= 2;
        assert!(keeps.is_met_by(&Instance::sample("shop", "a").with(longer)));
    }

    #[test]
    fn stopping_ends_with_passing_or_another_pod() {
        let leaving = Instance::sample("shop", "a").with(|facts| facts.stopping = true);
        assert!(minimal().is_met_by(&leaving) && minimal().clears_reported_state(&leaving));
        let says = |report| Registration { health: Some(report), ..minimal() };
        assert!(!says(HealthReport::Passing).is_met_by(&leaving));
        assert!(says(HealthReport::Passing).has_stale_facts(&leaving));
        assert!(says(HealthReport::Stopping).is_met_by(&leaving));
        assert!(
            !says(HealthReport::Critical).is_met_by(&leaving),
            "the health is stored although the instance is stopping"
        );
        assert!(!says(HealthReport::Stopping).is_met_by(&Instance::sample("shop", "a")));

        let by = |pod: &str| Registration { pod: Some(pod.into()), ..minimal() };
        let mut owned = Instance::sample("shop", "a");
        assert!(!by("u1").takes_over(&owned), "no pod had the instance before");
        assert!(!by("u1").is_met_by(&owned), "the uid of the pod must be stored");
        owned.owner_pod = Some("u1".into());
        assert!(!by("u1").takes_over(&owned) && by("u2").takes_over(&owned));
        owned.registered_by = Some("u2".into());
        assert!(by("u1").takes_over(&owned) && !by("u2").takes_over(&owned));
        assert!(by("u2").is_met_by(&owned) && !by("u1").is_met_by(&owned));
        assert!(!minimal().takes_over(&owned), "a caller without a pod takes nothing over");
    }

    #[test]
    fn omitted_registration_label_is_stale() {
        let mut instance = Instance::sample("shop", "a").with(|facts| facts.labels = pair());
        instance.registered_labels = Arc::new(["a".into()]);
        assert!(!minimal().is_met_by(&instance) && minimal().has_stale_facts(&instance));
        let says = |value: &str| Registration {
            labels: [("a".to_owned(), value.to_owned())].into(),
            ..minimal()
        };
        assert!(says("b").is_met_by(&instance) && !says("b").has_stale_facts(&instance));
        assert!(!says("c").is_met_by(&instance) && !says("c").has_stale_facts(&instance));
    }
}
