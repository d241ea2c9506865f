//! Query strings: what may be asked of each call, and nothing else.
//!
//! A parameter that is unknown, or there twice though it has one value, is refused: a misspelt
//! filter would otherwise answer with more than was asked for.

use std::{borrow::Cow, time::Duration};

use axum::extract::FromRequestParts;
use hyper::http::request::Parts;
use rollcall_model::{
    instance::ServiceKey,
    naming,
    select::{Filter, Health, Order},
    selector::Selector,
};

use crate::http::{
    percent,
    problem::{Flaw, Kind, Problem},
};

/// What may be asked of a discovery.
const PARAMETERS: &str = "version, tag, zone, near, port, selector, health, order, limit and wait";

/// What may be asked of a watch of one service.
const FILTERS: &str = "version, tag, zone, near, port, selector and health";

/// And of several.
const FILTERS_AND_SERVICE: &str = "service, version, tag, zone, near, port, selector and health";

/// The longest wait: proxies and load balancers end what is silent for longer.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The form of `wait`, as the contract says it: up to the longest.
pub(super) const WAIT_PATTERN: &str =
    "^0*(([1-9][0-9]{0,4}|[12][0-9]{5}|300000)ms|([1-9][0-9]?|[12][0-9]{2}|300)s|[1-5]m)$";

/// The form of a `service` of a watch.
pub(super) const SERVICE_PATTERN: &str =
    "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";

/// A key of the labels, as [`SELECTOR_PATTERN`] has it.
macro_rules! key {
    () => {
        "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?(/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
    };
}

/// One requirement: `!a`, `a`, `a=b`, `a!=b`, `a in (b, c)`.
macro_rules! requirement {
    () => {
        concat!(
            "(!?",
            key!(),
            "|",
            key!(),
            "(==?|!=)[-A-Za-z0-9_.]{0,63}|",
            key!(),
            " (not)?in [(][-A-Za-z0-9_.]{0,63}(, ?[-A-Za-z0-9_.]{0,63})*[)])"
        )
    };
}

/// The form of a `selector`, as the contract says it. Blanks are taken in more places.
pub(super) const SELECTOR_PATTERN: &str =
    concat!("^(", requirement!(), "(, ?", requirement!(), ")*)?$");

/// The words of `order`; the first is the default.
pub(super) const ORDERS: [&str; 4] = ["name", "weighted", "roundrobin", "random"];

/// The words of `health`.
pub(super) const HEALTHS: [&str; 2] = ["passing", "any"];

/// Services in one watch: a look at all of them takes some 10 µs.
pub(super) const MOST_SERVICES: usize = 100;

/// Parameters in one query: 100 services and as many tags fit.
const MOST_PARAMETERS: usize = 256;

/// The longest selector, in octets: it is held against every instance of a service, and in a watch again and again.
const MAX_SELECTOR: usize = 2_048;

/// What a discovery asks for.
#[derive(Debug, Default)]
pub(super) struct Discovery {
    pub(super) filter: Filter,
    pub(super) order: Order,
    pub(super) limit: Option<usize>,
    /// How long to wait for something new.
    pub(super) wait: Option<Duration>,
}

impl Discovery {
    /// Whether it asks for no more than a service: everybody who is discoverable, by name.
    pub(super) fn is_plain(&self) -> bool {
        self.order == Order::Name && self.limit.is_none() && self.filter.is_plain()
    }
}

/// What a watch of several services asks for.
#[derive(Debug)]
pub(super) struct Watching {
    pub(super) filter: Filter,
    /// In the order asked, each once.
    pub(super) services: Vec<ServiceKey>,
}

/// What is wrong with a value, and what to do about it.
type Wrong = Cow<'static, str>;

/// What a query says, as an extractor.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

/// What a query can be read into.
pub(super) trait ReadQuery: Sized {
    /// # Errors
    /// 400 with every parameter that is wrong.
    fn read(query: Option<&str>) -> Result<Self, Problem>;
}

impl<T: ReadQuery, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        T::read(parts.uri.query()).map(Self)
    }
}

/// No parameters.
impl ReadQuery for () {
    fn read(query: Option<&str>) -> Result<Self, Problem> {
        match pairs(query)?.first() {
            None => Ok(()),
            Some((name, _)) => Err(bad(name, "this call takes no parameters")),
        }
    }
}

/// The incarnation that a call is meant for, if it says.
#[derive(Debug)]
pub(super) struct Uid(Option<String>);

impl Uid {
    pub(super) fn get(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl ReadQuery for Uid {
    fn read(query: Option<&str>) -> Result<Self, Problem> {
        uid(query).map(|uid| Self(uid.map(Cow::into_owned)))
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

impl ReadQuery for Discovery {
    fn read(query: Option<&str>) -> Result<Self, Problem> {
        let mut asked = Self::default();
        each(query, &["tag"], |name, value| asked.take(name, value))?;
        Ok(asked)
    }
}

/// A watch of the service that the path names.
impl ReadQuery for Filter {
    fn read(query: Option<&str>) -> Result<Self, Problem> {
        let mut filter = Self::default();
        each(query, &["tag"], |name, value| match take(&mut filter, name, value) {
            Some(outcome) => outcome,
            None => Err(no_filter(name, FILTERS)),
        })?;
        Ok(filter)
    }
}

/// A watch of the services that the query names: too many of them are wrong, too, or none.
impl ReadQuery for Watching {
    fn read(query: Option<&str>) -> Result<Self, Problem> {
        let mut asked = Self { filter: Filter::default(), services: Vec::new() };
        each(query, &["tag", "service"], |name, value| {
            match take(&mut asked.filter, name, value) {
                Some(outcome) => outcome,
                None if name == "service" => asked.add(value),
                None => Err(no_filter(name, FILTERS_AND_SERVICE)),
            }
        })?;
        match asked.services.len() {
            0 => Err(bad("service", "is missing: name one as namespace/service, or several")),
            1..=MOST_SERVICES => Ok(asked),
            _ => Err(bad("service", format!("at most {MOST_SERVICES} in one watch"))),
        }
    }
}

/// Takes in every parameter; of these some may be there again.
///
/// # Errors
/// 400 with all of them that are wrong.
fn each(
    query: Option<&str>,
    again: &[&str],
    mut take: impl FnMut(&str, &str) -> Result<(), Wrong>,
) -> Result<(), Problem> {
    let mut flaws = Vec::new();
    let mut seen: Vec<Cow<'_, str>> = Vec::new();
    for (name, value) in pairs(query)? {
        let is_again = !again.contains(&&*name) && seen.contains(&name);
        let outcome =
            if is_again { Err("is there twice; say it once".into()) } else { take(&name, &value) };
        if let Err(detail) = outcome {
            flaws.push(Flaw::query(&*name, detail));
        }
        seen.push(name);
    }
    if flaws.is_empty() { Ok(()) } else { Err(Problem::of(Kind::BadQuery, flaws)) }
}

/// Takes in a parameter that filters; none when it is another.
fn take(filter: &mut Filter, name: &str, value: &str) -> Option<Result<(), Wrong>> {
    let text = || match value {
        "" => Err("is empty: give a value, or leave it out".into()),
        value => Ok(value.to_owned()),
    };
    let outcome = match name {
        "version" => text().map(|text| filter.version = Some(text)),
        "tag" => text().map(|text| filter.tags.push(text)),
        "zone" => text().map(|text| filter.zone = Some(text)),
        "near" => text().map(|text| filter.near = Some(text)),
        "port" if naming::is_label(value) => text().map(|text| filter.port = Some(text)),
        "port" => Err("must be the name of a port, such as http".into()),
        "selector" if value.len() > MAX_SELECTOR => {
            Err(format!("must have at most {MAX_SELECTOR} octets").into())
        }
        "selector" => Selector::parse(value)
            .map(|selector| filter.selector = Some(selector))
            .map_err(|error| error.to_string().into()),
        "health" => health(value).map(|health| filter.health = health),
        _ => return None,
    };
    Some(outcome)
}

fn health(value: &str) -> Result<Health, Wrong> {
    match value {
        "any" => Ok(Health::Any),
        "passing" => Ok(Health::Passing),
        _ => Err("must be any or passing; without it Ready and Warning".into()),
    }
}

/// Of a watch.
fn no_filter(name: &str, known: &str) -> Wrong {
    let why = match name {
        "order" => {
            "events have no order but that of time: leave it out, and put the set in order yourself"
        }
        "limit" => "a watch tells of all: leave it out",
        "wait" => "a watch waits as long as it is open: leave it out",
        _ => return format!("unknown parameter; this call takes {known}").into(),
    };
    why.into()
}

impl Watching {
    fn add(&mut self, value: &str) -> Result<(), Wrong> {
        let parts = value.split_once('/');
        let are_labels = |(a, b): &(&str, &str)| naming::is_label(a) && naming::is_label(b);
        let Some((namespace, service)) = parts.filter(are_labels) else {
            return Err("must be namespace/service, two DNS labels, such as shop/orders".into());
        };
        let key = ServiceKey::new(namespace, service);
        // More than may be are counted, so that it can be said, and not compared.
        if self.services.len() <= MOST_SERVICES && self.services.contains(&key) {
            return Err(format!("{key} is there twice; say it once").into());
        }
        self.services.push(key);
        Ok(())
    }
}

impl Discovery {
    fn take(&mut self, name: &str, value: &str) -> Result<(), Wrong> {
        if let Some(outcome) = take(&mut self.filter, name, value) {
            return outcome;
        }
        match name {
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
                let digits = Some(value).filter(|it| it.bytes().all(|it| it.is_ascii_digit()));
                let number = digits.and_then(|digits| digits.parse::<u32>().ok());
                let number = number.filter(|limit| *limit > 0);
                let limit = number.and_then(|limit| usize::try_from(limit).ok());
                self.limit = Some(limit.ok_or("must be a number from 1")?);
            }
            "wait" => {
                let span = span(value).filter(|span| !span.is_zero() && *span <= LONGEST_WAIT);
                self.wait =
                    Some(span.ok_or("must be a time such as 30s, 500ms or 1m, at most 5m")?);
            }
            _ => return Err(format!("unknown parameter; this call takes {PARAMETERS}").into()),
        }
        Ok(())
    }
}

/// A whole number of milliseconds, seconds or minutes.
fn span(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(unit)?;
    let number = u64::from(number.parse::<u32>().ok()?);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number * 60)),
        _ => None,
    }
}

fn bad(name: &str, detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::of(Kind::BadQuery, vec![Flaw::query(name, detail)])
}

type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Names and values (WHATWG URL, application/x-www-form-urlencoded).
fn pairs(query: Option<&str>) -> Result<Vec<Pair<'_>>, Problem> {
    let Some(query) = query else { return Ok(Vec::new()) };
    let parts = query.split('&').filter(|part| !part.is_empty());
    let pair = |part| {
        let (name, value) = str::split_once(part, '=').unwrap_or((part, ""));
        let decoded = percent::decode(name, true).zip(percent::decode(value, true));
        decoded.ok_or_else(|| bad(name, "must be percent-encoded UTF-8"))
    };
    let pairs: Vec<_> = parts.take(MOST_PARAMETERS + 1).map(pair).collect::<Result<_, _>>()?;
    if pairs.len() > MOST_PARAMETERS {
        return Err(bad("", format!("at most {MOST_PARAMETERS} parameters")));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_understood() {
        let asked = Discovery::read(Some(
            "version=2.3.1&tag=a&tag=b&zone=z&near=n&port=http&selector=track%3Dcanary%2C+!x\
             &health=passing&order=weighted&limit=3&wait=30s",
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
        assert_eq!(asked.wait, Some(Duration::from_secs(30)));
    }

    #[test]
    fn each_bad_parameter_is_named() {
        for (query, named) in [
            ("limit=0", "limit"),
            ("limit=-1", "limit"),
            ("limit=%2B1", "limit"),
            ("limit=4294967296", "limit"),
            ("health=ready", "health"),
            ("order=best", "order"),
            ("port=8080!", "port"),
            ("selector=a%3E1", "selector"),
            ("zone=", "zone"),
            ("tga=a", "tga"),
            ("zone=a&zone=a", "zone"),
            ("zone=%FF", "zone"),
            ("wait=30", "wait"),
            ("wait=", "wait"),
            ("wait=0s", "wait"),
            ("wait=301s", "wait"),
            ("wait=-1s", "wait"),
            ("wait=1.5s", "wait"),
            ("wait=1h", "wait"),
            ("wait=99999999999s", "wait"),
        ] {
            let problem = Discovery::read(Some(query)).unwrap_err();
            assert_eq!(problem.flaws[0].field, named, "{query}");
        }
        let two = Discovery::read(Some("limit=x&order=y")).unwrap_err();
        assert_eq!(two.flaws.len(), 2);
        let long = format!("selector=a+in+({}a)", "a,".repeat(2_000));
        assert_eq!(Discovery::read(Some(&long)).unwrap_err().flaws[0].field, "selector");
    }

    #[test]
    fn a_wait_is_a_number_with_its_unit() {
        for (given, millis) in [("1ms", 1), ("500ms", 500), ("1s", 1_000), ("5m", 300_000)] {
            let asked = Discovery::read(Some(&format!("wait={given}"))).unwrap();
            assert_eq!(asked.wait, Some(Duration::from_millis(millis)), "{given}");
        }
    }

    #[test]
    fn what_the_contract_says_of_a_parameter_is_what_is_read() {
        let admits = |pattern: &str, text: &str| {
            let schema = serde_json::json!({"pattern": pattern});
            jsonschema::validator_for(&schema).unwrap().is_valid(&text.into())
        };
        let waits = [
            "1ms", "99999ms", "300000ms", "300001ms", "1s", "300s", "301s", "5m", "6m", "0s", "s",
            "1h",
        ];
        for text in waits {
            let read = Discovery::read(Some(&format!("wait={text}"))).is_ok();
            assert_eq!(admits(WAIT_PATTERN, text), read, "{text}");
        }
        let selectors = [
            "",
            "a",
            "!a",
            "a=b",
            "a==b",
            "a!=",
            "a in (b, c)",
            "a.b/c notin (),d",
            "a=b,!c",
            "a>1",
            "a in b",
            "=a",
        ];
        for text in selectors {
            assert_eq!(admits(SELECTOR_PATTERN, text), Selector::parse(text).is_ok(), "{text}");
        }
        for text in ["a/b", "a-b/c", "a", "a/b/c", "A/b", "a/-b", "/"] {
            let read = Watching::read(Some(&format!("service={text}"))).is_ok();
            assert_eq!(admits(SERVICE_PATTERN, text), read, "{text}");
        }
        for word in ORDERS {
            assert!(Discovery::read(Some(&format!("order={word}"))).is_ok(), "{word}");
        }
        for word in HEALTHS {
            assert!(Discovery::read(Some(&format!("health={word}"))).is_ok(), "{word}");
        }
    }

    #[test]
    fn a_watch_takes_filters_and_names_what_it_does_not_take() {
        let filter = Filter::read(Some("tag=a&tag=b&health=any&zone=z")).unwrap();
        assert_eq!((filter.tags.len(), filter.health), (2, Health::Any));
        let problem =
            Filter::read(Some("order=name&limit=1&wait=1s&service=a%2Fb&zone=")).unwrap_err();
        let fields: Vec<_> = problem.flaws.iter().map(|flaw| flaw.field.as_str()).collect();
        assert_eq!(fields, ["order", "limit", "wait", "service", "zone"]);
    }

    #[test]
    fn a_watch_of_several_names_each_service_with_its_namespace_and_once() {
        let asked = Watching::read(Some("service=shop/b&service=shop%2Fa&tag=x")).unwrap();
        assert_eq!(asked.services, [ServiceKey::new("shop", "b"), ServiceKey::new("shop", "a")]);
        assert_eq!(asked.filter.tags, ["x"]);
        let many = |count: usize| {
            let each = (0..count).map(|at| format!("service=shop/s{at}"));
            Watching::read(Some(&each.collect::<Vec<_>>().join("&")))
        };
        assert_eq!(many(MOST_SERVICES).unwrap().services.len(), MOST_SERVICES);
        for problem in [
            many(MOST_SERVICES + 1),
            many(0),
            Watching::read(Some("service=orders")),
            Watching::read(Some("service=shop/Orders")),
            Watching::read(Some("service=shop/a/b")),
            Watching::read(Some("service=shop/a&service=shop/a")),
        ] {
            assert_eq!(problem.unwrap_err().flaws[0].field, "service");
        }
    }

    #[test]
    fn other_calls_take_a_uid_or_nothing() {
        assert_eq!(uid(Some("uid=a%2Db")).unwrap().as_deref(), Some("a-b"));
        assert_eq!(uid(None).unwrap(), None);
        for query in ["uid=", "uid=a&uid=b", "id=a"] {
            assert!(uid(Some(query)).is_err(), "{query}");
        }
        assert_eq!(<()>::read(Some("a=b")).unwrap_err().flaws[0].field, "a");
        let many = "uid=a&".repeat(10_000);
        let problem = uid(Some(&many)).unwrap_err();
        assert_eq!((&*problem.flaws[0].field, &*problem.detail), ("", "at most 256 parameters"));
        assert!(<()>::read(Some("")).is_ok());
    }
}
