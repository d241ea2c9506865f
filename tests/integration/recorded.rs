//! The HTTP API, request by request, compared with a recording.
//!
//! About 1,100 requests go to real replicas over raw sockets, in order, and each response (status, every header, body) must
//! equal the one in `fixtures/recorded.txt`. So every change of a response shows in the diff of that file. After an
//! intended change, and after adding a request to a table, run:
//!
//! ```console
//! $ UPDATE_RECORDED=1 cargo test --test integration recorded::
//! ```
//!
//! The values that are replaced before the comparison are listed at the top of `recorded/normal.rs`, the placeholders in
//! requests at the top of `recorded/world.rs`.

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
use normal::{Normalizer, TestValues};
use pair::{Pair, PairKind, Replica};
use world::{ReplicaUnderTest, TestReplicas};

/// The test fails with fewer pairs, because then some tables are missing.
const MIN_PAIRS: usize = 500;

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

/// The length of the body of GET, to check the response to HEAD.
async fn get_length(replicas: &TestReplicas, pair: &Pair) -> Option<usize> {
    if pair.method() != "HEAD" {
        return None;
    }
    let mut get = replicas.get(pair.replica).resolved(pair).await;
    get.line = get.line.replacen("HEAD", "GET", 1);
    if get.line.contains("watch") {
        return None;
    }
    let received = exchange(replicas.get(pair.replica).rollcall.http, &get).await;
    received.responses.first().map(|response| response.body.len())
}

/// Sends a request, and returns the response and the length of the body of GET, to check the response to HEAD. If the
/// leader writes a status between resolving the version of an instance and sending the request, the request is sent again
/// with the newer version. HEAD is sent again if its resource changed after GET.
async fn send(replicas: &TestReplicas, pair: &Pair) -> (Received, Option<usize>) {
    let replica = replicas.get(pair.replica);
    let names_version = pair.headers.iter().any(|header| header.contains("<<version"));
    for _ in 0..5 {
        let length = get_length(replicas, pair).await;
        let resolved = replica.resolved(pair).await;
        let headers = resolved.headers.clone();
        if pair.replica == Replica::Open {
            replica.until_confirming().await;
        }
        let received = send_once(replica, pair, resolved).await;
        let is_refused = received.responses.iter().any(|response| response.status.contains(" 412"));
        if names_version && is_refused && replica.resolved(pair).await.headers != headers {
            continue;
        }
        let differs = |announced: usize| length.is_some_and(|length| announced != length);
        if !received.responses.iter().any(|it| it.length().is_some_and(differs)) {
            return (received, length);
        }
    }
    panic!("{}: the version or the length changed five times", pair.name)
}

async fn send_once(replica: &ReplicaUnderTest, pair: &Pair, resolved: Pair) -> Received {
    let mut received = match &pair.kind {
        PairKind::Stream { first, during: Some((line, body)), then } => {
            // The tables hold static text, and the namespace is known only at run time.
            let (line, body) = (replica.resolve_text(line).await, replica.resolve_text(body).await);
            let during = Some((&*line.leak(), &*body.leak()));
            let kind = PairKind::Stream { first: *first, during, then: *then };
            exchange(replica.rollcall.http, &Pair { kind, ..resolved }).await
        }
        _ => exchange(replica.rollcall.http, &resolved).await,
    };
    if received.responses.is_empty() && received.end.is_empty() {
        received.end = "no response".to_owned();
    }
    received
}

#[tokio::test]
async fn every_response_matches_the_recording() {
    let all = pairs();
    let mut names = BTreeSet::new();
    let named = all.iter().filter(|pair| !pair.is_wait()).map(|pair| &pair.name);
    let twice: Vec<_> = named.filter(|name| !names.insert(*name)).collect();
    assert!(twice.is_empty(), "duplicate names: {twice:?}");
    let replicas = Box::pin(TestReplicas::start()).await;
    let slow = join_all(all.iter().filter(|pair| pair.is_slow).map(|pair| send(&replicas, pair)));
    let in_order = async {
        let mut received = Vec::new();
        for pair in all.iter().filter(|pair| !pair.is_slow) {
            match pair.kind {
                PairKind::Settle => replicas.get(pair.replica).settle().await,
                PairKind::Until(holds) => replicas.get(pair.replica).until(&pair.line, holds).await,
                _ => received.push((pair, send(&replicas, pair).await)),
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
            let ReplicaUnderTest { namespace, rollcall, .. } = replicas.get(pair.replica);
            let ports = [rollcall.http, rollcall.dns, rollcall.admin].map(|it| it.port());
            let test_values = TestValues { namespace: &namespace.name, ports };
            let response = normalizer.normalize(&pair.name, &test_values, received, *length);
            Recorded { name: pair.name.clone(), request: pair.displayed(), response }
        })
        .collect();
    assert!(received.len() >= MIN_PAIRS, "only {} pairs", received.len());
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
