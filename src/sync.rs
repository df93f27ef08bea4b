//! The primitives that an interleaving of threads can be seen through, named in one place.
//!
//! A model checker replaces this file by one of its own, and runs [`flight`](crate::cache::single_flight) and
//! the [state machine](crate::cache::state_machine) through every order in which threads can meet there:
//! `tests/model`.

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use arc_swap::ArcSwapOption;

pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
}
