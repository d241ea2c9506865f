//! The memory for request bodies: how many bytes of them are buffered at once.
//!
//! Owns: the limit and its arithmetic. Does not own: reading bodies and the size limit of a single body (`body`), and
//! the number of requests in progress (`limits`).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bytes of one permit. An ordinary body takes one permit.
const UNIT: usize = 1024;

/// The budget is 64 MiB in two parts, so that batches never block single requests. 48 MiB are enough for 12 batches of
/// the maximum size at once, or for 120 batches of 10,000 heartbeats in 400 KiB.
const BATCHES: usize = 48 * 1024 * 1024 / UNIT;

/// 16 MiB are enough for 256 single bodies of the maximum size, or for 4 KiB in each of the 4,096 requests that can be
/// in progress.
const SINGLE: usize = 16 * 1024 * 1024 / UNIT;

/// The free memory of each part.
pub(super) struct BodyBudget {
    batches: Arc<Semaphore>,
    single: Arc<Semaphore>,
}

/// The memory of one body, released when this is dropped.
#[derive(Debug)]
pub(super) struct BudgetShare {
    part: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl BodyBudget {
    pub(super) fn new() -> Self {
        let part = |permits| Arc::new(Semaphore::new(permits));
        Self { batches: part(BATCHES), single: part(SINGLE) }
    }

    /// An empty share of one of the two parts.
    pub(super) fn share(&self, is_batch: bool) -> BudgetShare {
        let part = if is_batch { &self.batches } else { &self.single };
        BudgetShare { part: part.clone(), taken: None }
    }
}

impl BudgetShare {
    /// Grows to a total of `bytes`, and returns whether that much memory was free. Call it as bytes arrive: a large
    /// `Content-Length` alone must not block other requests.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let held = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.div_ceil(UNIT).saturating_sub(held);
        if more == 0 {
            return true;
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let Ok(more) = self.part.clone().try_acquire_many_owned(more) else { return false };
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            taken @ None => *taken = Some(more),
        }
        true
    }

    pub(super) fn release(&mut self) {
        self.taken = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn batches_and_single_bodies_have_separate_budgets() {
        let budget = BodyBudget::new();
        let mut batches: Vec<_> = (0..12).map(|_| budget.share(true)).collect();
        for batch in &mut batches {
            assert!(batch.grow(1) && batch.grow(MIB) && batch.grow(4 * MIB));
        }
        let mut late = budget.share(true);
        assert!(!late.grow(1));
        assert!(budget.share(false).grow(64 * 1024));
        batches[0].release();
        assert!(late.grow(4 * MIB), "released memory is available again");
        assert!(!budget.share(true).grow(1));
        drop((batches, late));
        assert!(budget.share(true).grow(48 * MIB));
    }

    #[test]
    fn growing_a_share_takes_only_the_difference() {
        let budget = BodyBudget::new();
        let mut share = budget.share(false);
        for bytes in [0, 1, UNIT, UNIT + 1, 2 * UNIT, UNIT] {
            assert!(share.grow(bytes));
        }
        assert_eq!(budget.single.available_permits(), SINGLE - 2);
    }
}
