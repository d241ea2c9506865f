//! Replays the corpus: inputs with which the fuzzer found new code paths.
//!
//! Owns: reading the corpus, and the check that it still covers every kind of response. Does not own: the invariants
//! (`invariants`).

use std::{collections::BTreeSet, fs, path::Path};

use rollcall::dns::respond::Response;

use crate::invariants::{ledger, name, query, world::Mode};
use crate::seeds;

/// The inputs of a target; the file has one in each line.
fn read_corpus(target: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz/corpus/{target}.hex"));
    let text = fs::read_to_string(path).expect("the corpus is committed");
    let inputs: Vec<Vec<u8>> = text.lines().map(parse_hex).collect();
    assert!(inputs.len() > 10, "the corpus of {target} has {} inputs", inputs.len());
    inputs
}

fn parse_hex(line: &str) -> Vec<u8> {
    let (pairs, rest) = line.as_bytes().as_chunks::<2>();
    assert!(rest.is_empty(), "an odd number of digits: {line}");
    let byte = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.iter().map(|pair| byte(pair)).collect()
}

/// The kind of response to a query.
fn response_kind(input: &[u8]) -> Option<String> {
    let (mode, message) = input.split_first()?;
    let mode = Mode(*mode);
    let client = mode.client_over(mode.transport());
    Some(match mode.responder().respond(message, client, mode.now(), 7) {
        Response::Dropped => "dropped".to_owned(),
        Response::Transfer(_) => "transfer".to_owned(),
        Response::Message(_, summary) if summary.truncated => "truncated".to_owned(),
        Response::Message(_, summary) => {
            format!("{:?}, cookie {}", summary.code, summary.cookie.as_str())
        }
    })
}

#[test]
fn messages_of_clients_keep_the_invariants() {
    seeds::queries().iter().for_each(|input| query::check(input));
    seeds::names().iter().for_each(|input| name::check(input));
    seeds::ledgers().iter().for_each(|input| ledger::check(input));
}

#[test]
fn query_corpus_keeps_the_invariants() {
    read_corpus("query").iter().for_each(|input| query::check(input));
}

#[test]
fn name_corpus_keeps_the_invariants() {
    read_corpus("name").iter().for_each(|input| name::check(input));
}

#[test]
fn ledger_corpus_keeps_the_invariants() {
    read_corpus("ledger").iter().for_each(|input| ledger::check(input));
}

/// If the meaning of the mode byte changes, the corpus still passes but tests nothing. This test then fails.
#[test]
fn corpus_covers_every_kind_of_response() {
    let inputs = read_corpus("query").into_iter().chain(seeds::queries());
    let kinds: BTreeSet<_> = inputs.filter_map(|input| response_kind(&input)).collect();
    for expected in [
        "dropped",
        "transfer",
        "truncated",
        "NoError, cookie absent",
        "NoError, cookie new",
        "NoError, cookie good",
        "NoError, cookie bad",
        "NXDomain, cookie absent",
        "FormErr, cookie absent",
        "NotImp, cookie absent",
        "Refused, cookie absent",
        "BADVERS, cookie absent",
    ] {
        assert!(kinds.contains(expected), "no input gets the response {expected}: {kinds:?}");
    }
}
