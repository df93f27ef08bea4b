//! The locks and atomics whose interleavings a model checker tests.
//!
//! `tests/model` replaces this file by types of loom. Then it runs the [single
//! flight](crate::cache::single_flight) and the [published state](crate::cache::published_state)
//! through every interleaving of threads.

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use arc_swap::ArcSwapOption;

pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
}
