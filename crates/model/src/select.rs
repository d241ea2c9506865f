//! Choosing among the members of a service, and putting them in order.
//!
//! Owns: [`Filter`] and [`Order`], the same for HTTP and DNS. Randomness is an argument. Does not
//! own: the grammar of label selectors (`selector`) and query strings (`http`).

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    instance::{Phase, Port, Protocol, State},
    naming,
    selector::Selector,
    view::{Member, View},
};

/// Which phases are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Ready and Warning.
    #[default]
    Offered,
    /// Ready alone.
    Passing,
    /// Expired or Critical, though nobody took them out: those who were lost.
    Lost,
    /// Every phase.
    Any,
}

/// Which members are wanted: all conditions hold at once.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// This version.
    pub version: Option<String>,
    /// All of these tags.
    pub tags: Vec<String>,
    /// This zone and no other.
    pub zone: Option<String>,
    /// This zone where it has anybody, else all.
    pub near: Option<String>,
    /// A port of this name.
    pub port: Option<String>,
    /// A port of this protocol; together with `port` the same port.
    pub protocol: Option<Protocol>,
    /// These labels.
    pub selector: Option<Selector>,
    /// These phases.
    pub health: Health,
}

/// In which order members are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By name.
    #[default]
    Name,
    /// By priority, then at random by weight (RFC 2782).
    Weighted,
    /// By priority, then in turn: each seed begins one further.
    RoundRobin,
    /// At random, whatever priority and weight.
    Random,
}

impl Filter {
    /// Whether it asks for nothing: the discoverable ones of a service, all of them.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let Self { version, tags, zone, near, port, protocol, selector, health } = self;
        let of_facts = [version, zone, near, port].iter().any(|wanted| wanted.is_some());
        let of_lists = !tags.is_empty() || protocol.is_some() || selector.is_some();
        !of_facts && !of_lists && *health == Health::Offered
    }

    /// The members of `view` that are wanted, in the order of the view.
    #[must_use]
    pub fn apply<'a>(&self, view: &'a View) -> Vec<&'a Arc<Member>> {
        self.select(&view.members)
    }

    /// The same of members in any wrapping, in their order.
    pub fn select<'a, M: AsRef<Member>>(&self, members: &'a [M]) -> Vec<&'a M> {
        let mut chosen: Vec<_> =
            members.iter().filter(|member| self.admits(member.as_ref())).collect();
        if let Some(near) = &self.near {
            let is_near = |member: &&M| is_value(member.as_ref().facts.zone.as_deref(), near);
            if chosen.iter().any(is_near) {
                chosen.retain(is_near);
            }
        }
        chosen
    }

    fn admits(&self, member: &Member) -> bool {
        let phase = match self.health {
            Health::Offered => member.phase.is_discoverable(),
            Health::Passing => member.phase == Phase::Ready,
            Health::Lost => {
                matches!(member.phase, Phase::Expired | Phase::Critical)
                    && member.facts.state == State::Up
                    && !member.facts.stopping
            }
            Health::Any => true,
        };
        phase && self.describes(member)
    }

    /// Whether a member has everything that is asked for but the phase and nearness, which may
    /// come and go while it stays what it is.
    #[must_use]
    pub fn describes(&self, member: &Member) -> bool {
        let Self { version, tags, zone, near: _, port, protocol, selector, health: _ } = self;
        let facts = &member.facts;
        let wants = |want: &Option<String>, has: &Option<Arc<str>>| {
            want.as_deref().is_none_or(|want| is_value(has.as_deref(), want))
        };
        let is_port = |has: &Port| {
            port.as_deref().is_none_or(|name| *has.name == *name)
                && protocol.is_none_or(|protocol| has.protocol == protocol)
        };
        wants(version, &facts.version)
            && wants(zone, &facts.zone)
            && tags.iter().all(|tag| facts.tags.iter().any(|has| is_value(Some(has), tag)))
            && ((port.is_none() && protocol.is_none()) || facts.ports.iter().any(is_port))
            && selector.as_ref().is_none_or(|selector| selector.matches(&facts.labels))
    }
}

/// A value is meant by itself or by its DNS label, so that a query copied from DNS works too.
fn is_value(has: Option<&str>, want: &str) -> bool {
    has.is_some_and(|has| {
        has == want || (naming::is_label(want) && naming::selector_label(has) == want)
    })
}

impl Order {
    /// Puts members in order. The same seed gives the same order.
    pub fn arrange<M: AsRef<Member>>(self, members: &mut [M], seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        match self {
            Self::Name => members.sort_by(|a, b| name(a).cmp(name(b))),
            Self::Random => rng.shuffle(members),
            Self::RoundRobin => {
                members.sort_by(|a, b| (priority(a), name(a)).cmp(&(priority(b), name(b))));
                for group in members.chunk_by_mut(|a, b| priority(a) == priority(b)) {
                    let turns = usize::try_from(seed % group.len() as u64).unwrap_or(0);
                    group.rotate_left(turns);
                }
            }
            Self::Weighted => {
                members.sort_by_cached_key(|m| (priority(m), Draw::new(weight(m), &mut rng)));
            }
        }
    }
}

/// Leaves `count` members of the best priorities, at random by weight. The same key chooses the same, and
/// whoever comes or goes changes nothing but that: each has a draw of its own (rendezvous hashing).
pub fn choose<M: AsRef<Member>>(members: &mut Vec<M>, count: usize, key: u64) {
    if members.len() <= count {
        return;
    }
    members.sort_by_cached_key(|member| {
        let own = xxh3_64_with_seed(member.as_ref().facts.uid.as_bytes(), key);
        (priority(member), Draw::new(weight(member), &mut fastrand::Rng::with_seed(own)))
    });
    members.truncate(count);
}

fn name<M: AsRef<Member>>(member: &M) -> &str {
    &member.as_ref().facts.key.name
}

fn priority<M: AsRef<Member>>(member: &M) -> u16 {
    member.as_ref().facts.priority
}

fn weight<M: AsRef<Member>>(member: &M) -> u16 {
    member.as_ref().facts.weight
}

/// A random key that sorts a member ahead of another with the probability that their weights
/// give it (an exponential variate of rate `weight`; Efraimidis and Spirakis, 2006). Weight 0
/// comes after everybody else.
#[derive(Clone, Copy, PartialEq)]
struct Draw(f64);

impl Draw {
    fn new(weight: u16, rng: &mut fastrand::Rng) -> Self {
        let exponential = -(1.0 - rng.f64()).ln();
        // Beyond any draw with a weight: those end below 40.
        let rate = if weight == 0 { return Self(1e6 + exponential) } else { f64::from(weight) };
        Self(exponential / rate)
    }
}

impl Eq for Draw {}

impl PartialOrd for Draw {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Draw {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
