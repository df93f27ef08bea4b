//! The [state machine](crate::cache::state_machine) behind a lock. It also publishes the current
//! token, which readers load without the lock.

use std::sync::Arc;

use super::expiry::CachedToken;
use super::state_machine::machine::{Limits, StateMachine};
use crate::clock::Clock;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{ArcSwapOption, Mutex, MutexGuard, PoisonError};

pub(crate) struct PublishedState {
    machine: Mutex<StateMachine>,
    /// The current token of `machine`. Written only under the lock of `machine`.
    current: ArcSwapOption<CachedToken>,
    /// The address of `current`, or [`NONE`] or [`WATCHED`]. Readers compare it with the address of
    /// their private copy.
    address: AtomicU64,
}

/// No token is current.
const NONE: u64 = 0;
/// There were refusals, so each request must record whether its token is accepted. Therefore no
/// private copy counts as current. No token has this address.
const WATCHED: u64 = 1;

impl PublishedState {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            machine: Mutex::new(StateMachine::new(limits)),
            current: ArcSwapOption::empty(),
            address: AtomicU64::new(NONE),
        }
    }

    /// Returns whether `cached` is the current token and there are no refusals. The check takes one
    /// comparison. The caller holds `cached`, so no other token can have the same address.
    #[inline]
    pub(crate) fn is_current(&self, cached: &Arc<CachedToken>) -> bool {
        self.address.load(Ordering::Acquire) == address(cached)
    }

    /// Returns whether acceptances must be recorded, because there are refusals.
    pub(crate) fn is_watching(&self) -> bool {
        self.address.load(Ordering::Acquire) == WATCHED
    }

    /// Returns the current token if it can be served and nothing else has to be done. Takes no
    /// lock.
    #[inline]
    pub(crate) fn servable(&self, clock: &Clock) -> Option<Arc<CachedToken>> {
        if self.is_watching() {
            return None;
        }
        let current = self.current.load();
        let cached = current.as_ref()?;
        cached.is_servable_by(clock).then(|| Arc::clone(cached))
    }

    /// Returns the current token, even if it has expired.
    pub(crate) fn current(&self) -> Option<Arc<CachedToken>> {
        self.current.load().as_ref().map(Arc::clone)
    }

    /// Reads the state.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&StateMachine) -> R) -> R {
        look(&self.lock())
    }

    /// Changes the state and publishes its current token. Also returns whether anything changed.
    pub(crate) fn transition<R>(&self, change: impl FnOnce(&mut StateMachine) -> R) -> (R, bool) {
        let mut machine = self.lock();
        let (last_error, version) = (machine.last_error(), machine.version());
        let last_cached = machine.cached().cloned();
        let result = change(&mut machine);
        let cached = machine.cached();
        // Generations can't be compared here, because a source may return the same token with a
        // later expiry.
        if !is_same(self.current.load().as_ref(), cached) {
            self.current.store(cached.cloned());
        }
        let address = match cached {
            None => NONE,
            Some(_) if machine.is_watching() => WATCHED,
            Some(cached) => address(cached),
        };
        // A relaxed load suffices, because the address is written only under the lock.
        if self.address.load(Ordering::Relaxed) != address {
            self.address.store(address, Ordering::Release);
        }
        let has_changed = machine.version() != version;
        drop(machine);
        // Drops the previous error and token outside the lock. Both may contain a user's values,
        // and dropping such values runs user code.
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
