//! Concurrent waits, completers and callers that abandon the flight.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use crate::Scenario;
use crate::cache::single_flight::{Abandoned, Flight, Wait};
use crate::threads::{block_on, in_every_order, in_orders_of, spawn};

pub(crate) const ALL: &[Scenario] = crate::scenarios![
    each_wait_gets_the_value_whenever_it_is_polled,
    a_wait_that_is_dropped_takes_no_other_with_it,
    the_waker_that_replaced_another_is_the_one_woken,
    nobody_waits_for_a_completer_that_was_dropped,
    a_flight_is_completed_or_abandoned_and_never_both,
    a_waker_may_drop_another_wait_when_it_is_woken,
    a_waker_may_drop_another_wait_when_it_is_dropped,
];

fn each_wait_gets_the_value_whenever_it_is_polled() {
    in_orders_of(4, || {
        let (flight, completer) = Flight::start();
        let waits = [flight.wait(), flight.wait()].map(|wait| spawn(move || block_on(wait)));
        completer.complete(7);
        for wait in waits {
            assert_eq!(wait.join().unwrap(), Ok(7));
        }
        assert_eq!(block_on(flight.wait()), Ok(7), "late");
    });
}

fn a_wait_that_is_dropped_takes_no_other_with_it() {
    in_every_order(|| {
        let (flight, completer) = Flight::start();
        let (mut dropped, kept) = (flight.wait(), flight.wait());
        let kept = spawn(move || block_on(kept));
        let dropped = spawn(move || {
            let waker = Arc::new(Idle);
            let polled = poll(&mut dropped, &Waker::from(Arc::clone(&waker)));
            drop(dropped);
            assert!(flight.waiting() <= 1, "it still waits");
            (polled, waker)
        });
        completer.complete(7);
        assert_eq!(kept.join().unwrap(), Ok(7));
        let (polled, waker) = dropped.join().unwrap();
        assert!(matches!(polled, Poll::Pending | Poll::Ready(Ok(7))));
        assert_eq!(Arc::strong_count(&waker), 1, "its waker is kept");
    });
}

fn the_waker_that_replaced_another_is_the_one_woken() {
    in_every_order(|| {
        let (flight, completer) = Flight::start();
        let mut wait = flight.wait();
        let moved = spawn(move || match poll(&mut wait, Waker::noop()) {
            Poll::Ready(completed) => completed,
            Poll::Pending => block_on(wait),
        });
        completer.complete(7);
        assert_eq!(moved.join().unwrap(), Ok(7));
    });
}

fn nobody_waits_for_a_completer_that_was_dropped() {
    in_orders_of(4, || {
        let (flight, completer) = Flight::<u32>::start();
        let waits = [flight.wait(), flight.wait()].map(|wait| spawn(move || block_on(wait)));
        drop(completer);
        for wait in waits {
            assert_eq!(wait.join().unwrap(), Err(Abandoned));
        }
    });
}

fn a_flight_is_completed_or_abandoned_and_never_both() {
    in_orders_of(3, || {
        let (flight, completer) = Flight::start();
        let waits = [flight.wait(), flight.wait()].map(|wait| spawn(move || block_on(wait)));
        let completing = spawn(move || completer.complete(7));
        flight.abandon();
        let end = block_on(flight.wait());
        assert!(matches!(end, Ok(7) | Err(Abandoned)));
        for wait in waits {
            assert_eq!(wait.join().unwrap(), end);
        }
        completing.join().unwrap();
        assert_eq!(block_on(flight.wait()), end, "in the end");
    });
}

fn a_waker_may_drop_another_wait_when_it_is_woken() {
    in_every_order(|| {
        let (flight, completer) = Flight::start();
        let (mut first, second) = (flight.wait(), polled_wait(&flight));
        let waker = Waker::from(Arc::new(DropsWhenWoken(Mutex::new(Some(second)))));
        let polled = spawn(move || poll(&mut first, &waker).is_ready());
        completer.complete(7);
        polled.join().unwrap();
        assert_eq!(block_on(flight.wait()), Ok(7));
    });
}

fn a_waker_may_drop_another_wait_when_it_is_dropped() {
    in_every_order(|| {
        let (flight, completer) = Flight::start();
        let (mut first, second, third) =
            (flight.wait(), polled_wait(&flight), polled_wait(&flight));
        let polled = spawn(move || {
            // `second` is dropped when the waker of `first` is replaced, and `third` when `first`
            // is dropped.
            for other in [second, third] {
                let waker = Waker::from(Arc::new(DropsWithIt(other)));
                let _polled = poll(&mut first, &waker);
            }
        });
        completer.complete(7);
        polled.join().unwrap();
        assert_eq!(block_on(flight.wait()), Ok(7));
    });
}

/// Returns a wait that has been polled, so that its drop takes the lock.
fn polled_wait(flight: &Flight<u32>) -> Wait<u32> {
    let mut wait = flight.wait();
    assert!(poll(&mut wait, Waker::noop()).is_pending());
    wait
}

fn poll(wait: &mut Wait<u32>, waker: &Waker) -> Poll<Result<u32, Abandoned>> {
    Pin::new(wait).poll(&mut Context::from_waker(waker))
}

/// The waker of a task that isn't polled when it is woken.
struct Idle;

impl Wake for Idle {
    fn wake(self: Arc<Self>) {}
}

/// The waker of a task that drops another wait when it is woken.
struct DropsWhenWoken(Mutex<Option<Wait<u32>>>);

impl Wake for DropsWhenWoken {
    fn wake(self: Arc<Self>) {
        let other = self.0.lock().unwrap().take();
        drop(other);
    }
}

/// The waker of a task that is dropped together with its last waker.
struct DropsWithIt(#[expect(dead_code, reason = "dropped, never read")] Wait<u32>);

impl Wake for DropsWithIt {
    fn wake(self: Arc<Self>) {}
}
