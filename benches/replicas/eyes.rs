//! Those who look at one door of one replica all the time, and write down whom it offers.

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
    fleet::{NAMESPACE, number, number_at, question, service},
};

/// Between two looks at all services.
const DNS_EVERY: Duration = Duration::from_millis(10);
const HTTP_EVERY: Duration = Duration::from_millis(20);

/// For one DNS answer: longer is as good as none.
const PATIENCE: Duration = Duration::from_millis(100);

/// One answer, or that there was none.
pub struct Look<'a> {
    pub service: usize,
    /// When it was here.
    pub at: Instant,
    /// By number; none when there was no answer, or an error.
    pub discoverable: Option<&'a [usize]>,
}

/// Looks at the addresses of the services until `stop`.
pub fn dns(
    address: SocketAddr,
    services: usize,
    stop: &AtomicBool,
    mut see: impl FnMut(&Look<'_>),
) {
    let questions: Vec<_> = (0..services).map(question).collect();
    let mut socket = socket(address, PATIENCE);
    let mut buffer = [0; 4096];
    rounds(DNS_EVERY, stop, || {
        for (service, question) in questions.iter().enumerate() {
            let came = socket.send(question).and_then(|_| socket.recv(&mut buffer));
            let discoverable = came.as_ref().ok().and_then(|size| addresses(&buffer[..*size]));
            if came.is_err() {
                // Its answer may come yet, and is none to the next question.
                socket = self::socket(address, PATIENCE);
            }
            see(&Look { service, at: Instant::now(), discoverable: discoverable.as_deref() });
        }
    });
}

fn addresses(octets: &[u8]) -> Option<Vec<usize>> {
    let message = Message::from_vec(octets).ok()?;
    if !matches!(message.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return None;
    }
    let numbers = message.answers.iter().filter_map(|record| match record.data {
        RData::A(a) => Some(number_at(a.0)),
        _ => None,
    });
    Some(numbers.collect())
}

/// Looks at what discovery says of the services until `stop`.
pub fn http(
    address: SocketAddr,
    services: usize,
    stop: &AtomicBool,
    mut see: impl FnMut(&Look<'_>),
) {
    let mut door = Connection::to(address);
    let mut known = vec![(String::new(), Vec::new()); services];
    rounds(HTTP_EVERY, stop, || {
        for (number, (revision, discoverable)) in known.iter_mut().enumerate() {
            let call = format!("GET /v1/namespaces/{NAMESPACE}/services/{}", service(number));
            let unless = format!("if-none-match: \"{revision}\"\r\n");
            let answered = match door.ask_with(&call, &unless, "") {
                Ok((304, _)) => true,
                Ok((200, body)) => {
                    (*revision, *discoverable) = set(&serde_json::from_slice(body).unwrap());
                    true
                }
                _ => false,
            };
            let discoverable = answered.then_some(&discoverable[..]);
            see(&Look { service: number, at: Instant::now(), discoverable });
        }
    });
}

fn set(said: &Value) -> (String, Vec<usize>) {
    let revision = said["revision"].as_str().unwrap().to_owned();
    let numbers = said["instances"].as_array().unwrap().iter();
    let numbers = numbers.filter_map(|it| number(it["name"].as_str()?));
    (revision, numbers.collect())
}

fn rounds(every: Duration, stop: &AtomicBool, mut round: impl FnMut()) {
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        round();
        std::thread::sleep(every.saturating_sub(began.elapsed()));
    }
}
