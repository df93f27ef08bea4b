//! The [state machine](crate::cache::state_machine) behind a lock, and the token in hand in front of it, for
//! those who only read.

use std::sync::Arc;

use crate::cache::expiry::Held;
use crate::cache::state_machine::{Limits, Machine};
use crate::clock::Clock;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{ArcSwapOption, Mutex, MutexGuard, PoisonError};

pub(crate) struct Hub {
    machine: Mutex<Machine>,
    /// The token that `machine` holds. Written under its lock.
    current: ArcSwapOption<Held>,
    /// Where `current` is, 0 for none: what a private copy is compared with.
    address: AtomicU64,
}

impl Hub {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            machine: Mutex::new(Machine::new(limits)),
            current: ArcSwapOption::empty(),
            address: AtomicU64::new(0),
        }
    }

    /// Whether `held` is the token in hand, by a look at one number. As long as there is a `held`
    /// to ask with, nothing else is where it is.
    #[inline]
    pub(crate) fn is_in_hand(&self, held: &Arc<Held>) -> bool {
        self.address.load(Ordering::Acquire) == address(held)
    }

    /// The token in hand, if it can be served with nothing else to do. Takes no lock.
    #[inline]
    pub(crate) fn in_hand(&self, clock: &Clock) -> Option<Arc<Held>> {
        let current = self.current.load();
        let held = current.as_ref()?;
        held.serves_by(clock).then(|| Arc::clone(held))
    }

    /// The token in hand, whatever it is good for.
    pub(crate) fn current(&self) -> Option<Arc<Held>> {
        self.current.load().as_ref().map(Arc::clone)
    }

    /// Looks at the state.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Machine) -> R) -> R {
        look(&self.lock())
    }

    /// Changes the state, and shows the token it leaves in hand to those who only read. Says
    /// whether anything did change.
    pub(crate) fn transition<R>(&self, change: impl FnOnce(&mut Machine) -> R) -> (R, bool) {
        let mut machine = self.lock();
        let (failure, version) = (machine.failure(), machine.version());
        let result = change(&mut machine);
        let held = machine.held();
        // Not by the generation: a source that keeps its token issues the same one for longer.
        if !is_same(self.current.load().as_ref(), held) {
            self.current.store(held.cloned());
            self.address
                .store(held.map_or(0, address), Ordering::Release);
        }
        let has_changed = machine.version() != version;
        drop(machine);
        drop(failure);
        (result, has_changed)
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address(held: &Arc<Held>) -> u64 {
    Arc::as_ptr(held).addr() as u64
}

fn is_same(one: Option<&Arc<Held>>, other: Option<&Arc<Held>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
