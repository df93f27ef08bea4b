//! A barrier at which threads spin, because waking a thread takes too long for a turn of 0.1 ms.

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
        // No thread reaches the next meeting before all threads have reached this meeting.
        let all = (mine / self.threads + 1) * self.threads;
        while self.arrived.load(Ordering::Acquire) < all {
            spin_loop();
        }
    }
}
