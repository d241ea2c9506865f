//! Shrinks a failing seed: faults and clients are left out one after the other, as long as the same promise
//! breaks.

use std::{env, fmt};

use crate::{mutations::Mutation, promises::Violation, world::World};

/// The faults and clients that are left out of a seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclusions {
    pub faults: Vec<usize>,
    pub clients: Vec<usize>,
}

impl Exclusions {
    /// Parses `ROLLCALL_WITHOUT`: `f0,f2,c1`.
    pub fn from_environment() -> Self {
        let words = env::var("ROLLCALL_WITHOUT").unwrap_or_default();
        let parse_numbers = |kind: char| {
            let numbers = words.split(',').filter_map(|word| word.strip_prefix(kind));
            numbers.map(|number| number.parse().unwrap()).collect()
        };
        Self { faults: parse_numbers('f'), clients: parse_numbers('c') }
    }

    fn and(&self, faults: Option<usize>, clients: Option<usize>) -> Self {
        let mut more = self.clone();
        more.faults.extend(faults);
        more.clients.extend(clients);
        more
    }
}

impl fmt::Display for Exclusions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = self.faults.iter().map(|number| format!("f{number}"));
        let clients = self.clients.iter().map(|number| format!("c{number}"));
        let words: Vec<_> = faults.chain(clients).collect();
        f.write_str(&words.join(","))
    }
}

/// Returns what can be left out of a failing seed, and the violation that remains.
pub fn shrink(seed: u64, mutation: Mutation, violation: Violation) -> (Exclusions, Violation) {
    let whole = World::new(seed, mutation, false);
    let (faults, clients) = (whole.faults.len(), whole.clients.len());
    let promise = violation.what.split(':').next().map(str::to_owned);
    let mut found = (Exclusions::default(), violation);
    let faults = (0..faults).map(|number| (Some(number), None));
    let clients = (0..clients).map(|number| (None, Some(number)));
    for (fault, client) in faults.chain(clients) {
        let less = found.0.and(fault, client);
        if let Err(violation) = World::with(seed, mutation, false, &less).run()
            && violation.what.split(':').next() == promise.as_deref()
        {
            found = (less, violation);
        }
    }
    found
}

#[test]
fn failing_seed_is_shrunk_and_fails_again() {
    let broken = |seed: &u64| World::new(*seed, Mutation::NoFence, false).run().is_err();
    let seed = (0..600).find(broken).unwrap();
    let violation = World::new(seed, Mutation::NoFence, false).run().unwrap_err();
    let (without, shrunk) = shrink(seed, Mutation::NoFence, violation);
    let world = World::with(seed, Mutation::NoFence, false, &without);
    let whole = World::new(seed, Mutation::NoFence, false);
    println!("seed {seed} without {without}: {}", shrunk.what);
    assert!(world.faults.len() + 1 < whole.faults.len() + whole.clients.len());
    assert!(
        !without.clients.is_empty(),
        "no client can be left out, although most do not affect the failure"
    );
    let again = World::with(seed, Mutation::NoFence, false, &without).run().unwrap_err();
    assert_eq!((again.at, again.what), (shrunk.at, shrunk.what));
}
