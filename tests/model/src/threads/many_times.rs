//! Runs scenarios many times on the system's threads.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

pub(crate) use std::thread::spawn;

/// How often a scenario runs. Miri needs fewer runs: it is about a thousand times slower, and
/// switches threads at any point.
const TIMES: usize = if cfg!(miri) { 20 } else { 2_000 };

/// The time after which a waiting thread counts as never woken. No scenario takes this long.
const DEADLOCK: Duration = Duration::from_secs(30);

pub(crate) fn in_every_order(scenario: impl Fn() + Send + Sync + 'static) {
    (0..TIMES).for_each(|_| scenario());
}

pub(crate) fn in_orders_of(_switches: usize, scenario: impl Fn() + Send + Sync + 'static) {
    in_every_order(scenario);
}

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let since = Instant::now();
        thread::park_timeout(DEADLOCK);
        assert!(since.elapsed() < DEADLOCK, "nobody woke this thread");
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
