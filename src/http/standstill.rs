//! Why the horizon stands still, as a sentence for a person in a hurry.

use crate::clock;
use crate::registry::{
    lease::Now,
    report::{Cause, Standstill},
};

/// What holds the horizon back, and since when.
pub(super) fn sentence(standstill: &Standstill, now: Now) -> String {
    let since = clock::show(now.wall_of(standstill.since));
    match &standstill.cause {
        Cause::NotListed(None) => {
            format!("started at {since}, and the first list has not come yet")
        }
        Cause::NotListed(Some(reason)) => {
            format!("started at {since}, and the first list has not come: {reason}")
        }
        Cause::Unwritten(reason) => {
            format!("the self-beat of {since}, and all since, failed: {reason}")
        }
        Cause::Silent(replica) => {
            format!("the newest ledger of {replica} was seen at {since}, and none since")
        }
        Cause::NotBack(None) => {
            format!("the self-beat sent at {since} has not come back through the watch")
        }
        Cause::NotBack(Some(reason)) => {
            format!(
                "the self-beat sent at {since} has not come back, since the watch fails: {reason}"
            )
        }
    }
}
