//! Reading and parsing the metrics of a replica. Does not own: rates over a span of time (`meter`).

use std::{collections::BTreeMap, net::SocketAddr};

use crate::connection::Connection;

/// Counters by name.
pub type Counts = BTreeMap<String, f64>;

/// Reads the metrics from the admin port of a replica. The keys contain the labels as text.
pub fn scrape(admin: SocketAddr) -> Counts {
    let mut connection = Connection::to(admin);
    let (_, body) = connection.send("GET /metrics", "").unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    samples(&text).map(|(metric, value)| (metric.to_owned(), value)).collect()
}

pub fn samples(text: &str) -> impl Iterator<Item = (&str, f64)> {
    text.lines().filter_map(|line| {
        let (metric, value) = line.rsplit_once(' ')?;
        Some((metric, value.trim().parse().ok()?))
    })
}

pub fn label<'a>(metric: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = metric.split_once(&format!("{name}=\""))?;
    rest.split('"').next()
}
