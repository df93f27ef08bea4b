//! Where threads wait for each other. They spin: one that has to be woken comes too late for a turn of a
//! tenth of a millisecond.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) struct Meeting {
    threads: usize,
    arrived: AtomicUsize,
}

impl Meeting {
    pub(crate) fn of(threads: usize) -> Self {
        let arrived = AtomicUsize::new(0);
        Self { threads, arrived }
    }

    pub(crate) fn wait(&self) {
        let mine = self.arrived.fetch_add(1, Ordering::AcqRel);
        // Nobody comes to the next meeting before this one is over.
        let all = (mine / self.threads + 1) * self.threads;
        while self.arrived.load(Ordering::Acquire) < all {
            spin_loop();
        }
    }
}
