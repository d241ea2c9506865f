//! Making a broken seed small: faults and clients that do not matter are left out, one after the other, as long as
//! the same promise breaks.

use std::{env, fmt};

use crate::{check::Violation, sabotage::Sabotage, world::World};

/// What is left out of a seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Without {
    pub faults: Vec<usize>,
    pub clients: Vec<usize>,
}

impl Without {
    /// As `ROLLCALL_WITHOUT` says it: `f0,f2,c1`.
    pub fn of_environment() -> Self {
        let words = env::var("ROLLCALL_WITHOUT").unwrap_or_default();
        let of = |kind: char| {
            let numbers = words.split(',').filter_map(|word| word.strip_prefix(kind));
            numbers.map(|number| number.parse().unwrap()).collect()
        };
        Self { faults: of('f'), clients: of('c') }
    }

    fn and(&self, faults: Option<usize>, clients: Option<usize>) -> Self {
        let mut more = self.clone();
        more.faults.extend(faults);
        more.clients.extend(clients);
        more
    }
}

impl fmt::Display for Without {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = self.faults.iter().map(|number| format!("f{number}"));
        let clients = self.clients.iter().map(|number| format!("c{number}"));
        let words: Vec<_> = faults.chain(clients).collect();
        f.write_str(&words.join(","))
    }
}

/// What can be left out of a seed that broke a promise, and how it breaks then.
pub fn shrink(seed: u64, sabotage: Sabotage, violation: Violation) -> (Without, Violation) {
    let whole = World::new(seed, sabotage, false);
    let (faults, clients) = (whole.faults.len(), whole.clients.len());
    let promise = violation.what.split(':').next().map(str::to_owned);
    let mut found = (Without::default(), violation);
    let faults = (0..faults).map(|number| (Some(number), None));
    let clients = (0..clients).map(|number| (None, Some(number)));
    for (fault, client) in faults.chain(clients) {
        let less = found.0.and(fault, client);
        if let Err(violation) = World::with(seed, sabotage, false, &less).run()
            && violation.what.split(':').next() == promise.as_deref()
        {
            found = (less, violation);
        }
    }
    found
}

#[test]
fn a_broken_seed_is_shrunk_to_what_matters_and_breaks_again() {
    let broken = |seed: &u64| World::new(*seed, Sabotage::NoFence, false).run().is_err();
    let seed = (0..600).find(broken).unwrap();
    let violation = World::new(seed, Sabotage::NoFence, false).run().unwrap_err();
    let (without, shrunk) = shrink(seed, Sabotage::NoFence, violation);
    let world = World::with(seed, Sabotage::NoFence, false, &without);
    let whole = World::new(seed, Sabotage::NoFence, false);
    println!("seed {seed} without {without}: {}", shrunk.what);
    assert!(world.faults.len() + 1 < whole.faults.len() + whole.clients.len());
    assert!(!without.clients.is_empty(), "most clients do not matter");
    let again = World::with(seed, Sabotage::NoFence, false, &without).run().unwrap_err();
    assert_eq!((again.at, again.what), (shrunk.at, shrunk.what));
}
