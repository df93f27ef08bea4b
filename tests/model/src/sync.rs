//! Loom's versions of the items in `src/sync.rs`.

use std::sync::Arc;

pub(crate) use std::sync::PoisonError;

pub(crate) use loom::sync::{Mutex, MutexGuard};

pub(crate) mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
}

use atomic::{AtomicU64, Ordering};

/// Replaces `ArcSwapOption` of `arc_swap`, which loom can't model.
///
/// A load acquires what a store released. A load may miss the latest store if nothing else orders
/// the two. `arc_swap` guarantees at least as much.
pub(crate) struct ArcSwapOption<T> {
    /// All values ever stored. The lock isn't loom's, because it must not order anything.
    values: std::sync::Mutex<Vec<Option<Arc<T>>>>,
    /// The index of the current value.
    latest: AtomicU64,
}

impl<T> ArcSwapOption<T> {
    pub(crate) fn empty() -> Self {
        Self {
            values: std::sync::Mutex::new(vec![None]),
            latest: AtomicU64::new(0),
        }
    }

    pub(crate) fn load(&self) -> Option<Arc<T>> {
        let latest = self.latest.load(Ordering::Acquire);
        self.values.lock().unwrap()[latest as usize].clone()
    }

    pub(crate) fn store(&self, value: Option<Arc<T>>) {
        let mut values = self.values.lock().unwrap();
        let index = values.len() as u64;
        values.push(value);
        // The lock is released first, so that another thread may run before the store.
        drop(values);
        self.latest.store(index, Ordering::Release);
    }
}
