//! The [state machine](crate::state) behind a lock, and the token in hand in front of it, for
//! those who only read.

use std::sync::Arc;

use crate::clock::Clock;
use crate::freshness::Held;
use crate::state::{Limits, Machine};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{ArcSwapOption, Mutex, MutexGuard, PoisonError};

pub(crate) struct Hub {
    machine: Mutex<Machine>,
    /// The token that `machine` holds. Written under its lock.
    current: ArcSwapOption<Held>,
    /// The generation of `current`, 0 for none: what a private copy is compared with.
    generation: AtomicU64,
}

impl Hub {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            machine: Mutex::new(Machine::new(limits)),
            current: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
        }
    }

    /// The generation of the token in use; 0 for none.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
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
            let generation = held.map_or(0, |held| held.token().generation());
            self.current.store(held.cloned());
            self.generation.store(generation, Ordering::Release);
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

fn is_same(one: Option<&Arc<Held>>, other: Option<&Arc<Held>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
