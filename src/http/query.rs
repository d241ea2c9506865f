//! Query strings: the parameters of each call.
//!
//! Owns: parsing and bounds. An unknown parameter, and a second value for a parameter that takes one value, are
//! refused: otherwise a misspelt filter would return more than the client wants. Does not own: selection and order
//! (`rollcall_model::select`).

use std::{borrow::Cow, time::Duration};

use axum::extract::FromRequestParts;
use hyper::http::request::Parts;
use rollcall_model::{
    instance::ServiceKey,
    naming,
    select::{Filter, Order, PhaseFilter},
    selector::Selector,
};

use crate::http::{
    percent,
    problem::{Flaw, Problem, ProblemKind},
};

/// Parameters of discovery, for error messages.
const DISCOVERY_PARAMETERS: &str =
    "version, tag, zone, near, port, selector, health, order, limit and wait";

/// Parameters of a watch of one service, for error messages.
const WATCH_PARAMETERS: &str = "version, tag, zone, near, port, selector and health";

/// Parameters of a watch of several services, for error messages.
const WATCH_MANY_PARAMETERS: &str = "service, version, tag, zone, near, port, selector and health";

/// The maximum wait: proxies and load balancers close connections that are silent for longer.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Pattern of `wait` in the contract, including its upper bound.
pub(super) const WAIT_PATTERN: &str =
    "^0*(([1-9][0-9]{0,4}|[12][0-9]{5}|300000)ms|([1-9][0-9]?|[12][0-9]{2}|300)s|[1-5]m)$";

/// Pattern of a `service` of a watch.
pub(super) const SERVICE_PATTERN: &str =
    "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";

/// A label key in [`SELECTOR_PATTERN`].
macro_rules! label_key {
    () => {
        "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?(/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
    };
}

/// One requirement: `!a`, `a`, `a=b`, `a!=b`, `a in (b, c)`.
macro_rules! requirement {
    () => {
        concat!(
            "(!?",
            label_key!(),
            "|",
            label_key!(),
            "(==?|!=)[-A-Za-z0-9_.]{0,63}|",
            label_key!(),
            " (not)?in [(][-A-Za-z0-9_.]{0,63}(, ?[-A-Za-z0-9_.]{0,63})*[)])"
        )
    };
}

/// Pattern of `selector` in the contract. The parser allows blanks in more places.
pub(super) const SELECTOR_PATTERN: &str =
    concat!("^(", requirement!(), "(, ?", requirement!(), ")*)?$");

/// Values of `order`; the first is the default.
pub(super) const ORDERS: [&str; 4] = ["name", "weighted", "roundrobin", "random"];

/// Values of `health`.
pub(super) const HEALTHS: [&str; 2] = ["passing", "any"];

/// The maximum number of services in one watch: checking all of them takes about 10 µs.
pub(super) const MAX_SERVICES: usize = 100;

/// The maximum number of parameters in one query: 100 services and as many tags fit.
const MAX_PARAMETERS: usize = 256;

/// The maximum size of a selector in bytes: it is evaluated for every instance of a service, and in a watch after every
/// change.
const MAX_SELECTOR: usize = 2_048;

/// The query of a discovery.
#[derive(Debug, Default)]
pub(super) struct Discovery {
    pub(super) filter: Filter,
    pub(super) order: Order,
    pub(super) limit: Option<usize>,
    /// How long to wait for a changed set.
    pub(super) wait: Option<Duration>,
}

impl Discovery {
    /// Whether the query has no filter, order or limit: all discoverable instances, by name.
    pub(super) fn is_plain(&self) -> bool {
        self.order == Order::Name && self.limit.is_none() && self.filter.is_plain()
    }
}

/// The query of a watch of several services.
#[derive(Debug)]
pub(super) struct WatchQuery {
    pub(super) filter: Filter,
    /// In the order of the query, without duplicates.
    pub(super) services: Vec<ServiceKey>,
}

/// The detail of a flaw: what is wrong with a value, and how to fix it.
type FlawDetail = Cow<'static, str>;

/// The extractor of a parsed query.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

/// A type that a query string can be parsed into.
pub(super) trait ParseQuery: Sized {
    /// # Errors
    /// 400 with every parameter that is invalid.
    fn parse(query: Option<&str>) -> Result<Self, Problem>;
}

impl<T: ParseQuery, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        T::parse(parts.uri.query()).map(Self)
    }
}

/// A call without parameters.
impl ParseQuery for () {
    fn parse(query: Option<&str>) -> Result<Self, Problem> {
        match decode_pairs(query)?.first() {
            None => Ok(()),
            Some((name, _)) => Err(invalid(name, "this call takes no parameters")),
        }
    }
}

/// The incarnation that a call names, if any.
#[derive(Debug)]
pub(super) struct Uid(Option<String>);

impl Uid {
    pub(super) fn get(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl ParseQuery for Uid {
    fn parse(query: Option<&str>) -> Result<Self, Problem> {
        parse_uid(query).map(|uid| Self(uid.map(Cow::into_owned)))
    }
}

/// Parses a query that has at most a `uid`.
///
/// # Errors
/// 400 with the parameter that is invalid.
pub(super) fn parse_uid(query: Option<&str>) -> Result<Option<Cow<'_, str>>, Problem> {
    let mut uid = None;
    for (name, value) in decode_pairs(query)? {
        if name != "uid" {
            return Err(invalid(&name, "unknown parameter; this call takes uid"));
        }
        if value.is_empty() {
            return Err(invalid(&name, "is empty; give a uid, or leave it out"));
        }
        if uid.replace(value).is_some() {
            return Err(invalid(&name, "is given twice; give it once"));
        }
    }
    Ok(uid)
}

impl ParseQuery for Discovery {
    fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut parsed = Self::default();
        for_each_parameter(query, &["tag"], |name, value| parsed.apply(name, value))?;
        Ok(parsed)
    }
}

/// The query of a watch of one service, which the path names.
impl ParseQuery for Filter {
    fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut filter = Self::default();
        for_each_parameter(query, &["tag"], |name, value| {
            match apply_filter(&mut filter, name, value) {
                Some(outcome) => outcome,
                None => Err(not_in_watch(name, WATCH_PARAMETERS)),
            }
        })?;
        Ok(filter)
    }
}

/// A query without a service, or with too many services, is also invalid.
impl ParseQuery for WatchQuery {
    fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut parsed = Self { filter: Filter::default(), services: Vec::new() };
        for_each_parameter(query, &["tag", "service"], |name, value| {
            match apply_filter(&mut parsed.filter, name, value) {
                Some(outcome) => outcome,
                None if name == "service" => parsed.add(value),
                None => Err(not_in_watch(name, WATCH_MANY_PARAMETERS)),
            }
        })?;
        match parsed.services.len() {
            0 => Err(invalid("service", "is missing; give one or more as namespace/service")),
            1..=MAX_SERVICES => Ok(parsed),
            _ => Err(invalid("service", format!("must be given at most {MAX_SERVICES} times"))),
        }
    }
}

/// Calls `apply` with every parameter. Only those in `repeatable` can be given several times.
///
/// # Errors
/// 400 with every parameter that is invalid.
fn for_each_parameter(
    query: Option<&str>,
    repeatable: &[&str],
    mut apply: impl FnMut(&str, &str) -> Result<(), FlawDetail>,
) -> Result<(), Problem> {
    let mut flaws = Vec::new();
    let mut names: Vec<Cow<'_, str>> = Vec::new();
    for (name, value) in decode_pairs(query)? {
        let is_repeated = !repeatable.contains(&&*name) && names.contains(&name);
        let outcome = if is_repeated {
            Err("is given twice; give it once".into())
        } else {
            apply(&name, &value)
        };
        if let Err(detail) = outcome {
            flaws.push(Flaw::query(&*name, detail));
        }
        names.push(name);
    }
    if flaws.is_empty() { Ok(()) } else { Err(Problem::from_flaws(ProblemKind::BadQuery, flaws)) }
}

/// Applies a parameter that filters; `None` for any other parameter.
fn apply_filter(filter: &mut Filter, name: &str, value: &str) -> Option<Result<(), FlawDetail>> {
    let text = || match value {
        "" => Err("is empty; give a value, or leave it out".into()),
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
            Err(format!("must have at most {MAX_SELECTOR} bytes").into())
        }
        "selector" => Selector::parse(value)
            .map(|selector| filter.selector = Some(selector))
            .map_err(|error| error.to_string().into()),
        "health" => parse_health(value).map(|health| filter.health = health),
        _ => return None,
    };
    Some(outcome)
}

fn parse_health(value: &str) -> Result<PhaseFilter, FlawDetail> {
    match value {
        "any" => Ok(PhaseFilter::Any),
        "passing" => Ok(PhaseFilter::Passing),
        _ => Err("must be any or passing; leave it out for Ready and Warning".into()),
    }
}

/// Why a watch does not accept this parameter.
fn not_in_watch(name: &str, known: &str) -> FlawDetail {
    let detail = match name {
        "order" => {
            "a watch sends events in the order of the changes; leave it out, and sort the set in the client"
        }
        "limit" => "a watch reports all matching instances; leave it out",
        "wait" => "a watch stays open without it; leave it out",
        _ => return format!("unknown parameter; this call takes {known}").into(),
    };
    detail.into()
}

impl WatchQuery {
    fn add(&mut self, value: &str) -> Result<(), FlawDetail> {
        let parts = value.split_once('/');
        let are_labels = |(a, b): &(&str, &str)| naming::is_label(a) && naming::is_label(b);
        let Some((namespace, service)) = parts.filter(are_labels) else {
            return Err("must be namespace/service (two DNS labels), such as shop/orders".into());
        };
        let key = ServiceKey::new(namespace, service);
        // Services beyond the limit are counted for the error, but not compared.
        if self.services.len() <= MAX_SERVICES && self.services.contains(&key) {
            return Err(format!("{key} is given twice; give it once").into());
        }
        self.services.push(key);
        Ok(())
    }
}

impl Discovery {
    fn apply(&mut self, name: &str, value: &str) -> Result<(), FlawDetail> {
        if let Some(outcome) = apply_filter(&mut self.filter, name, value) {
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
                let digits =
                    Some(value).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                let number = digits.and_then(|digits| digits.parse::<u32>().ok());
                let number = number.filter(|limit| *limit > 0);
                let limit = number.and_then(|limit| usize::try_from(limit).ok());
                self.limit = Some(limit.ok_or("must be a number of at least 1")?);
            }
            "wait" => {
                let duration = parse_duration(value)
                    .filter(|duration| !duration.is_zero() && *duration <= LONGEST_WAIT);
                self.wait = Some(
                    duration.ok_or("must be a duration such as 30s, 500ms or 1m, at most 5m")?,
                );
            }
            _ => {
                return Err(
                    format!("unknown parameter; this call takes {DISCOVERY_PARAMETERS}").into()
                );
            }
        }
        Ok(())
    }
}

/// Parses a whole number of milliseconds, seconds or minutes.
fn parse_duration(text: &str) -> Option<Duration> {
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

fn invalid(name: &str, detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::from_flaws(ProblemKind::BadQuery, vec![Flaw::query(name, detail)])
}

type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Decodes names and values (WHATWG URL, application/x-www-form-urlencoded).
fn decode_pairs(query: Option<&str>) -> Result<Vec<Pair<'_>>, Problem> {
    let Some(query) = query else { return Ok(Vec::new()) };
    let parts = query.split('&').filter(|part| !part.is_empty());
    let pair = |part| {
        let (name, value) = str::split_once(part, '=').unwrap_or((part, ""));
        let decoded = percent::decode(name, true).zip(percent::decode(value, true));
        decoded.ok_or_else(|| invalid(name, "must be percent-encoded UTF-8"))
    };
    let pairs: Vec<_> = parts.take(MAX_PARAMETERS + 1).map(pair).collect::<Result<_, _>>()?;
    if pairs.len() > MAX_PARAMETERS {
        return Err(invalid("", format!("must have at most {MAX_PARAMETERS} parameters")));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_parsed() {
        let parsed = Discovery::parse(Some(
            "version=2.3.1&tag=a&tag=b&zone=z&near=n&port=http&selector=track%3Dcanary%2C+!x\
             &health=passing&order=weighted&limit=3&wait=30s",
        ))
        .unwrap();
        assert_eq!(parsed.filter.version.as_deref(), Some("2.3.1"));
        assert_eq!(parsed.filter.tags, ["a", "b"]);
        assert_eq!(parsed.filter.zone.as_deref(), Some("z"));
        assert_eq!(parsed.filter.near.as_deref(), Some("n"));
        assert_eq!(parsed.filter.port.as_deref(), Some("http"));
        assert_eq!(parsed.filter.selector, Some(Selector::parse("track=canary,!x").unwrap()));
        assert_eq!((parsed.filter.health, parsed.order), (PhaseFilter::Passing, Order::Weighted));
        assert_eq!(parsed.limit, Some(3));
        assert_eq!(parsed.wait, Some(Duration::from_secs(30)));
    }

    #[test]
    fn every_invalid_parameter_is_named() {
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
            let problem = Discovery::parse(Some(query)).unwrap_err();
            assert_eq!(problem.flaws[0].field, named, "{query}");
        }
        let two = Discovery::parse(Some("limit=x&order=y")).unwrap_err();
        assert_eq!(two.flaws.len(), 2);
        let long = format!("selector=a+in+({}a)", "a,".repeat(2_000));
        assert_eq!(Discovery::parse(Some(&long)).unwrap_err().flaws[0].field, "selector");
    }

    #[test]
    fn wait_needs_a_number_and_a_unit() {
        for (given, millis) in [("1ms", 1), ("500ms", 500), ("1s", 1_000), ("5m", 300_000)] {
            let parsed = Discovery::parse(Some(&format!("wait={given}"))).unwrap();
            assert_eq!(parsed.wait, Some(Duration::from_millis(millis)), "{given}");
        }
    }

    #[test]
    fn contract_patterns_match_what_is_parsed() {
        let admits = |pattern: &str, text: &str| {
            let schema = serde_json::json!({"pattern": pattern});
            jsonschema::validator_for(&schema).unwrap().is_valid(&text.into())
        };
        let waits = [
            "1ms", "99999ms", "300000ms", "300001ms", "1s", "300s", "301s", "5m", "6m", "0s", "s",
            "1h",
        ];
        for text in waits {
            let read = Discovery::parse(Some(&format!("wait={text}"))).is_ok();
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
            let read = WatchQuery::parse(Some(&format!("service={text}"))).is_ok();
            assert_eq!(admits(SERVICE_PATTERN, text), read, "{text}");
        }
        for value in ORDERS {
            assert!(Discovery::parse(Some(&format!("order={value}"))).is_ok(), "{value}");
        }
        for value in HEALTHS {
            assert!(Discovery::parse(Some(&format!("health={value}"))).is_ok(), "{value}");
        }
    }

    #[test]
    fn watch_takes_filters_and_names_other_parameters() {
        let filter = Filter::parse(Some("tag=a&tag=b&health=any&zone=z")).unwrap();
        assert_eq!((filter.tags.len(), filter.health), (2, PhaseFilter::Any));
        let problem =
            Filter::parse(Some("order=name&limit=1&wait=1s&service=a%2Fb&zone=")).unwrap_err();
        let fields: Vec<_> = problem.flaws.iter().map(|flaw| flaw.field.as_str()).collect();
        assert_eq!(fields, ["order", "limit", "wait", "service", "zone"]);
    }

    #[test]
    fn watch_of_several_services_needs_distinct_qualified_names() {
        let parsed = WatchQuery::parse(Some("service=shop/b&service=shop%2Fa&tag=x")).unwrap();
        assert_eq!(parsed.services, [ServiceKey::new("shop", "b"), ServiceKey::new("shop", "a")]);
        assert_eq!(parsed.filter.tags, ["x"]);
        let many = |count: usize| {
            let each = (0..count).map(|at| format!("service=shop/s{at}"));
            WatchQuery::parse(Some(&each.collect::<Vec<_>>().join("&")))
        };
        assert_eq!(many(MAX_SERVICES).unwrap().services.len(), MAX_SERVICES);
        for problem in [
            many(MAX_SERVICES + 1),
            many(0),
            WatchQuery::parse(Some("service=orders")),
            WatchQuery::parse(Some("service=shop/Orders")),
            WatchQuery::parse(Some("service=shop/a/b")),
            WatchQuery::parse(Some("service=shop/a&service=shop/a")),
        ] {
            assert_eq!(problem.unwrap_err().flaws[0].field, "service");
        }
    }

    #[test]
    fn other_calls_take_only_a_uid_or_nothing() {
        assert_eq!(parse_uid(Some("uid=a%2Db")).unwrap().as_deref(), Some("a-b"));
        assert_eq!(parse_uid(None).unwrap(), None);
        for query in ["uid=", "uid=a&uid=b", "id=a"] {
            assert!(parse_uid(Some(query)).is_err(), "{query}");
        }
        assert_eq!(<()>::parse(Some("a=b")).unwrap_err().flaws[0].field, "a");
        let many = "uid=a&".repeat(10_000);
        let problem = parse_uid(Some(&many)).unwrap_err();
        assert_eq!(
            (&*problem.flaws[0].field, &*problem.detail),
            ("", "must have at most 256 parameters")
        );
        assert!(<()>::parse(Some("")).is_ok());
    }
}
