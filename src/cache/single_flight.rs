//! Shares one running fetch among all callers that need its result.
//!
//! A [`Flight`] starts with one [`Completer`] and has any number of [`Wait`]s. The completer gives
//! the flight one value. Every wait gets a clone of this value, even a wait that starts after the
//! completion. If the completer is dropped first, the flight is [`Abandoned`]. So no caller waits
//! for a task that no longer exists.
//!
//! ```text
//!            Flight::start
//!                   │
//!                InFlight ─── Completer::complete(value) ──▶ Completed   every Wait: Ok(value)
//!                   └───── Completer dropped, or abandon ──▶ Abandoned   every Wait: Err(Abandoned)
//! ```
//!
//! This module doesn't know what is fetched. Wakers are woken and dropped outside the lock.
//! Dropping a waker may drop its task, and the task may own another [`Wait`] of the same flight.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// A handle that callers use to join the flight.
pub(crate) struct Flight<T> {
    inner: Arc<FlightInner<T>>,
}

/// Completes the flight, or abandons it when dropped.
pub(crate) struct Completer<T> {
    inner: Arc<FlightInner<T>>,
}

/// Resolves when the flight is completed or abandoned.
///
/// # Cancel safety
///
/// Dropping a wait doesn't affect the flight or other waits.
pub(crate) struct Wait<T> {
    inner: Arc<FlightInner<T>>,
    /// The key of this wait's waker, set by the first poll.
    waker_key: Option<usize>,
}

/// The flight ended without a value.
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

    /// Returns whether `completer` belongs to this flight.
    pub(crate) fn is_completed_by(&self, completer: &Completer<T>) -> bool {
        Arc::ptr_eq(&self.inner, &completer.inner)
    }

    /// Ends the flight without a value. Completing the flight later has no effect.
    pub(crate) fn abandon(&self) {
        self.inner.finish(Progress::Abandoned);
    }

    /// Returns how many wakers wait for the flight.
    pub(crate) fn waiting(&self) -> usize {
        match &*self.inner.lock() {
            Progress::InFlight(wakers) => wakers.len(),
            Progress::Completed(_) | Progress::Abandoned => 0,
        }
    }
}

impl<T> Completer<T> {
    /// Gives the value to all waits. Returns how many waiting callers it woke.
    pub(crate) fn complete(self, value: T) -> usize {
        self.inner.finish(Progress::Completed(value))
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        // `finish` has no effect if the flight was already completed.
        self.inner.finish(Progress::Abandoned);
    }
}

impl<T> FlightInner<T> {
    fn lock(&self) -> MutexGuard<'_, Progress<T>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the flight if it is still running. Returns how many waiting callers it woke.
    fn finish(&self, ended: Progress<T>) -> usize {
        let mut progress = self.lock();
        let Progress::InFlight(wakers) = &mut *progress else {
            return 0;
        };
        let wakers = mem::take(wakers);
        *progress = ended;
        drop(progress);
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
