//! The HTTP API, request by request, against what was recorded.
//!
//! About 1,100 requests go to real replicas over raw sockets, in order, and each response (status, every header, body) must
//! be the one in `fixtures/recorded.txt`. So a change of the HTTP server shows in a diff of that file, or changes
//! nothing. After an intended change, and whenever a table gets another request:
//!
//! ```console
//! $ UPDATE_RECORDED=1 cargo test --test integration recorded::
//! ```
//!
//! What is replaced before the comparison, and nothing else, is listed at the top of `recorded/normal.rs`; placeholders
//! in requests at the top of `recorded/world.rs`.

#![expect(clippy::too_many_lines, reason = "tables of requests, each a list without logic")]

mod bodies;
mod changes;
mod client;
mod connections;
mod discovery;
mod documents;
mod fields;
mod fixture;
mod heads;
mod heartbeats;
mod http2;
mod normal;
mod pair;
mod paths;
mod queries;
mod rates;
mod registration;
mod tokens;
mod watches;
mod world;

use std::collections::BTreeSet;

use futures::future::join_all;

use client::{Received, exchange};
use fixture::Recorded;
use normal::{Chosen, Normalizer};
use pair::{Kind, Pair, Replica};
use world::{Place, World};

/// Fewer pairs than this are no proof.
const AT_LEAST: usize = 500;

fn pairs() -> Vec<Pair> {
    let tables = [
        documents::empty(),
        registration::pairs(),
        heartbeats::pairs(),
        changes::pairs(),
        discovery::pairs(),
        watches::pairs(),
        paths::pairs(),
        queries::pairs(),
        bodies::pairs(),
        fields::pairs(),
        heads::pairs(),
        connections::pairs(),
        documents::pairs(),
        http2::pairs(),
        registration::deletions(),
        tokens::pairs(),
        rates::pairs(),
    ];
    tables.into_iter().flatten().collect()
}

/// The length of the body of GET, for the response to HEAD.
async fn get_length(world: &World, pair: &Pair) -> Option<usize> {
    if pair.method() != "HEAD" {
        return None;
    }
    let mut get = world.place(pair.replica).resolved(pair).await;
    get.line = get.line.replacen("HEAD", "GET", 1);
    if get.line.contains("watch") {
        return None;
    }
    let received = exchange(world.place(pair.replica).rollcall.http, &get).await;
    received.responses.first().map(|response| response.body.len())
}

/// Sends a request, and says how long the body of GET is, for the response to HEAD. When the version of an instance moves
/// between being asked for and being sent, because the leader writes a status just then, the request is sent again with
/// the newer one; so is HEAD when its resource changed after GET.
async fn sent(world: &World, pair: &Pair) -> (Received, Option<usize>) {
    let place = world.place(pair.replica);
    let names_version = pair.headers.iter().any(|header| header.contains("<<version"));
    for _ in 0..5 {
        let length = get_length(world, pair).await;
        let resolved = place.resolved(pair).await;
        let headers = resolved.headers.clone();
        if pair.replica == Replica::Open {
            place.until_it_promises().await;
        }
        let received = sent_once(place, pair, resolved).await;
        let is_refused = received.responses.iter().any(|response| response.status.contains(" 412"));
        if names_version && is_refused && place.resolved(pair).await.headers != headers {
            continue;
        }
        let differs = |said: usize| length.is_some_and(|length| said != length);
        if !received.responses.iter().any(|it| it.length().is_some_and(differs)) {
            return (received, length);
        }
    }
    panic!("{}: the version or the length moves all the time", pair.name)
}

async fn sent_once(place: &Place, pair: &Pair, resolved: Pair) -> Received {
    let mut received = match &pair.kind {
        Kind::Stream { first, during: Some((line, body)), then } => {
            // The tables hold static text; the namespace is not known before.
            let (line, body) = (place.text(line).await, place.text(body).await);
            let during = Some((&*line.leak(), &*body.leak()));
            let kind = Kind::Stream { first: *first, during, then: *then };
            exchange(place.rollcall.http, &Pair { kind, ..resolved }).await
        }
        _ => exchange(place.rollcall.http, &resolved).await,
    };
    if received.responses.is_empty() && received.end.is_empty() {
        received.end = "no response".to_owned();
    }
    received
}

#[tokio::test]
async fn every_response_is_the_recorded_one() {
    let all = pairs();
    let mut names = BTreeSet::new();
    let named = all.iter().filter(|pair| !pair.is_wait()).map(|pair| &pair.name);
    let twice: Vec<_> = named.filter(|name| !names.insert(*name)).collect();
    assert!(twice.is_empty(), "names that are there twice: {twice:?}");
    let world = Box::pin(World::start()).await;
    let slow = join_all(all.iter().filter(|pair| pair.is_slow).map(|pair| sent(&world, pair)));
    let in_order = async {
        let mut received = Vec::new();
        for pair in all.iter().filter(|pair| !pair.is_slow) {
            match pair.kind {
                Kind::Settle => world.place(pair.replica).settle().await,
                Kind::Until(is_so) => world.place(pair.replica).until(&pair.line, is_so).await,
                _ => received.push((pair, sent(&world, pair).await)),
            }
        }
        received
    };
    let (slow, mut received) = tokio::join!(slow, in_order);
    let slow_pairs = all.iter().filter(|pair| pair.is_slow);
    received.extend(slow_pairs.zip(slow));
    let mut normalizer = Normalizer::default();
    let received: Vec<_> = received
        .iter()
        .map(|(pair, (received, length))| {
            let Place { namespace, rollcall, .. } = world.place(pair.replica);
            let ports = [rollcall.http, rollcall.dns, rollcall.admin].map(|it| it.port());
            let chosen = Chosen { namespace: &namespace.name, ports };
            let response = normalizer.text(&pair.name, &chosen, received, *length);
            Recorded { name: pair.name.clone(), request: pair.displayed(), response }
        })
        .collect();
    assert!(received.len() >= AT_LEAST, "only {} pairs", received.len());
    if std::env::var_os("UPDATE_RECORDED").is_some() {
        return fixture::write(&received);
    }
    let wrong = fixture::differences(&fixture::read(), &received);
    assert!(
        wrong.is_empty(),
        "{} of {} pairs differ from the recording:\n\n{}",
        wrong.len(),
        received.len(),
        wrong.join("\n")
    );
}
