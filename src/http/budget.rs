//! The memory that bodies take: so many octets of them are held at once, and no more.
//!
//! Owns: the bound and its arithmetic. Does not own: reading (`body`), the size of a single one (there, too), and how
//! many requests are under way (`limits`).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A permit is so many octets: an ordinary body takes one.
const UNIT: usize = 1024;

/// 64 MiB in all, in two parts, so that batches never keep single calls out:
/// 48 MiB are 12 batches of the greatest size at once, or 120 of 10,000 beats in 400 KiB;
const BATCHES: usize = 48 * 1024 * 1024 / UNIT;

/// 16 MiB are 256 single bodies of the greatest size, or one of 4 KiB for each request that may be under way (4,096).
const SINGLE: usize = 16 * 1024 * 1024 / UNIT;

/// What is free of each part.
pub(super) struct Budget {
    batches: Arc<Semaphore>,
    single: Arc<Semaphore>,
}

/// What one body has of it, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Budget {
    pub(super) fn new() -> Self {
        let part = |permits| Arc::new(Semaphore::new(permits));
        Self { batches: part(BATCHES), single: part(SINGLE) }
    }

    /// Nothing yet, of the part for batches or of the other.
    pub(super) fn share(&self, is_batch: bool) -> Share {
        let of = if is_batch { &self.batches } else { &self.single };
        Share { of: of.clone(), taken: None }
    }
}

impl Share {
    /// Grows to so many octets, as they come: what is only announced keeps nobody out. Answers whether they were free.
    pub(super) fn grow(&mut self, octets: usize) -> bool {
        let held = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = octets.div_ceil(UNIT).saturating_sub(held);
        if more == 0 {
            return true;
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let Ok(more) = self.of.clone().try_acquire_many_owned(more) else { return false };
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            taken @ None => *taken = Some(more),
        }
        true
    }

    /// Gives all of it back.
    pub(super) fn free(&mut self) {
        self.taken = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn batches_take_what_is_theirs_and_single_bodies_have_their_own() {
        let budget = Budget::new();
        let mut batches: Vec<_> = (0..12).map(|_| budget.share(true)).collect();
        for batch in &mut batches {
            assert!(batch.grow(1) && batch.grow(MIB) && batch.grow(4 * MIB));
        }
        let mut late = budget.share(true);
        assert!(!late.grow(1));
        assert!(budget.share(false).grow(64 * 1024));
        batches[0].free();
        assert!(late.grow(4 * MIB), "what was given back is there again, all of it");
        assert!(!budget.share(true).grow(1));
        drop((batches, late));
        assert!(budget.share(true).grow(48 * MIB));
    }

    #[test]
    fn what_is_held_already_is_not_taken_again() {
        let budget = Budget::new();
        let mut share = budget.share(false);
        for octets in [0, 1, UNIT, UNIT + 1, 2 * UNIT, UNIT] {
            assert!(share.grow(octets));
        }
        assert_eq!(budget.single.available_permits(), SINGLE - 2);
    }
}
