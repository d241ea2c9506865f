//! The corpus again: inputs that once led the fuzzer somewhere new.
//!
//! Owns: reading it, and that it still leads everywhere. Does not own: what must hold there
//! (`invariants`).

use std::{collections::BTreeSet, fs, path::Path};

use rollcall::dns::respond::Outcome;

use crate::invariants::{ledger, name, query, world::Mode};
use crate::seeds;

/// The inputs of a target, one a line.
fn committed(target: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz/corpus/{target}.hex"));
    let text = fs::read_to_string(path).expect("the corpus is there");
    let inputs: Vec<Vec<u8>> = text.lines().map(octets).collect();
    assert!(inputs.len() > 10, "the corpus of {target} has {} inputs", inputs.len());
    inputs
}

fn octets(line: &str) -> Vec<u8> {
    let (pairs, rest) = line.as_bytes().as_chunks::<2>();
    assert!(rest.is_empty(), "half an octet: {line}");
    let octet = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.iter().map(|pair| octet(pair)).collect()
}

/// What becomes of a query, in a word or two.
fn fate(input: &[u8]) -> Option<String> {
    let (mode, message) = input.split_first()?;
    let mode = Mode(*mode);
    let asks = mode.asks(mode.transport());
    Some(match mode.responder().respond(message, asks, mode.now(), 7) {
        Outcome::Silence => "silence".to_owned(),
        Outcome::Transfer(_) => "transfer".to_owned(),
        Outcome::Reply(_, said) if said.truncated => "truncated".to_owned(),
        Outcome::Reply(_, said) => format!("{:?}, cookie {}", said.code, said.cookie.as_str()),
    })
}

#[test]
fn what_clients_send_keeps_the_promises() {
    seeds::queries().iter().for_each(|input| query::check(input));
    seeds::names().iter().for_each(|input| name::check(input));
    seeds::ledgers().iter().for_each(|input| ledger::check(input));
}

#[test]
fn the_corpus_of_queries_keeps_the_promises() {
    committed("query").iter().for_each(|input| query::check(input));
}

#[test]
fn the_corpus_of_names_keeps_the_promises() {
    committed("name").iter().for_each(|input| name::check(input));
}

#[test]
fn the_corpus_of_ledgers_keeps_the_promises() {
    committed("ledger").iter().for_each(|input| ledger::check(input));
}

/// When an octet that says how the world is asked comes to say something else, the corpus is worth
/// nothing, and passes.
#[test]
fn what_clients_send_and_the_corpus_lead_to_every_fate_of_a_query() {
    let inputs = committed("query").into_iter().chain(seeds::queries());
    let fates: BTreeSet<_> = inputs.filter_map(|input| fate(&input)).collect();
    for wanted in [
        "silence",
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
        assert!(fates.contains(wanted), "no input leads to {wanted}: {fates:?}");
    }
}
