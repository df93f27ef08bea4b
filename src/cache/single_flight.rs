//! One fetch in the air, awaited by all who need it.
//!
//! A [`Flight`] takes off with one [`Pilot`] and any number of [`Wait`]s. The completer lands it with
//! one value, and every wait gets a clone of that value: there is no second attempt that a late
//! waiter would have to sit through. A completer that is dropped before it landed leaves the flight
//! [`Lost`], so nobody waits for a task that no longer exists.
//!
//! ```text
//!            Flight::start
//!                   │
//!                InFlight ──── Completer::land(value) ────▶ Completed   every Wait: Ok(value)
//!                   └────── Completer dropped ─────────▶ Abandoned     every Wait: Err(Abandoned)
//! ```
//!
//! Nothing here knows what is fetched. Wakers are woken and dropped outside the lock: dropping
//! one may drop the task behind it, and with that another [`Wait`] of the same flight.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// A handle to the flight, for joining it.
pub(crate) struct Flight<T> {
    inner: Arc<FlightInner<T>>,
}

/// The one who flies: lands the flight, or loses it when dropped.
pub(crate) struct Completer<T> {
    inner: Arc<FlightInner<T>>,
}

/// Resolves when the flight has landed or is lost.
///
/// # Cancel safety
///
/// Dropping a wait leaves the flight and all other waits as they are.
pub(crate) struct Wait<T> {
    inner: Arc<FlightInner<T>>,
    /// Where this wait's waker is kept, once it has been polled.
    waker_key: Option<usize>,
}

/// The flight's completer was dropped before it landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abandoned;

struct FlightInner<T> {
    progress: Mutex<Progress<T>>,
}

enum Progress<T> {
    InFlight(Slab<Waker>),
    Completed(T),
    Abandoned,
}

impl<T> Flight<T> {
    pub(crate) fn start() -> (Self, Completer<T>) {
        let inner = Arc::new(FlightInner {
            progress: Mutex::new(Progress::InFlight(Slab::new())),
        });
        let flight = Self {
            inner: Arc::clone(&inner),
        };
        (flight, Completer { inner })
    }

    pub(crate) fn wait(&self) -> Wait<T> {
        Wait {
            inner: Arc::clone(&self.inner),
            waker_key: None,
        }
    }

    /// Whether `completer` flies this one.
    pub(crate) fn is_completed_by(&self, completer: &Completer<T>) -> bool {
        Arc::ptr_eq(&self.inner, &completer.inner)
    }

    /// Gives the flight up for lost, whatever its completer does later.
    pub(crate) fn abandon(&self) {
        self.inner.finish(Progress::Abandoned);
    }

    /// How many wait for it.
    pub(crate) fn waiting(&self) -> usize {
        match &*self.inner.lock() {
            Progress::InFlight(wakers) => wakers.len(),
            Progress::Completed(_) | Progress::Abandoned => 0,
        }
    }
}

impl<T> Completer<T> {
    /// Hands the value to all who wait, and says how many those are.
    pub(crate) fn complete(self, value: T) -> usize {
        self.inner.finish(Progress::Completed(value))
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        // Changes nothing after a summary.
        self.inner.finish(Progress::Abandoned);
    }
}

impl<T> FlightInner<T> {
    fn lock(&self) -> MutexGuard<'_, Progress<T>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the flight if it is in the air, and says how many were woken.
    fn finish(&self, end: Progress<T>) -> usize {
        let mut progress = self.lock();
        if !matches!(*progress, Progress::InFlight(_)) {
            return 0;
        }
        let before = mem::replace(&mut *progress, end);
        drop(progress);
        let Progress::InFlight(wakers) = before else {
            return 0;
        };
        let woken = wakers.len();
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
        woken
    }
}

impl<T> Future for Wait<T>
where
    T: Clone,
{
    type Output = Result<T, Abandoned>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut progress = this.inner.lock();
        let wakers = match &mut *progress {
            Progress::Completed(value) => return Poll::Ready(Ok(value.clone())),
            Progress::Abandoned => return Poll::Ready(Err(Abandoned)),
            Progress::InFlight(wakers) => wakers,
        };
        let outdated = match this
            .waker_key
            .and_then(|waker_key| wakers.get_mut(waker_key))
        {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            Some(waker) => Some(mem::replace(waker, cx.waker().clone())),
            None => {
                this.waker_key = Some(wakers.insert(cx.waker().clone()));
                None
            }
        };
        drop(progress);
        drop(outdated);
        Poll::Pending
    }
}

impl<T> Drop for Wait<T> {
    fn drop(&mut self) {
        let Some(waker_key) = self.waker_key else {
            return;
        };
        let mut progress = self.inner.lock();
        let waker = match &mut *progress {
            Progress::InFlight(wakers) => wakers.try_remove(waker_key),
            Progress::Completed(_) | Progress::Abandoned => None,
        };
        drop(progress);
        drop(waker);
    }
}

impl<T> Clone for Flight<T> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}
