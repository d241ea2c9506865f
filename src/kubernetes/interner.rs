//! An interner: values that many records have in common are stored once.
//!
//! Owns: [`Interner`]. Does not own: which values are interned (`convert`).

use std::{collections::HashSet, hash::Hash, sync::Arc};

/// Interned values. A sweep drops the unused ones whenever the number of values has doubled since the last sweep.
#[derive(Debug)]
pub(super) struct Interner<T: ?Sized> {
    values: HashSet<Arc<T>>,
    /// With fewer values there is no sweep.
    sweep_min: usize,
    sweep_at: usize,
}

impl<T: ?Sized> Interner<T> {
    /// An interner that sweeps out unused values only when it holds `sweep_min` values or more.
    pub(super) fn new(sweep_min: usize) -> Self {
        Self { values: HashSet::new(), sweep_min, sweep_at: sweep_min }
    }
}

impl<T: Eq + Hash + ?Sized> Interner<T>
where
    Arc<T>: for<'a> From<&'a T>,
{
    /// The shared copy of this value.
    pub(super) fn get(&mut self, value: &T) -> Arc<T> {
        if let Some(interned) = self.values.get(value) {
            return interned.clone();
        }
        if self.values.len() >= self.sweep_at {
            self.values.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_at = self.sweep_min.max(self.values.len() * 2);
        }
        let new = Arc::from(value);
        self.values.insert(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_values_are_stored_once_and_unused_values_are_swept_out() {
        let mut strings = Interner::<str>::new(1_000);
        let kept = strings.get("kept");
        assert!(Arc::ptr_eq(&kept, &strings.get("kept")));
        for i in 0..10_000 {
            strings.get(&i.to_string());
        }
        assert!(strings.values.len() <= 2_000, "{}", strings.values.len());
        assert!(Arc::ptr_eq(&kept, &strings.get("kept")));
    }

    #[test]
    fn lists_with_equal_elements_are_shared() {
        let mut lists = Interner::<[Arc<str>]>::new(1);
        let (first, second) = (lists.get(&["a".into()]), lists.get(&["a".into()]));
        assert!(Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&first, &lists.get(&[])));
    }
}
