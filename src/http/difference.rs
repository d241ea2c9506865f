//! What has to be told to whoever knows one set of members, so that they know another.
//!
//! Both sets are of one service, in the order of their views. Those who joined and changed come first, then those
//! who left: a client that follows is never left without anybody while it is told of others.

use std::{cmp::Ordering, collections::HashSet};

use crate::http::served::ServedMember;

/// One thing to be told.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// It is there now, or looks different.
    Upsert(ServedMember),
    /// It is not there any more, or not in the set.
    Remove(ServedMember),
}

/// What leads from one set to another.
pub(super) fn between(before: &[&ServedMember], after: &[&ServedMember]) -> Vec<Change> {
    let (mut upserted, mut removed) = (Vec::new(), Vec::new());
    let (mut old, mut new) = (before.iter().copied().peekable(), after.iter().copied().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            // Most often nothing has happened to it.
            (Some(was), Some(is)) if was.is(is) => Ordering::Equal,
            (Some(was), Some(is)) => was.place().cmp(&is.place()),
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
    // Made anew it stands elsewhere, under the same name.
    let names: HashSet<_> = upserted.iter().map(|is| &is.facts.key.name).collect();
    removed.retain(|was| !names.contains(&was.facts.key.name));
    let upserts = upserted.into_iter().cloned().map(Change::Upsert);
    upserts.chain(removed.into_iter().cloned().map(Change::Remove)).collect()
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

    /// A member of this name and weight, made at this time.
    fn member(name: &str, weight: u16, created: i64) -> ServedMember {
        let record = Arc::new(Instance::sample("shop", name).with(|facts| {
            facts.uid = format!("{name}@{created}").into();
            facts.weight = weight;
            facts.created = Wall(created);
        }));
        let slot = Arc::new(Slot::new(record.clone(), Moment(0), Source::Start, false));
        let member = Member::new(record.facts.clone(), slot, Phase::Ready, false);
        ServedMember::new(Arc::new(member))
    }

    fn told(before: &[ServedMember], after: &[ServedMember]) -> Vec<String> {
        let (before, after): (Vec<_>, Vec<_>) = (before.iter().collect(), after.iter().collect());
        let words = between(&before, &after).into_iter().map(|change| match change {
            Change::Upsert(member) => format!("+{}", member.facts.key.name),
            Change::Remove(member) => format!("-{}", member.facts.key.name),
        });
        words.collect()
    }

    #[test]
    fn only_what_differs_is_told_and_who_left_comes_last() {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| member(name, 1, 0));
        let all = [a.clone(), b.clone(), c.clone()];
        assert_eq!(told(&all, &all), [""; 0]);
        assert_eq!(told(&[], &all), ["+a", "+b", "+c"]);
        assert_eq!(told(&all, &[]), ["-a", "-b", "-c"]);
        assert_eq!(told(&all, &[a.clone(), c.clone(), d]), ["+d", "-b"]);
        assert_eq!(told(&all, &[a, member("b", 2, 0), c.clone()]), ["+b"]);
        assert_eq!(told(&all, &[member("a", 1, 0), b, c]), [""; 0], "the same in another place");
    }

    #[test]
    fn an_instance_that_was_made_anew_is_not_told_to_be_gone() {
        let rest = member("z", 1, 0);
        let (old, new) = (member("a", 1, 0), member("a", 1, 5));
        assert_eq!(told(&[old, rest.clone()], &[new, rest]), ["+a"]);
    }

    #[test]
    fn whoever_follows_the_changes_has_the_set() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..500 {
            let mut set = || {
                let names = ["a", "b", "c", "d", "e"].into_iter().filter(|_| random.bool());
                let members: Vec<_> = names.map(|name| name.to_owned()).collect();
                let mut set: Vec<_> = members
                    .iter()
                    .map(|name| member(name, random.u16(..2), random.i64(..2)))
                    .collect();
                set.sort_by(|a, b| a.place().cmp(&b.place()));
                set
            };
            let (before, after) = (set(), set());
            let known = |set: &[ServedMember]| -> std::collections::BTreeMap<String, u64> {
                let each =
                    |member: &ServedMember| (member.facts.key.name.to_string(), member.fingerprint);
                set.iter().map(each).collect()
            };
            let mut client = known(&before);
            let (one, two): (Vec<_>, Vec<_>) = (before.iter().collect(), after.iter().collect());
            for change in between(&one, &two) {
                match change {
                    Change::Upsert(member) => {
                        client.insert(member.facts.key.name.to_string(), member.fingerprint);
                    }
                    Change::Remove(member) => {
                        let gone = client.remove(&*member.facts.key.name);
                        assert!(gone.is_some(), "told to be gone, and was not there");
                    }
                }
            }
            assert_eq!(client, known(&after));
        }
    }
}
