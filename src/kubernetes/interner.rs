//! One copy of what many share.
//!
//! Owns: [`Interner`]. Does not own: what is shared (`convert`).

use std::{collections::HashSet, hash::Hash, sync::Arc};

/// Values that are used, and up to as many more as were used when it was last looked.
#[derive(Debug)]
pub(super) struct Interner<T: ?Sized> {
    known: HashSet<Arc<T>>,
    /// With fewer values nobody looks who is still used.
    few: usize,
    sweep_at: usize,
}

impl<T: ?Sized> Interner<T> {
    /// Looks who is still used only when there are more than `few` values.
    pub(super) fn new(few: usize) -> Self {
        Self { known: HashSet::new(), few, sweep_at: few }
    }
}

impl<T: Eq + Hash + ?Sized> Interner<T>
where
    Arc<T>: for<'a> From<&'a T>,
{
    /// The copy of this value that all have.
    pub(super) fn get(&mut self, value: &T) -> Arc<T> {
        if let Some(known) = self.known.get(value) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.sweep_at = self.few.max(self.known.len() * 2);
        }
        let new = Arc::from(value);
        self.known.insert(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_is_kept_once_and_forgotten_with_its_last_user() {
        let mut strings = Interner::<str>::new(1_000);
        let kept = strings.get("kept");
        assert!(Arc::ptr_eq(&kept, &strings.get("kept")));
        for i in 0..10_000 {
            strings.get(&i.to_string());
        }
        assert!(strings.known.len() <= 2_000, "{}", strings.known.len());
        assert!(Arc::ptr_eq(&kept, &strings.get("kept")));
    }

    #[test]
    fn lists_are_shared_by_what_they_hold() {
        let mut lists = Interner::<[Arc<str>]>::new(1);
        let (one, other) = (lists.get(&["a".into()]), lists.get(&["a".into()]));
        assert!(Arc::ptr_eq(&one, &other));
        assert!(!Arc::ptr_eq(&one, &lists.get(&[])));
    }
}
