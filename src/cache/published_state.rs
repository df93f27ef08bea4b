//! The [state machine](crate::cache::state_machine) behind a lock, and the token in hand in front of it, for
//! those who only read.

use std::sync::Arc;

use super::expiry::CachedToken;
use super::state_machine::{Limits, StateMachine};
use crate::clock::Clock;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{ArcSwapOption, Mutex, MutexGuard, PoisonError};

pub(crate) struct PublishedState {
    machine: Mutex<StateMachine>,
    /// The token that `machine` holds. Written under its lock.
    current: ArcSwapOption<CachedToken>,
    /// Where `current` is, 0 for none: what a private copy is compared with.
    address: AtomicU64,
}

impl PublishedState {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            machine: Mutex::new(StateMachine::new(limits)),
            current: ArcSwapOption::empty(),
            address: AtomicU64::new(0),
        }
    }

    /// Whether `held` is the token in hand, by a look at one number. As long as there is a `held`
    /// to ask with, nothing else is where it is.
    #[inline]
    pub(crate) fn is_current(&self, cached: &Arc<CachedToken>) -> bool {
        self.address.load(Ordering::Acquire) == address(cached)
    }

    /// The token in hand, if it can be served with nothing else to do. Takes no lock.
    #[inline]
    pub(crate) fn servable(&self, clock: &Clock) -> Option<Arc<CachedToken>> {
        let current = self.current.load();
        let cached = current.as_ref()?;
        cached.is_servable_by(clock).then(|| Arc::clone(cached))
    }

    /// The token in hand, whatever it is good for.
    pub(crate) fn current(&self) -> Option<Arc<CachedToken>> {
        self.current.load().as_ref().map(Arc::clone)
    }

    /// Looks at the state.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&StateMachine) -> R) -> R {
        look(&self.lock())
    }

    /// Changes the state, and shows the token it leaves in hand to those who only read. Says
    /// whether anything did change.
    pub(crate) fn transition<R>(&self, change: impl FnOnce(&mut StateMachine) -> R) -> (R, bool) {
        let mut machine = self.lock();
        let (failure, version) = (machine.failure(), machine.version());
        let result = change(&mut machine);
        let cached = machine.cached();
        // Not by the generation: a source that keeps its token issues the same one for longer.
        if !is_same(self.current.load().as_ref(), cached) {
            self.current.store(cached.cloned());
            self.address
                .store(cached.map_or(0, address), Ordering::Release);
        }
        let has_changed = machine.version() != version;
        drop(machine);
        drop(failure);
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
