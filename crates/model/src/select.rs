//! Selection: choosing among the members of a service, and ordering them.
//!
//! Owns: [`Filter`] and [`Order`], which HTTP and DNS share. Randomness is an argument. Does not own: the
//! grammar of label selectors (`selector`) and query strings (`http` in the server).

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    instance::{Phase, Port, Protocol, State},
    naming,
    selector::Selector,
    view::{Member, View},
};

/// The phases that a reader selects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PhaseFilter {
    /// Ready and Warning.
    #[default]
    Discoverable,
    /// Only Ready.
    Passing,
    /// Expired or Critical, although no operator took them out of service: the instances that were lost.
    Lost,
    /// Every phase.
    Any,
}

/// Which members to select. All conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// With this version.
    pub version: Option<String>,
    /// With all of these tags.
    pub tags: Vec<String>,
    /// In this zone.
    pub zone: Option<String>,
    /// In this zone if any selected member is there, otherwise in all zones.
    pub near: Option<String>,
    /// With a port of this name.
    pub port: Option<String>,
    /// With a port of this protocol; together with `port`, the same port must match both.
    pub protocol: Option<Protocol>,
    /// With labels that match.
    pub selector: Option<Selector>,
    /// In these phases.
    pub health: PhaseFilter,
}

/// The order of members in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By name.
    #[default]
    Name,
    /// By priority, then at random by weight (RFC 2782).
    Weighted,
    /// By priority, then in rotation: each higher seed starts one member later.
    RoundRobin,
    /// At random, regardless of priority and weight.
    Random,
}

impl Filter {
    /// Whether it has no conditions and therefore selects all discoverable members.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let Self { version, tags, zone, near, port, protocol, selector, health } = self;
        let of_facts = [version, zone, near, port].iter().any(|wanted| wanted.is_some());
        let of_lists = !tags.is_empty() || protocol.is_some() || selector.is_some();
        !of_facts && !of_lists && *health == PhaseFilter::Discoverable
    }

    /// The selected members of `view`, in the order of the view.
    #[must_use]
    pub fn apply<'a>(&self, view: &'a View) -> Vec<&'a Arc<Member>> {
        self.select(&view.members)
    }

    /// Like [`Self::apply`], for members in any wrapper. Keeps their order.
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
            PhaseFilter::Discoverable => member.phase.is_discoverable(),
            PhaseFilter::Passing => member.phase == Phase::Ready,
            PhaseFilter::Lost => {
                matches!(member.phase, Phase::Expired | Phase::Critical)
                    && member.facts.state == State::Up
                    && !member.facts.stopping
            }
            PhaseFilter::Any => true,
        };
        phase && self.describes(member)
    }

    /// Whether a member meets all conditions except phase and nearness, which can change without a change of
    /// the member's facts.
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

/// A value can be given as itself or as its DNS label, so that a value copied from a DNS name works too.
fn is_value(has: Option<&str>, want: &str) -> bool {
    has.is_some_and(|has| {
        has == want || (naming::is_label(want) && naming::selector_label(has) == want)
    })
}

impl Order {
    /// Orders members. The same seed gives the same order.
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

/// Keeps `count` members with the best priorities, at random by weight. The same key keeps the same members,
/// and a member that comes or goes affects only itself: each has its own draw (rendezvous hashing).
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

/// A random key that sorts a member before another one with the probability that their weights give it (an
/// exponential variate with rate `weight`; Efraimidis and Spirakis, 2006). Weight 0 sorts after all others.
#[derive(Clone, Copy, PartialEq)]
struct Draw(f64);

impl Draw {
    fn new(weight: u16, rng: &mut fastrand::Rng) -> Self {
        let exponential = -(1.0 - rng.f64()).ln();
        // Larger than any draw with a weight, which is below 40.
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
