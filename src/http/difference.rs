//! The changes that lead from one set of members to another.
//!
//! Both sets belong to one service, in the order of their views. Added and changed members come first, then removed
//! ones, so that a client that applies the changes one by one never has an empty set in between.

use std::{cmp::Ordering, collections::HashSet};

use crate::http::encoded_views::EncodedMember;

#[derive(Clone, Debug)]
pub(super) enum MemberChange {
    /// The member is new, or has changed.
    Upsert(EncodedMember),
    /// The member is no longer in the set.
    Remove(EncodedMember),
}

/// The changes that lead from `before` to `after`.
pub(super) fn between(before: &[&EncodedMember], after: &[&EncodedMember]) -> Vec<MemberChange> {
    let (mut upserted, mut removed) = (Vec::new(), Vec::new());
    let (mut old, mut new) = (before.iter().copied().peekable(), after.iter().copied().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            // Most members have not changed.
            (Some(was), Some(is)) if was.is_same(is) => Ordering::Equal,
            (Some(was), Some(is)) => was.sort_key().cmp(&is.sort_key()),
        };
        let was = if order.is_le() { old.next() } else { None };
        let is = if order.is_ge() { new.next() } else { None };
        match (was, is) {
            (Some(was), Some(is)) if was.fingerprint == is.fingerprint => {}
            (_, Some(is)) => upserted.push(is),
            (Some(was), None) => removed.push(was),
            (None, None) => break,
        }
    }
    // An instance that was deleted and created again has another position, but the same name.
    let names: HashSet<_> = upserted.iter().map(|is| &is.facts.key.name).collect();
    removed.retain(|was| !names.contains(&was.facts.key.name));
    let upserts = upserted.into_iter().cloned().map(MemberChange::Upsert);
    upserts.chain(removed.into_iter().cloned().map(MemberChange::Remove)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use rollcall_core::slot::{Slot, Source};
    use rollcall_model::{
        instance::{Instance, Phase},
        lease::{Moment, Wall},
        view::Member,
    };

    /// A member with this name and weight, created at this time.
    fn member(name: &str, weight: u16, created: i64) -> EncodedMember {
        let record = Arc::new(Instance::sample("shop", name).with(|facts| {
            facts.uid = format!("{name}@{created}").into();
            facts.weight = weight;
            facts.created = Wall(created);
        }));
        let slot = Arc::new(Slot::new(record.clone(), Moment(0), Source::Start, false));
        let member = Member::new(record.facts.clone(), slot, Phase::Ready, false);
        EncodedMember::new(Arc::new(member))
    }

    fn changes(before: &[EncodedMember], after: &[EncodedMember]) -> Vec<String> {
        let (before, after): (Vec<_>, Vec<_>) = (before.iter().collect(), after.iter().collect());
        let changes = between(&before, &after).into_iter().map(|change| match change {
            MemberChange::Upsert(member) => format!("+{}", member.facts.key.name),
            MemberChange::Remove(member) => format!("-{}", member.facts.key.name),
        });
        changes.collect()
    }

    #[test]
    fn only_differences_are_listed_and_removals_come_last() {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| member(name, 1, 0));
        let all = [a.clone(), b.clone(), c.clone()];
        assert_eq!(changes(&all, &all), [""; 0]);
        assert_eq!(changes(&[], &all), ["+a", "+b", "+c"]);
        assert_eq!(changes(&all, &[]), ["-a", "-b", "-c"]);
        assert_eq!(changes(&all, &[a.clone(), c.clone(), d]), ["+d", "-b"]);
        assert_eq!(changes(&all, &[a, member("b", 2, 0), c.clone()]), ["+b"]);
        assert_eq!(changes(&all, &[member("a", 1, 0), b, c]), [""; 0], "an equal copy");
    }

    #[test]
    fn an_instance_that_was_created_again_is_changed_and_not_removed() {
        let rest = member("z", 1, 0);
        let (old, new) = (member("a", 1, 0), member("a", 1, 5));
        assert_eq!(changes(&[old, rest.clone()], &[new, rest]), ["+a"]);
    }

    #[test]
    fn applying_the_changes_leads_to_the_new_set() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..500 {
            let mut set = || {
                let names = ["a", "b", "c", "d", "e"].into_iter().filter(|_| random.bool());
                let members: Vec<_> = names.map(|name| name.to_owned()).collect();
                let mut set: Vec<_> = members
                    .iter()
                    .map(|name| member(name, random.u16(..2), random.i64(..2)))
                    .collect();
                set.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
                set
            };
            let (before, after) = (set(), set());
            let known = |set: &[EncodedMember]| -> std::collections::BTreeMap<String, u64> {
                let each = |member: &EncodedMember| {
                    (member.facts.key.name.to_string(), member.fingerprint)
                };
                set.iter().map(each).collect()
            };
            let mut client = known(&before);
            let (old, new): (Vec<_>, Vec<_>) = (before.iter().collect(), after.iter().collect());
            for change in between(&old, &new) {
                match change {
                    MemberChange::Upsert(member) => {
                        client.insert(member.facts.key.name.to_string(), member.fingerprint);
                    }
                    MemberChange::Remove(member) => {
                        let removed = client.remove(&*member.facts.key.name);
                        assert!(removed.is_some(), "removed without being in the set");
                    }
                }
            }
            assert_eq!(client, known(&after));
        }
    }
}
