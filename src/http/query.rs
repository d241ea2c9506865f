//! Query strings: what may be asked of each call, and nothing else.
//!
//! A parameter that is unknown, or there twice though it has one value, is refused: a misspelt
//! filter would otherwise answer with more than was asked for.

use std::borrow::Cow;

use crate::http::{
    percent,
    problem::{Flaw, Kind, Problem},
};
use crate::registry::{
    naming,
    select::{Filter, Health, Order},
    selector::Selector,
};

/// What may be asked of a discovery.
const PARAMETERS: &str = "version, tag, zone, near, port, selector, health, order and limit";

/// What a discovery asks for.
#[derive(Debug, Default)]
pub(super) struct Discovery {
    pub(super) filter: Filter,
    pub(super) order: Order,
    pub(super) limit: Option<usize>,
}

/// No parameters.
///
/// # Errors
/// 400 naming the first one.
pub(super) fn none(query: Option<&str>) -> Result<(), Problem> {
    match pairs(query)?.first() {
        None => Ok(()),
        Some((name, _)) => Err(bad(name, "this call takes no parameters")),
    }
}

/// At most a `uid`.
///
/// # Errors
/// 400 naming what is wrong.
pub(super) fn uid(query: Option<&str>) -> Result<Option<Cow<'_, str>>, Problem> {
    let mut uid = None;
    for (name, value) in pairs(query)? {
        if name != "uid" {
            return Err(bad(&name, "unknown parameter; this call takes uid"));
        }
        if value.is_empty() {
            return Err(bad(&name, "is empty: give a uid, or leave it out"));
        }
        if uid.replace(value).is_some() {
            return Err(bad(&name, "is there twice; say it once"));
        }
    }
    Ok(uid)
}

/// A discovery.
///
/// # Errors
/// 400 with every parameter that is wrong.
pub(super) fn discovery(query: Option<&str>) -> Result<Discovery, Problem> {
    let mut asked = Discovery::default();
    let mut flaws = Vec::new();
    let mut seen: Vec<Cow<'_, str>> = Vec::new();
    for (name, value) in pairs(query)? {
        let outcome = if name != "tag" && seen.contains(&name) {
            Err("is there twice; say it once".into())
        } else {
            asked.take(&name, &value)
        };
        if let Err(detail) = outcome {
            flaws.push(Flaw::query(&*name, detail));
        }
        seen.push(name);
    }
    if flaws.is_empty() { Ok(asked) } else { Err(Problem::of(Kind::BadQuery, flaws)) }
}

impl Discovery {
    fn take(&mut self, name: &str, value: &str) -> Result<(), Cow<'static, str>> {
        let text = || match value {
            "" => Err("is empty: give a value, or leave it out"),
            value => Ok(value.to_owned()),
        };
        match name {
            "version" => self.filter.version = Some(text()?),
            "tag" => self.filter.tags.push(text()?),
            "zone" => self.filter.zone = Some(text()?),
            "near" => self.filter.near = Some(text()?),
            "port" if naming::is_label(value) => self.filter.port = Some(text()?),
            "port" => return Err("must be the name of a port, such as http".into()),
            "selector" => {
                let selector = Selector::parse(value).map_err(|error| error.to_string())?;
                self.filter.selector = Some(selector);
            }
            "health" => {
                self.filter.health = match value {
                    "any" => Health::Any,
                    "passing" => Health::Passing,
                    _ => return Err("must be any or passing; without it Ready and Warning".into()),
                }
            }
            "order" => {
                self.order = match value {
                    "name" => Order::Name,
                    "weighted" => Order::Weighted,
                    "roundrobin" => Order::RoundRobin,
                    "random" => Order::Random,
                    _ => return Err("must be name, weighted, roundrobin or random".into()),
                }
            }
            "limit" => {
                let number: Option<u32> = value.parse().ok().filter(|limit| *limit > 0);
                let limit = number.and_then(|limit| usize::try_from(limit).ok());
                self.limit = Some(limit.ok_or("must be a number from 1")?);
            }
            _ => return Err(format!("unknown parameter; this call takes {PARAMETERS}").into()),
        }
        Ok(())
    }
}

fn bad(name: &str, detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::of(Kind::BadQuery, vec![Flaw::query(name, detail)])
}

type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Names and values (WHATWG URL, application/x-www-form-urlencoded).
fn pairs(query: Option<&str>) -> Result<Vec<Pair<'_>>, Problem> {
    let parts = query.unwrap_or("").split('&').filter(|part| !part.is_empty());
    let pair = |part| {
        let (name, value) = str::split_once(part, '=').unwrap_or((part, ""));
        let decoded = percent::decode(name, true).zip(percent::decode(value, true));
        decoded.ok_or_else(|| bad(name, "must be percent-encoded UTF-8"))
    };
    parts.map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_understood() {
        let asked = discovery(Some(
            "version=2.3.1&tag=a&tag=b&zone=z&near=n&port=http&selector=track%3Dcanary%2C+!x\
             &health=passing&order=weighted&limit=3",
        ))
        .unwrap();
        assert_eq!(asked.filter.version.as_deref(), Some("2.3.1"));
        assert_eq!(asked.filter.tags, ["a", "b"]);
        assert_eq!(asked.filter.zone.as_deref(), Some("z"));
        assert_eq!(asked.filter.near.as_deref(), Some("n"));
        assert_eq!(asked.filter.port.as_deref(), Some("http"));
        assert_eq!(asked.filter.selector, Some(Selector::parse("track=canary,!x").unwrap()));
        assert_eq!((asked.filter.health, asked.order), (Health::Passing, Order::Weighted));
        assert_eq!(asked.limit, Some(3));
    }

    #[test]
    fn each_bad_parameter_is_named() {
        for (query, named) in [
            ("limit=0", "limit"),
            ("limit=-1", "limit"),
            ("limit=4294967296", "limit"),
            ("health=ready", "health"),
            ("order=best", "order"),
            ("port=8080!", "port"),
            ("selector=a%3E1", "selector"),
            ("zone=", "zone"),
            ("tga=a", "tga"),
            ("zone=a&zone=a", "zone"),
            ("zone=%FF", "zone"),
        ] {
            let problem = discovery(Some(query)).unwrap_err();
            assert_eq!(problem.flaws[0].field, named, "{query}");
        }
        let two = discovery(Some("limit=x&order=y")).unwrap_err();
        assert_eq!(two.flaws.len(), 2);
    }

    #[test]
    fn other_calls_take_a_uid_or_nothing() {
        assert_eq!(uid(Some("uid=a%2Db")).unwrap().as_deref(), Some("a-b"));
        assert_eq!(uid(None).unwrap(), None);
        for query in ["uid=", "uid=a&uid=b", "id=a"] {
            assert!(uid(Some(query)).is_err(), "{query}");
        }
        assert_eq!(none(Some("a=b")).unwrap_err().flaws[0].field, "a");
        assert!(none(Some("")).is_ok());
    }
}
