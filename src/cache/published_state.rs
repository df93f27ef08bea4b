//! The [state machine](crate::cache::state_machine) behind a lock, and its current token in front of the
//! lock, for readers.

use std::sync::Arc;

use super::expiry::CachedToken;
use super::state_machine::machine::{Limits, StateMachine};
use crate::clock::Clock;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{ArcSwapOption, Mutex, MutexGuard, PoisonError};

pub(crate) struct PublishedState {
    machine: Mutex<StateMachine>,
    /// The current token of `machine`. Written under its lock.
    current: ArcSwapOption<CachedToken>,
    /// The address of `current`, [`NONE`] or [`WATCHED`]. Compared with that of a private copy.
    address: AtomicU64,
}

/// There is no current token.
const NONE: u64 = 0;
/// While there are refusals, no private copy is current: each request has to record what becomes of it.
/// No token has this address.
const WATCHED: u64 = 1;

impl PublishedState {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            machine: Mutex::new(StateMachine::new(limits)),
            current: ArcSwapOption::empty(),
            address: AtomicU64::new(NONE),
        }
    }

    /// Whether `cached` is the current token and there are no refusals, by comparing one number. As long
    /// as the caller has `cached`, no other token has its address.
    #[inline]
    pub(crate) fn is_current(&self, cached: &Arc<CachedToken>) -> bool {
        self.address.load(Ordering::Acquire) == address(cached)
    }

    /// Whether there are refusals, so that acceptances have to be recorded.
    pub(crate) fn is_watching(&self) -> bool {
        self.address.load(Ordering::Acquire) == WATCHED
    }

    /// The current token, if it can be served with nothing else to do. Takes no lock.
    #[inline]
    pub(crate) fn servable(&self, clock: &Clock) -> Option<Arc<CachedToken>> {
        if self.is_watching() {
            return None;
        }
        let current = self.current.load();
        let cached = current.as_ref()?;
        cached.is_servable_by(clock).then(|| Arc::clone(cached))
    }

    /// The current token, even if it has expired.
    pub(crate) fn current(&self) -> Option<Arc<CachedToken>> {
        self.current.load().as_ref().map(Arc::clone)
    }

    /// Reads the state.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&StateMachine) -> R) -> R {
        look(&self.lock())
    }

    /// Changes the state, and publishes its current token to readers. Also returns whether anything has
    /// changed.
    pub(crate) fn transition<R>(&self, change: impl FnOnce(&mut StateMachine) -> R) -> (R, bool) {
        let mut machine = self.lock();
        let (last_error, version) = (machine.last_error(), machine.version());
        let last_cached = machine.cached().cloned();
        let result = change(&mut machine);
        let cached = machine.cached();
        // Not by the generation: a source may return the same token again with a later expiry.
        if !is_same(self.current.load().as_ref(), cached) {
            self.current.store(cached.cloned());
        }
        let address = match cached {
            None => NONE,
            Some(_) if machine.is_watching() => WATCHED,
            Some(cached) => address(cached),
        };
        // Written under the lock only.
        if self.address.load(Ordering::Relaxed) != address {
            self.address.store(address, Ordering::Release);
        }
        let has_changed = machine.version() != version;
        drop(machine);
        // Outside of the lock: both may contain a user's values, whose drop is the user's code.
        drop((last_error, last_cached));
        (result, has_changed)
    }

    fn lock(&self) -> MutexGuard<'_, StateMachine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address(cached: &Arc<CachedToken>) -> u64 {
    Arc::as_ptr(cached).addr() as u64
}

fn is_same(one: Option<&Arc<CachedToken>>, other: Option<&Arc<CachedToken>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
