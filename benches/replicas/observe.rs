//! Observers that query one server of one replica continuously, and record the discoverable instances.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RData,
};
use serde_json::Value;

use crate::{
    common::ask::socket,
    connection::Connection,
    fleet::{NAMESPACE, number, number_at, service, service_query},
};

/// The interval between two rounds of queries for all services.
const DNS_EVERY: Duration = Duration::from_millis(10);
const HTTP_EVERY: Duration = Duration::from_millis(20);

/// The timeout for one DNS response.
const DNS_TIMEOUT: Duration = Duration::from_millis(100);

/// The result of one query.
pub struct Observation<'a> {
    pub service: usize,
    /// When the response arrived.
    pub at: Instant,
    /// The numbers of the discoverable instances; `None` after a timeout or an error.
    pub discoverable: Option<&'a [usize]>,
}

/// Queries the addresses of all services until `stop`.
pub fn dns(
    address: SocketAddr,
    services: usize,
    stop: &AtomicBool,
    mut record: impl FnMut(&Observation<'_>),
) {
    let queries: Vec<_> = (0..services).map(service_query).collect();
    let mut socket = socket(address, DNS_TIMEOUT);
    let mut buffer = [0; 4096];
    repeat(DNS_EVERY, stop, || {
        for (service, query) in queries.iter().enumerate() {
            let received = socket.send(query).and_then(|_| socket.recv(&mut buffer));
            let discoverable =
                received.as_ref().ok().and_then(|size| parse_addresses(&buffer[..*size]));
            if received.is_err() {
                // A late response must not be mistaken for the response to the next query.
                socket = self::socket(address, DNS_TIMEOUT);
            }
            let discoverable = discoverable.as_deref();
            record(&Observation { service, at: Instant::now(), discoverable });
        }
    });
}

fn parse_addresses(response: &[u8]) -> Option<Vec<usize>> {
    let message = Message::from_vec(response).ok()?;
    if !matches!(message.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return None;
    }
    let numbers = message.answers.iter().filter_map(|record| match record.data {
        RData::A(a) => Some(number_at(a.0)),
        _ => None,
    });
    Some(numbers.collect())
}

/// Discovers all services until `stop`.
pub fn http(
    address: SocketAddr,
    services: usize,
    stop: &AtomicBool,
    mut record: impl FnMut(&Observation<'_>),
) {
    let mut replica = Connection::to(address);
    let mut known = vec![(String::new(), Vec::new()); services];
    repeat(HTTP_EVERY, stop, || {
        for (number, (revision, discoverable)) in known.iter_mut().enumerate() {
            let line = format!("GET /v1/namespaces/{NAMESPACE}/services/{}", service(number));
            let if_none_match = format!("if-none-match: \"{revision}\"\r\n");
            let answered = match replica.send_with(&line, &if_none_match, "") {
                Ok((304, _)) => true,
                Ok((200, body)) => {
                    (*revision, *discoverable) = parse_set(&serde_json::from_slice(body).unwrap());
                    true
                }
                _ => false,
            };
            let discoverable = answered.then_some(&discoverable[..]);
            record(&Observation { service: number, at: Instant::now(), discoverable });
        }
    });
}

/// The revision, and the numbers of the instances.
fn parse_set(body: &Value) -> (String, Vec<usize>) {
    let revision = body["revision"].as_str().unwrap().to_owned();
    let instances = body["instances"].as_array().unwrap().iter();
    let numbers = instances.filter_map(|it| number(it["name"].as_str()?));
    (revision, numbers.collect())
}

fn repeat(every: Duration, stop: &AtomicBool, mut round: impl FnMut()) {
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        round();
        std::thread::sleep(every.saturating_sub(began.elapsed()));
    }
}
