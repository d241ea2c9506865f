//! Metrics as text: read from a replica, and taken apart. Does not own: what they say of a span of time (`meter`).

use std::{collections::BTreeMap, net::SocketAddr};

use crate::connection::Connection;

/// Counters by name.
pub type Counts = BTreeMap<String, f64>;

/// The metrics at the admin port of a replica, with their labels as they are written.
pub fn scrape(admin: SocketAddr) -> Counts {
    let mut door = Connection::to(admin);
    let text = String::from_utf8(door.ask("GET /metrics", "").unwrap().1.to_vec()).unwrap();
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
