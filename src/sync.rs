//! Locks and atomics. A model checker tests their interleavings.
//!
//! `tests/model` replaces this file with types of loom. loom then runs the [single
//! flight](crate::cache::single_flight) and the [published state](crate::cache::published_state)
//! through every interleaving of threads.

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use arc_swap::ArcSwapOption;

pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
}
