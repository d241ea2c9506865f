//! Cycles in a graph.

use std::collections::{BTreeMap, BTreeSet};

/// The sets of nodes in which each can be reached from each.
pub(crate) fn cycles<'a>(
    edges: &BTreeMap<&'a str, BTreeSet<&'a str>>,
) -> BTreeSet<BTreeSet<&'a str>> {
    let reached = |from: &&'a str| {
        let (mut found, mut next) = (BTreeSet::new(), vec![*from]);
        while let Some(node) = next.pop() {
            next.extend(edges.get(node).into_iter().flatten().filter(|node| found.insert(**node)));
        }
        found
    };
    let reached: BTreeMap<_, _> = edges.keys().map(|node| (*node, reached(node))).collect();
    let cycle = |from: &&'a str| -> BTreeSet<_> {
        let returns = |node: &&&str| reached.get(**node).is_some_and(|found| found.contains(*from));
        reached[*from].iter().filter(returns).copied().collect()
    };
    edges.keys().map(cycle).filter(|cycle| !cycle.is_empty()).collect()
}
